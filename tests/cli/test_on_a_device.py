"""What a device has: numpy, OpenCV and one runtime; no torch, no training or export tools."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

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
    assert report["precision_asked"] == "auto"
    assert report["backend"]["precision"].startswith("int8")
    assert (tmp_path / "out.mp4").is_file()


@pytest.mark.slow
def test_a_fresh_environment_with_one_runtime_and_no_torch_runs(tmp_path):
    """As on a device: installed from the source tree, nothing but what `[openvino,web]` brings."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c",
               REPOSITORY / "constraints.txt", f"{REPOSITORY}[openvino,web]"]  # fmt: skip
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    absent = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert absent.returncode != 0
    words = [tmp_path / "venv" / "bin" / "okdhp-edge", "run", "--source", "synthetic:12",
             "--model", "lite", "--web", "0", "--json", "p.jsonl"]  # fmt: skip
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["frames"] == 12
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 12
