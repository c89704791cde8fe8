"""What the wheel holds: the package and the shipped models, nothing else."""

import subprocess
import sys
import zipfile

import pytest

from okdhp_edge.system.files import MANIFEST
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
_SUFFIXES = {".py", ".typed", ".toml", ".json", ".onnx", ".xml", ".bin", ".safetensors", ".html",
             ".js", ".css", ".md", ".txt"}  # fmt: skip


def test_the_wheel_holds_the_package_and_the_models_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
         "--no-deps", "-w", tmp_path, REPOSITORY],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached: connect to the network")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"okdhp_edge"}
    packages = {path.parent.name for path in (REPOSITORY / "okdhp_edge").glob("*/__init__.py")}
    assert {n.split("/")[1] for n in names if n.count("/") > 1} == packages | {"shipped"}
    assert not [n for n in names if not n.endswith((*_SUFFIXES, f"/{MANIFEST}"))]
    for model in ("lite", "full", "person"):
        for runtime in ("openvino", "onnxruntime", "tensorrt"):
            assert f"okdhp_edge/shipped/{model}/int8/{runtime}/card.json" in names
        assert f"okdhp_edge/shipped/{model}/weights.safetensors" in names
    for file in ("fp32/card.json", "fp32/model.onnx", "weights.safetensors"):
        assert f"okdhp_edge/shipped/large/{file}" in names
    assert wheel.stat().st_size < 60e6
