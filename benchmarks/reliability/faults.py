"""Every command with a full disk, without rights, on a read-only medium, without its input, with
little memory and on one core.

    python benchmarks/reliability/faults.py [--only train]

Needs root on Linux: it mounts small file systems.

Each pair runs in a process of its own. Wanted: exit code 1, one line that says what is wrong, no
traceback, and nothing new in the place that was to be written; on one core exit code 0. Counts go
to `results/reliability.json`.
"""

import argparse
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from counts import record

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.made_teacher import dot_teacher, dotted
from tests.helpers.tiny_models import write_tiny_recipe

LIMIT_S = 90
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2
FULL_KIB, LITTLE_MEMORY = 48, 700 * 2**20
_MAX_MESSAGE_CHARS = 320


class Bench(NamedTuple):
    """What commands read."""

    recipe: Path
    model: Path
    teacher: Path
    pictures: Path
    report: Path


class Command(NamedTuple):
    """Its arguments, given what it reads and where it writes; and whether it writes at all."""

    name: str
    arguments: Callable[[Bench, Path], list[str]]
    writes: bool = True


_MODEL = ["--backend", "onnxruntime", "--precision", "int8"]
_LOCK_SUFFIX = ".lock"  # empty; stays, or two processes could each lock a file of their own
COMMANDS = (
    Command("train", lambda b, out: [
        "train", "--recipe", str(b.recipe), "--data", "synthetic:32", "--out", str(out / "m"),
        "--workers", "0", "--device", "cpu",
    ]),
    Command("export", lambda b, out: [
        "export", str(b.model / "best.safetensors"), "--data", "synthetic:32", "--out",
        str(out / "m"),
    ]),
    Command("export --int8", lambda b, out: [
        "export", str(b.model / "best.safetensors"), "--data", "synthetic:64", "--int8",
        "--profile", "onnxruntime", "--max-drop", "100", "--out", str(out / "m"),
    ]),
    Command("run", lambda b, out: [
        "run", "--source", "synthetic:20", "--model", str(b.model), *_MODEL, "--threads", "1",
        "--no-window", "--save", str(out / "v.mp4"), "--json", str(out / "p.jsonl"),
        "--report", str(out / "r.json"),
    ]),
    Command("batch", lambda b, out: [
        "batch", str(b.pictures), "--model", str(b.model), *_MODEL, "--people", "one",
        "--workers", "1", "--threads", "1", "--out", str(out / "poses"),
    ]),
    Command("eval", lambda b, out: [
        "eval", "--data", "synthetic:32", "--model", str(b.model), *_MODEL, "--threads", "1",
        "--record", str(out / "results.json"),
    ]),
    Command("bench", lambda b, out: [
        "bench", "--model", str(b.model), "--data", "synthetic:16", "--runs", "10", "--out",
        str(out / "bench"),
    ]),
    Command("report", lambda b, out: ["report", str(b.report), "--html", str(out / "r.html")]),
    Command("data show", lambda b, out: [
        "data", "show", "--recipe", str(b.recipe), "--out", str(out / "sheet.png")
    ]),
    Command("data check", lambda *_: ["data", "check", "--data", "synthetic:8"], writes=False),
    Command("data crops", lambda _, out: [
        "data", "crops", "--data", "synthetic:40", "--out", str(out / "crops")
    ]),
    Command("data errors", lambda b, out: [
        "data", "errors", "--data", "synthetic:32", "--model", str(b.model), *_MODEL, "--out",
        str(out / "e.html"),
    ]),
    Command("data label", lambda b, out: [
        "data", "label", str(b.pictures), "--teacher", str(b.teacher), "--boxes", "none",
        "--no-people", "--negatives", "1", "--out", str(out / "set.json"),
    ]),
    Command("doctor", lambda *_: ["doctor"], writes=False),
)  # fmt: skip


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    with small_disk(folder, f"size={FULL_KIB}k") as place:
        with suppress(OSError), (place / "taken").open("wb", buffering=0) as taken:
            while taken.write(bytes(1024)):
                pass
        yield place


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    with small_disk(folder, "size=10m,ro") as place:
        yield place


@contextmanager
def no_rights(folder: Path) -> Iterator[Path]:
    folder.mkdir(mode=0o555)
    yield folder


@contextmanager
def plain(folder: Path) -> Iterator[Path]:
    folder.mkdir(mode=0o777)
    yield folder


def without_privileges() -> None:
    """Root, held to rights as everybody is."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LITTLE_MEMORY, resource.RLIM_INFINITY))


def one_core() -> None:
    os.sched_setaffinity(0, {0})


def nothing() -> None:
    return


FAULTS: dict[str, tuple[Callable[..., object], Callable[[], None]]] = {
    "full disk": (full_disk, nothing),
    "read-only medium": (read_only, nothing),
    "no rights": (no_rights, without_privileges),
    "little memory": (plain, little_memory),
    "one core": (plain, one_core),
    "input gone": (plain, nothing),
}


def tried(arguments: list[str], prepare: Callable[[], None], log: Path) -> int:
    """Exit code; negative for a signal."""
    with log.open("wb") as said:
        try:
            return subprocess.run(
                [sys.executable, "-m", "okdhp_edge", *arguments],
                check=False,
                timeout=LIMIT_S,
                stdout=subprocess.DEVNULL,
                stderr=said,
                preexec_fn=prepare,
            ).returncode
        except subprocess.TimeoutExpired:
            return -signal.SIGALRM


def evaluated(fault: str, command: Command, code: int, said: str, new: list[str]) -> str:
    """`held`, or what went wrong."""
    succeeds = fault == "one core" or (
        not command.writes and fault in ("full disk", "read-only medium", "no rights")
    )
    if code < 0 or "Traceback" in said:
        return f"signal {-code}" if code < 0 else "traceback"
    if succeeds or (fault == "little memory" and code == 0):
        return "held" if code == 0 else f"exit {code}"
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if code != 1 or len(lines) != 1 or len(lines[0]) > _MAX_MESSAGE_CHARS:
        return f"exit {code}, {len(lines)} lines"
    # What was recorded before the disk was full is kept, a folder without a checkpoint that
    # `--resume` takes, and what was labelled so far.
    kept = command.name in ("run", "train")
    left = [name for name in new if not kept and not name.endswith(".partial")]
    return f"left {', '.join(left)}" if left else "held"


def prepared(folder: Path) -> Bench:
    recipe = write_tiny_recipe(folder)
    model = folder / "model"
    for arguments in (
        ["train", "--recipe", str(recipe), "--data", "synthetic:48", "--out", str(model),
         "--workers", "0", "--device", "cpu"],
        ["export", str(model / "best.safetensors"), "--data", "synthetic:64", "--int8",
         "--profile", "onnxruntime", "--max-drop", "100", "--out", str(model)],
        ["run", "--source", "synthetic:60", "--model", str(model), *_MODEL, "--threads", "1",
         "--no-window", "--report", str(folder / "r.json")],
    ):  # fmt: skip
        assert tried(arguments, nothing, folder / "log") == 0, (folder / "log").read_text()
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(6):
        spots = {"nose": (20, 20), "tail": (40, 40), "crest": (20, 40)}
        cv2.imwrite(str(pictures / f"{number}.png"), np.asarray(dotted(spots, seed=number)))
        (pictures / f"{number}.txt").write_text("0 0.5 0.5 0.9 0.9\n")
    return Bench(recipe, model, dot_teacher(folder / "teacher.onnx"), pictures, folder / "r.json")


def without_input(arguments: list[str], folder: Path) -> list[str]:
    """The same, with what it reads somewhere else."""
    known = {"synthetic:8": "coco:/nowhere.json", "synthetic:20": "/nowhere.mp4"}
    return [
        str(folder / "gone" / Path(a).name) if a.startswith(str(folder)) and "out-" not in a
        else known.get(a, "coco:/nowhere.json" if a.startswith("synthetic:") else a)
        for a in arguments
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        bench = prepared(folder)
        for command in COMMANDS:
            if asked.only not in command.name:
                continue
            rows[command.name] = {}
            for fault, (place, prepare) in FAULTS.items():
                if fault == "input gone" and command.name == "doctor":
                    continue
                out = folder / f"out-{command.name}-{fault}".replace(" ", "-")
                with place(out) as written:  # type: ignore[attr-defined]
                    before = {p.name for p in written.iterdir()}
                    arguments = command.arguments(bench, written)
                    if fault == "input gone":
                        arguments = without_input(arguments, folder)
                    code = tried(arguments, prepare, folder / "log")
                    new = sorted({
                        p.relative_to(written).parts[0] for p in written.rglob("*")
                        if p.is_file() and _LOCK_SUFFIX not in (p.suffix, p.name)
                    } - before)  # fmt: skip
                    said = (folder / "log").read_text(errors="replace")
                    rows[command.name][fault] = evaluated(fault, command, code, said, new)
                shutil.rmtree(out, ignore_errors=True)
                if rows[command.name][fault] != "held":
                    print(
                        f"--- {command.name}, {fault}: {rows[command.name][fault]}\n{said[-700:]}"
                    )
            print(command.name, rows[command.name], flush=True)
    cells = [cell for row in rows.values() for cell in row.values()]
    counted = {
        "command": "python benchmarks/reliability/faults.py", "pairs": len(cells),
        "held": cells.count("held"), "by_command": rows,
    }  # fmt: skip
    if not asked.only:
        record("faults", counted)
    sys.exit(counted["held"] != counted["pairs"])


if __name__ == "__main__":
    main()
