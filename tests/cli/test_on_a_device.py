"""What a device has: numpy, OpenCV and one runtime; no torch, no training or export tools."""

import json
import subprocess
import sys

import pytest

_ABSENT = ("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript", "onnxsim", "nncf",
           "scipy", "matplotlib", "tensorboard")  # fmt: skip


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_shipped_model_runs_with_one_runtime_alone(tmp_path, runtime):
    other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[runtime]
    code = (
        f"import sys\nfor name in {(*_ABSENT, other)!r}: sys.modules[name] = None\n"
        "from okdhp_edge.cli.main import app\n"
        f"app(['run', '--source', 'synthetic:12', '--backend', {runtime!r}, '--model', 'lite',"
        " '--save', 'out.mp4', '--no-window'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["frames"] == 12
    assert report["precision_asked"] == "int8"
    assert (tmp_path / "out.mp4").is_file()
