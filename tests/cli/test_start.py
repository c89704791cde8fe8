"""What a start imports and measures: a budget of modules, not of time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

IMAGE = REPOSITORY / "docs" / "person.jpg"
HEAVY = ("torch", "onnx", "onnxruntime", "nncf", "tensorrt", "tensorrt_rtx", "scipy", "matplotlib",
         "lightning_fabric", "safetensors", "starlette", "uvicorn", "yaml", "av")  # fmt: skip


def imported(cache: Path, *words: str) -> tuple[set[str], str]:
    """Top-level modules that a command imports, and what it says on stderr besides."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "okdhp_edge", *words],
        cwd=cache, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    said = "\n".join(line for line in lines if not line.startswith("import time:"))
    return modules | {module.partition(".")[0] for module in modules}, said


def test_help_imports_neither_numpy_nor_pydantic(tmp_path: Path) -> None:
    modules, _ = imported(tmp_path, "--help")
    assert not modules & {
        *HEAVY,
        "numpy",
        "pydantic",
        "cv2",
        "openvino",
        "okdhp_edge.backends.base",
    }


@pytest.mark.slow
def test_a_second_run_on_an_image_times_nothing_and_imports_one_runtime(tmp_path: Path) -> None:
    words = ("run", "--source", str(IMAGE), "--no-window", "--model", "lite")
    _, first = imported(tmp_path, *words)
    assert "measured now" in first
    modules, second = imported(tmp_path, *words)
    assert "ago" in second and "measured now" not in second
    # Whichever runtime was faster is the only one.
    other = {"onnxruntime", "openvino"} & modules
    assert len(other) == 1
    assert not modules & ({*HEAVY, "numpy.random"} - {"onnxruntime"})
    lines = [line for line in second.splitlines() if line.startswith(("model ", "timing", "timed"))]
    assert len(lines) == 1
