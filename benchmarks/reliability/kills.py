"""Kills at random moments: what stages leave behind, and whether training goes on untouched.

    python benchmarks/reliability/kills.py [--kills 50] [--seed 0]

Each trial runs a stage of a tiny model in a process of its own and ends it by SIGKILL after a
random share of the time it takes. Then what lies there is read: old or new, whole.

* train: killed again and again, taken up with `--resume` until it ends; its last checkpoint must
  equal, bit by bit, that of a run that was left alone, and `metrics.csv` hold each epoch once;
* export and INT8: the model's folder must load, its files as their card says;
* run: JSON lines must parse, the video must play.

Then each stage runs once more, undisturbed, and nothing may be left beside its results. Counts go
to `results/reliability.json`.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from counts import record
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.cli.main import app
from okdhp_edge.errors import OkdhpError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import LAST, TrainingOptions
from tests.helpers.tiny_models import tiny_recipe

DATA, EPOCHS = "synthetic:48", 6
FRAMES = 150


def in_child(work: Callable[[], object], after_s: float | None = None) -> bool:
    """Run it in a process of its own; True where it ended by itself, False where it was killed.

    Raises:
        RuntimeError: it ended by itself with an error, which is no kill.
    """
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        code = 1
        try:
            work()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    end = None if after_s is None else time.monotonic() + after_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"the stage ended by itself with status {status}")
            return True
        if end is not None and time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)


def took(work: Callable[[], object]) -> float:
    started = time.monotonic()
    assert in_child(work)
    return time.monotonic() - started


def training(out: Path, *, resume: bool) -> None:
    optimizer = {"epochs": EPOCHS, "batch_size": 16, "lr": 3e-3}
    train(tiny_recipe(optimizer=optimizer), DATA, TrainingOptions(
        out=out, device="cpu", workers=0, resume=resume
    ))  # fmt: skip


def kill_training(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    whole_s = took(lambda: training(folder / "whole", resume=False))
    expected = load_file(folder / "whole" / LAST)
    done = runs = identical = rows = 0
    while done < kills:
        out = folder / f"cut{runs}"
        while not in_child(lambda: training(out, resume=True), rng.uniform(0.02, 1.1) * whole_s):  # noqa: B023
            done += 1
        found = load_file(out / LAST)
        same = found.keys() == expected.keys() and all(
            torch.equal(found[k], expected[k]) for k in expected
        )
        identical += same
        lines = (out / "metrics.csv").read_text().splitlines()
        rows += [line.split(",")[0] for line in lines[1:]] == [f"{e + 1}.0" for e in range(EPOCHS)]
        runs += 1
    left = beside(folder)
    return {"kills": done, "runs": runs, "bit_identical": identical, "each_epoch_once": rows,
            "left_behind": left}  # fmt: skip


def beside(folder: Path) -> list[str]:
    """Temporary and hidden files."""
    return sorted({p.name for p in folder.rglob("*") if p.name.startswith(".") or
                   p.suffix == ".tmp"})  # fmt: skip


def kill_stage(
    folder: Path, work: Callable[[], object], whole: Callable[[], bool], kills: int,
    rng: random.Random,
) -> dict[str, Any]:  # fmt: skip
    whole_s = took(work)
    damaged = done = 0
    while done < kills:
        if not in_child(work, rng.uniform(0.02, 1.0) * whole_s):
            done += 1
        damaged += not whole()
    assert in_child(work)
    return {"kills": done, "damaged": damaged, "left_behind": beside(folder)}


def loads(folder: Path, backend: str, precision: str) -> bool:
    try:
        with open_backend(backend, BackendConfig(folder, read_card(folder), precision, 1)):
            return True
    except OkdhpError as error:
        sys.stderr.write(f"{error}\n")
        return False


def recorded(folder: Path) -> bool:
    """What a killed run left: whole lines, and a video that plays as far as it goes."""
    lines = folder / "poses.jsonl"
    for line in lines.read_text().splitlines() if lines.is_file() else []:
        json.loads(line)
    video = folder / "out.mp4"
    if not video.is_file() or video.stat().st_size == 0:
        return True
    return bool(cv2.VideoCapture(str(video)).read()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(asked.seed)
    found: dict[str, Any] = {
        "command": f"python benchmarks/reliability/kills.py --kills {asked.kills} "
        f"--seed {asked.seed}"
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["train"] = kill_training(folder / "train", asked.kills, rng)
        print("train", found["train"], flush=True)
        best = folder / "train" / "whole" / "best.safetensors"
        model = folder / "model"
        found["export"] = kill_stage(
            model, lambda: export_branch(best, ExportOptions(out=model, data=DATA)),
            lambda: loads(model / "fp32", "onnxruntime", "fp32"), asked.kills, rng,
        )  # fmt: skip
        print("export", found["export"], flush=True)
        options = QuantizeOptions(data=DATA, max_drop=100.0, profiles=("onnxruntime",))
        found["int8"] = kill_stage(
            model, lambda: quantize(model / "fp32", options),
            lambda: loads(model / "int8" / "onnxruntime", "onnxruntime", "int8"), asked.kills, rng,
        )  # fmt: skip
        print("int8", found["int8"], flush=True)
        place = folder / "run"
        place.mkdir()
        command = [
            "run", "--source", f"synthetic:{FRAMES}", "--model", str(model), "--backend",
            "onnxruntime", "--precision", "int8", "--threads", "1", "--no-window",
            "--json", str(place / "poses.jsonl"), "--save", str(place / "out.mp4"),
        ]  # fmt: skip
        found["run"] = kill_stage(
            place, lambda: app(command), lambda: recorded(place), asked.kills, rng
        )
        print("run", found["run"], flush=True)
    record("kills", found)


if __name__ == "__main__":
    main()
