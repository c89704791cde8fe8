"""Every extra resolves against the plain package index, for each supported Python and system."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin",
           "x86_64-pc-windows-msvc")  # fmt: skip
DEVICES = ("openvino", "onnxruntime", "tensorrt", "tensorrt-cu12")
_CLEARED = ("PIP_", "UV_")


def compile_requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`uv pip compile` with nothing configured: what somebody else's machine would do."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_CLEARED)}
    # torch has wheels for macOS 14 and newer.
    environment |= {"PIP_CONFIG_FILE": os.devnull, "MACOSX_DEPLOYMENT_TARGET": "14.0",
                    "UV_NATIVE_TLS": "1", "UV_SYSTEM_CERTS": "1"}  # fmt: skip
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-config", "--quiet", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def index() -> None:
    """The package index; tests that need it skip where it cannot be reached."""
    probe = compile_requirements("pyproject.toml", "--extra", "screen")
    if "error sending request" in probe.stderr or "dns error" in probe.stderr:
        pytest.skip("no package index can be reached: connect to the network")


@pytest.mark.parametrize("extra", ["dev", "all", *DEVICES])
def test_an_extra_resolves_for_each_python_and_system(index: None, extra: str) -> None:
    # The pins are those of CUDA 13.
    pins = () if extra == "tensorrt-cu12" else ("-c", "constraints.txt")

    def resolve(target: tuple[str, str]) -> str:
        python, system = target
        done = compile_requirements(
            "pyproject.toml", "--extra", extra, *pins, "--python-version", python,
            "--python-platform", system,
        )  # fmt: skip
        return f"{python} on {system}: {done.stderr}" if done.returncode else ""

    with ThreadPoolExecutor(8) as pool:
        failures = list(filter(None, pool.map(resolve, product(PYTHONS, SYSTEMS))))
    assert not failures, "\n".join(failures)


def test_the_lowest_versions_resolve(index: None) -> None:
    done = compile_requirements(
        "pyproject.toml", "--extra", "test", "--resolution", "lowest-direct",
        "--python-version", "3.11", "--python-platform", SYSTEMS[0],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "typer==0.19." in done.stdout
