"""The loop of docs/labeling.md: label, correct in a tool, import, fine-tune, find errors."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

from okdhp_edge.cli.main import app
from tests.helpers.made_teacher import dot_teacher, dotted
from tests.helpers.tiny_models import write_tiny_recipe

IMAGES = 12


def run(*words: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of people that are three dots, one person in each."""
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(IMAGES):
        dots = {"nose": (20 + 3 * number, 20), "tail": (50, 60), "crest": (60, 30 + number)}
        cv2.imwrite(str(images / f"{number}.png"), dotted(dots, (96, 96), seed=number))
        (images / f"{number}.txt").write_text("0 0.5 0.5 0.6 0.7\n")
    dot_teacher(tmp_path / "t.onnx")
    return images


def correct(tasks_file: Path) -> None:
    """Accept all predictions, and move the first nose to the middle of its image."""
    tasks = json.loads(tasks_file.read_text())
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    regions = tasks[0]["annotations"][0]["result"]
    nose = next(r for r in regions if r["value"].get("keypointlabels") == ["nose"])
    nose["value"] |= {"x": 50.0, "y": 50.0}
    Path("export.json").write_text(json.dumps(tasks))


def test_once_around(folder: Path) -> None:
    label = ("data", "label", folder, "--teacher", "t.onnx", "--min-joints", 2, "--duplicates", -1)
    assert run(*label, "--out", "people.json", "--format", "label-studio")["persons"] == IMAGES
    correct(Path("people.label-studio.json"))
    assert "nose" in Path("people.label-studio.xml").read_text()

    found = run("data", "import", "export.json", "--images", folder, "--out", "corrected.json")
    assert (found["persons"], found["images"]) == (IMAGES, IMAGES)
    first = json.loads(Path("corrected.json").read_text())["annotations"][0]
    assert first["keypoints"][:3] == [47.5, 47.5, 2]
    assert run("data", "check", "--data", "coco:corrected.json")["fatal"] == 0

    recipe = write_tiny_recipe(Path.cwd())
    trained = run("train", "--recipe", recipe, "--data", "coco:corrected.json", "--workers", 0,
                  "--epochs", 1, "--out", "models/first")  # fmt: skip
    tuned = run("train", "--start", trained["checkpoint"], "--data", "coco:corrected.json",
                "--workers", 0, "--epochs", 1, "--out", "models/tuned")  # fmt: skip
    run("export", tuned["checkpoint"])
    found = run("data", "errors", "--data", "coco:corrected.json@all", "--model", "models/tuned",
                "--out", "errors.html")  # fmt: skip
    assert found["persons"] == IMAGES
    assert "nose" in Path("errors.html").read_text()


def test_an_unknown_tool_is_said_before_anything_is_labelled(folder: Path) -> None:
    words = ["data", "label", str(folder), "--teacher", "t.onnx", "--format", "paint"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "label-studio, cvat" in result.stderr
    assert not Path("labels.json").exists()
