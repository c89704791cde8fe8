"""Benchmark scripts run to their end on a little of everything, and write their result.

They run from a copy, so that the results of the project stay as they are. Not here are scripts that
need a GPU, other people's models or hours; lint checks their types.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import okdhp_edge
from okdhp_edge.pose.skeleton import COCO17
from tests.conftest import REPOSITORY
from tests.helpers.tiny_models import DATA

pytestmark = pytest.mark.slow
GRIDS = {1: (1, 1), 3: (1, 3), 10: (2, 5)}
"""Persons in an image: the photo so many times below and beside one another."""


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Images of one, three and ten persons; their labels are what the model finds in the photo."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    photo = cv2.imread(str(REPOSITORY / "docs" / "person.jpg"))
    photo = cv2.resize(photo, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    (pose,) = okdhp_edge.load("lite", detector="none")(photo)
    height, width = photo.shape[:2]
    images, annotations = [], []
    for count, (rows, columns) in GRIDS.items():
        cv2.imwrite(str(folder / "images" / f"{count}.png"), np.tile(photo, (rows, columns, 1)))
        images.append({"id": count, "file_name": f"{count}.png", "height": rows * height,
                       "width": columns * width})  # fmt: skip
        for row, column in np.ndindex(rows, columns):
            corner = np.array([column * width, row * height])
            points = np.column_stack([pose.xy + corner, np.full(len(COCO17), 2)])
            annotations.append({
                "id": len(annotations) + 1, "image_id": count, "category_id": 1, "iscrowd": 0,
                "bbox": [*corner.tolist(), width, height], "area": width * height,
                "num_keypoints": len(COCO17), "keypoints": points.ravel().tolist(),
            })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": []}
    (folder / "persons.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": [category]}
    ))  # fmt: skip
    return folder


@pytest.fixture
def run_script(tmp_path):
    """Runs a script; returns what it wrote."""
    shutil.copytree(REPOSITORY / "benchmarks", tmp_path / "benchmarks")
    for old in (tmp_path / "benchmarks" / "results").glob("*.json"):
        old.unlink()

    def run(script: str, result: str, *options: object) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, f"benchmarks/{script}", *map(str, options)], cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, object] = json.loads(
            (tmp_path / "benchmarks" / "results" / result).read_text()
        )
        assert {"machine", "machines", "measured"} & found.keys()
        return found

    return run


def test_end_to_end(run_script, coco):
    found = run_script(
        "accuracy/end_to_end.py", "end_to_end.json", "--coco", coco, "--models", "lite"
    )
    assert found["persons"] == 14
    (row,) = found["rows"]
    assert set(row["ms"]) == {"one", "three", "ten"} and row["ap"]["AP"] > 0


def test_slices(run_script, coco):
    found = run_script("accuracy/slices.py", "slices-lite-coco.json", "--data", f"coco:{coco}")
    assert len(found["by_joint"]) == len(COCO17)


def test_quantization(run_script, trained):
    found = run_script(
        "accuracy/quantization.py", "quantization-tiny.json", trained, "--data", DATA,
        "--epochs", 0, "--profiles", "generic", "--calibrators", "minmax",
    )  # fmt: skip
    assert found["rows"]


def test_loop(run_script):
    found = run_script("speed/loop.py", "loop.json", "--only", "around")
    assert found["around"]


def test_overhead(run_script):
    assert run_script("speed/overhead.py", "overhead.json")["stages_ms"]


def test_batch(run_script, tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")
    video = Path(shutil.copy(_write_video(tmp_path / "v.mp4"), tmp_path / "video.mp4"))
    found = run_script("speed/batch.py", "batch.json", "--video", video, "--clips", 2,
                       "--frames", 4, "--kills", 1, "--rounds", 1,
                       "--full-size", video)  # fmt: skip
    assert set(found["executors"]) == {"one worker", "two workers", "four workers"}
    assert found["kills"]["differing"] == found["kills"]["missing"] == 0


def _write_video(path: Path) -> Path:
    image = cv2.imread(str(REPOSITORY / "docs" / "person.jpg"))
    image = cv2.resize(image, (320, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (320, 320))
    for _ in range(8):
        writer.write(image)
    writer.release()
    return path
