"""No command replaces or removes what it reads, through the command line."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.helpers.made_data import coco_file

pytestmark = pytest.mark.slow


def _run(folder, *words):
    command = [sys.executable, "-m", "okdhp_edge", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*") if p.is_file()}  # fmt: skip


@pytest.fixture
def own(tmp_path):
    """A data set of its owner's: pictures, labels, and something else."""
    folder = tmp_path / "own"
    folder.mkdir()
    coco_file(folder)
    os.link(folder / "images" / "a.jpg", tmp_path / "hard.jpg")
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text(json.dumps({}))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("data", "crops", "--data", "coco:own/fish.json", "--out", "own"),
        ("data", "crops", "--data", "coco:own/fish.json@all", "--out", "own/images"),
        ("data", "show", "--data", "coco:own/fish.json", "--out", "own/images/a.jpg"),
        ("run", "--source", "own/images/a.jpg", "--save", "own/images/a.jpg"),
        ("run", "--source", "own/images/a.jpg", "--save", "hard.jpg"),
        ("run", "--source", "own/images", "--save", "own/images"),
        ("run", "--source", "own/images", "--save", "own"),
        ("run", "--source", "own/images/a.jpg", "--json", "./own/images/../images/a.jpg"),
        ("run", "--source", "own/images/a.jpg", "--json", "x.json", "--report", "x.json"),
        ("run", "--source", "own/images/a.jpg", "--csv", "x.txt", "--coco", "./x.txt"),
        ("report", "report.json", "--html", "report.json"),
    ],
)
def test_an_output_on_what_is_read_is_refused_and_nothing_changes(tmp_path, own, words):
    before = _contents(tmp_path)
    done = _run(tmp_path, *words)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "the input" in line or "write one file" in line
    assert _contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--detector", "gone.onnx"), "gone.onnx"),
        (("--web", "{port}"), "cannot listen on"),
        (("--write", "json:other.json"), "two outputs of kind json"),
    ],
)
def test_a_run_that_cannot_start_leaves_former_outputs_as_they_are(tmp_path, own, words, says):
    former = tmp_path / "poses.jsonl"
    former.write_text("former\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run(tmp_path, "run", "--source", "own/images/a.jpg", "--json", former,
                    "--no-window", *(word.format(port=port) for word in words))  # fmt: skip
    assert done.returncode == 1 and says in done.stderr
    assert former.read_text() == "former\n"


@pytest.mark.parametrize(
    "words",
    [("--coco", "-", "--csv", "-"), ("--source", "own/images/a.jpg", "--json", "-"),
     ("--json", "old.json", "--csv", "gone/x.csv")],
    ids=["two kinds", "two sources", "a folder that is not there"],
)  # fmt: skip
def test_outputs_that_cannot_all_be_written_are_refused_before_any_is(tmp_path, own, words):
    (tmp_path / "old.json").write_text("of an earlier run")
    before = _contents(tmp_path)
    done = _run(tmp_path, "run", "--source", "own/images/a.jpg", *words)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "share stdout" in line or "does not exist" in line
    assert not done.stdout
    assert _contents(tmp_path) == before


def test_a_document_on_stdout_is_followed_by_nothing(tmp_path, own):
    done = _run(tmp_path, "run", "--source", "own/images/a.jpg", "--coco", "-", "--no-window")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), list)


def test_beside_the_data_all_is_well_and_what_is_not_ours_stays(tmp_path, own):
    for _ in range(2):
        done = _run(tmp_path, "data", "crops", "--data", "coco:own/fish.json", "--split",
                    "all", "--out", "own/crops")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (own / "crops" / "mine.txt").write_text("mine")
    assert (own / "crops" / "mine.txt").read_text() == "mine"
    assert (own / "notes.txt").read_text() == "mine"
