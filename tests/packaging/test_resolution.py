"""Every extra resolves against the plain package index, for each supported Python and system."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# OpenVINO has wheels for ARM from glibc 2.35 on.
SYSTEMS = ("x86_64-unknown-linux-gnu", "aarch64-manylinux_2_35", "aarch64-apple-darwin",
           "x86_64-pc-windows-msvc")  # fmt: skip
DEVICES = ("openvino", "onnxruntime", "tensorrt", "tensorrt-cu12")
_CLEARED_PREFIXES = ("PIP_", "UV_")


def compile_requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`uv pip compile` with nothing configured: what somebody else's machine would do."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_CLEARED_PREFIXES)}
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
def test_an_extra_resolves_for_every_python_and_system(index: None, extra: str) -> None:
    """One resolution for all: each environment that a package's markers tell apart has to work."""
    # The pins are those of CUDA 13.
    pins = () if extra == "tensorrt-cu12" else ("-c", "constraints.txt")
    done = compile_requirements(
        "pyproject.toml", "--extra", extra, *pins, "--universal", "--python-version", PYTHONS[0]
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_development_resolves_as_there(index: None, python: str, system: str) -> None:
    """As that Python on that system would do it."""
    done = compile_requirements(
        "pyproject.toml", "--extra", "dev", "-c", "constraints.txt", "--python-version", python,
        "--python-platform", system,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_lowest_versions_resolve(index: None) -> None:
    done = compile_requirements(
        "pyproject.toml", "--extra", "test", "--resolution", "lowest-direct",
        "--python-version", "3.11", "--python-platform", SYSTEMS[0],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "typer==0.19." in done.stdout
