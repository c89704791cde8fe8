"""Draws extreme files of every grammar and runs the command that reads each."""

import importlib
import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.command_line import Ended, run_command
from tests.faults.grammar import GRAMMARS, Grammar, file_names
from tests.faults.targets import make_valid

# Read once, before the forks; none of them starts a thread.
for _module in (
    "cli.main", "data.check", "data.preview", "data.crops", "data.load", "data.video",
    "evaluation.average_precision", "label.label_images", "report.compare", "report.pages",
    "run.assemble", "run.loop", "run.report", "system.outputs",
):  # fmt: skip
    importlib.import_module(f"okdhp_edge.{_module}")
for _module in ("onnxruntime", "pycocotools.cocoeval", "yaml"):
    importlib.import_module(_module)

FOLDERS = {
    "recipe": "recipe", "coco": "coco", "coco crops": "coco", "mpii": "mpii",
    "yolo description": "yolo description", "yolo labels": "yolo labels",
    "lspet list": "lspet list", "coco results": "coco results", "report": "report",
}  # fmt: skip


class Finding(NamedTuple):
    """A file on which a command failed."""

    grammar: str
    content: bytes
    ended: Ended


def make_folders(folder: Path, exported: Path, trained: Path) -> dict[str, Path]:
    """A folder of valid files for each grammar."""
    valid = make_valid(folder / "targets", exported, trained)
    made = {}
    for grammar in GRAMMARS:
        made[grammar.name] = place = folder / "grammars" / grammar.name.replace(" ", "-")
        if grammar.name in FOLDERS:
            shutil.copytree(valid[FOLDERS[grammar.name]], place)
            continue
        shutil.copytree(valid["card"], place / "model")
        shutil.copy(valid["png"] / "picture.png", place / "a.png")
        (place / "images").mkdir()
        shutil.copy(valid["png"] / "picture.png", place / "images" / "a.png")
        for kind, names in (("teacher", ("onnx", "toml")), ("detector", ("onnx",))):
            for suffix in names:
                shutil.copy(valid[kind] / f"{kind}.{suffix}", place / f"{kind}.{suffix}")
        (place / "detector.toml").write_text(
            'colour = "BGR"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nletterbox = "top_left"\n'
            'boxes = "grid"\nstrides = [8, 16, 32]\nobjectness = true\nmin_score = 0.4\n'
        )
        shutil.copy(valid["video"] / "video.avi", place / "a.mp4")
    return made


def try_content(grammar: Grammar, valid: Path, scratch: Path, content: bytes) -> Ended:
    """Put the content in the place of the valid file, and run the command; a file that appears
    outside of the folder is a fault too."""
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid, folder)
    (folder / grammar.file).write_bytes(content)
    before = sorted(p.name for p in scratch.iterdir())
    ended = run_command(folder, grammar.command)
    escaped = sorted(p.name for p in scratch.iterdir()) != before
    return ended._replace(fault="escape") if escaped else ended


def try_name(valid: Path, scratch: Path, pattern: bytes, grammar: Grammar) -> Ended:
    """The valid image or video under a strange name."""
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid, folder)
    suffix = grammar.file.rpartition(".")[2].encode()
    name = pattern.replace(b"%s", suffix).replace(b"%%", b"%")
    source = bytes(folder) + b"/" + name
    (folder / grammar.file).rename(Path(source.decode("utf-8", "surrogateescape")))
    word = f"./{name.decode('utf-8', 'surrogateescape')}"
    words = tuple(word if w == grammar.file else w for w in grammar.command)
    return run_command(folder, words)


def explore(
    folders: dict[str, Path],
    scratch: Path,
    count: int,
    number: int,
    found: Callable[[Finding], None],
    *,
    only: str = "",
) -> Counter[tuple[str, str]]:
    """`count` files, spread over the grammars; `found` is called with each that failed. Counts by
    grammar and outcome."""
    grammars = [g for g in GRAMMARS if only in g.name]
    counts: Counter[tuple[str, str]] = Counter()
    for index, grammar in enumerate(grammars):
        share = count // len(grammars) + (index < count % len(grammars))
        valid = folders[grammar.name]
        check = partial(_check, grammar, valid, scratch, counts, found)
        _draw(grammar.content((valid / grammar.file).read_bytes()), check, share, number)
    return counts


def _check(
    grammar: Grammar,
    valid: Path,
    scratch: Path,
    counts: Counter[tuple[str, str]],
    found: Callable[[Finding], None],
    content: bytes,
) -> None:
    ended = try_content(grammar, valid, scratch, content)
    counts[grammar.name, ended.fault or ("refused" if ended.code else "read")] += 1
    if ended.fault:
        found(Finding(grammar.name, content, ended))


def _draw(
    strategy: st.SearchStrategy[bytes], check: Callable[[bytes], None], count: int, number: int
) -> None:
    if not count:
        return

    def try_one(content: bytes) -> None:
        check(content)

    trial = settings(
        max_examples=count, database=None, deadline=None, derandomize=False,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )(seed(number)(given(strategy)(try_one)))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial()


def names() -> st.SearchStrategy[bytes]:
    """Strange names of files."""
    return file_names


def as_corpus(finding: Finding) -> str:
    """One line for the corpus of the tests."""
    return json.dumps({"grammar": finding.grammar, "content": finding.content.decode("latin-1")})
