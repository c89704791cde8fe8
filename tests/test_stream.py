import subprocess
import sys
import threading
import time

import pytest

from okdhp_edge.api import Result, stream
from okdhp_edge.errors import ModelError, SourceError
from tests.helpers.made_detector import constant_detector, yolox_rows


def test_frames_and_poses_come_one_after_the_other(quantized):
    model = str(quantized.parent)
    results = list(stream("synthetic:9", model=model, backend="onnxruntime", precision="int8"))
    assert len(results) == 9
    frame, poses = results[0]
    assert isinstance(results[0], Result)
    assert frame.shape == (480, 640, 3)
    assert isinstance(poses, list)


def test_leaving_the_loop_closes_everything(quantized):
    before = threading.active_count()
    for frame, _ in stream("synthetic:1000", model=str(quantized.parent), threads=1):
        assert frame is not None
        break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_many_people_need_a_detector(quantized, tmp_path):
    options = {"model": str(quantized.parent), "threads": 1, "people": "many"}
    with pytest.raises(ModelError, match="many needs a person detector; .*--detector"):
        next(stream("synthetic:3", **options))
    detector = constant_detector(tmp_path / "d.onnx", yolox_rows([(32, 32, 20, 30, 0.9, 0)]))
    assert len(list(stream("synthetic:3", detector=detector, **options))) == 3


def test_a_source_that_is_not_there_is_said(quantized):
    with pytest.raises(SourceError, match="does not exist"):
        next(stream("gone.mp4", model=str(quantized.parent), threads=1))


def test_importing_it_loads_no_runtime():
    code = (
        "import sys\nfrom okdhp_edge import stream\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'starlette', 'uvicorn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everybody_is_found_where_a_detector_is_given_and_one_where_none_is(
    quantized, int8_detector
):
    options = {"model": str(quantized.parent), "threads": 1, "backend": "onnxruntime"}
    detector = str(int8_detector.parent)
    many = list(stream("synthetic:6", detector=detector, **options))
    assert len(many) == 6
    assert all(p.id is not None for r in many for p in r.poses)
    one = list(stream("synthetic:6", **options))  # drawn people only: no detector of photographs
    assert all(p.id is None for r in one for p in r.poses)


def test_a_detector_is_no_pose_model(int8_detector):
    with pytest.raises(ModelError, match="is a person detector, not a pose model"):
        next(stream("synthetic:3", model=str(int8_detector.parent), threads=1))
