"""Follow the README on a machine that has nothing: `make fresh`.

For each Python a copy of HEAD in an empty folder, an environment cleared of what pip and uv were
configured with, and the package index as it is. Three trials: `make demo`; `make check`, the quick
tests; and the wheel with each device extra in an environment of its own, where `doctor`, one image
and `okdhp_edge.load` run. Times and sizes go into benchmarks/results/fresh.json.

    python tools/fresh.py [PYTHON ...]     # default: the oldest and newest Python found here
    python tools/fresh.py --torch-backend cpu
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "fresh.json"
DEVICES = ("openvino", "onnxruntime", "tensorrt")
_CLEARED = ("PIP_", "UV_", "VIRTUAL_ENV", "PYTHON", "TORCH_BACKEND", "MAKE")
_LOAD = "import okdhp_edge, sys; print(len(okdhp_edge.load('lite')(sys.argv[1])))"


def try_python(python: str, backend: str, work: Path, trials: list[str]) -> dict[str, Any]:
    """All trials with one interpreter; raises CalledProcessError where one fails."""
    source = work / "okdhp-edge"
    source.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    # Some tests ask git which files are the project's.
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    result: dict[str, Any] = {"python": version_of(python), "torch_backend": backend}
    print(result["python"], flush=True)
    options = [f"PYTHON={python}", f"TORCH_BACKEND={backend}"]
    if "demo" in trials:
        # First the installation alone, to know what it is made of.
        result["install_demo_s"] = run(["make", ".venv/.demo", *options], source)
        result["demo_disk_gb"] = gigabytes(source / ".venv")
        result["demo_s"] = run(["make", "demo", *options], source)
        print(json.dumps(result), flush=True)
        assert (source / "models/demo/demo.mp4").is_file()
    if "check" in trials:
        result["install_test_s"] = run(["make", "setup", *options], source)
        result["test_disk_gb"] = gigabytes(source / ".venv")
        result["check_s"] = run(["make", "check", *options], source)
        print(json.dumps(result), flush=True)
    if "wheel" in trials:
        result["wheel"] = try_wheel(python, source, work)
    return result


def try_wheel(python: str, source: Path, work: Path) -> dict[str, Any]:
    """The wheel alone, with each device extra."""
    builder = make_environment(python, work / "builder")
    run([builder, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", work / "dist", source], work)
    (wheel,) = (work / "dist").glob("*.whl")
    image = source / "docs" / "person.jpg"
    result: dict[str, Any] = {"wheel_mb": round(wheel.stat().st_size / 1e6, 1)}
    for device in DEVICES:
        # Not its bare name: Python finds folders of the working folder as packages.
        environment = work / f"venv-{device}"
        on_device = make_environment(python, environment)
        seconds = run([on_device, "-m", "pip", "install", "--quiet", f"{wheel}[{device}]"], work)
        result[device] = {"install_s": seconds, "disk_gb": gigabytes(environment)}
        run([environment / "bin" / "okdhp-edge", "doctor"], work)
        if device != "tensorrt":  # it needs a GPU to run
            run([environment / "bin" / "okdhp-edge", "run", "--source", image, "--save",
                 work / f"{device}.jpg", "--no-window"], work)  # fmt: skip
            run([on_device, "-c", _LOAD, image], work)
    return result


def make_environment(python: str, folder: Path) -> Path:
    """A virtual environment with pip; returns its interpreter."""
    run([python, "-m", "venv", folder], folder.parent)
    return folder / "bin" / "python"


def run(command: list[str | Path], folder: Path) -> float:
    """Run in a cleared environment; returns seconds."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_CLEARED)}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    words = [str(word) for word in command]
    print("$", *words, flush=True)
    start = time.monotonic()
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        preexec_fn=_default_signals,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        done.check_returncode()
    return round(time.monotonic() - start, 1)


def _default_signals() -> None:
    """A job in the background ignores Ctrl-C, and so would what tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def gigabytes(folder: Path) -> float:
    """What `du` counts, hard links once."""
    done = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True)
    return round(int(done.stdout.split()[0]) / 1e6, 2)


def version_of(python: str) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def pythons_here() -> list[str]:
    """Oldest and newest interpreter that the project supports, on PATH or in pyenv."""
    found: dict[tuple[int, int], str] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(11, 15):
        builds = sorted(
            pyenv.glob(f"3.{minor}.*/bin/python"),
            key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])],
        )
        python = str(builds[-1]) if builds else shutil.which(f"python3.{minor}")
        if python:
            found[3, minor] = python
    return [found[min(found)], found[max(found)]] if len(found) > 1 else list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", help="interpreters; default: oldest and newest here")
    parser.add_argument("--torch-backend", default="index", help="see tools/install.sh")
    parser.add_argument("--trials", nargs="*", default=["demo", "check", "wheel"])
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    options = parser.parse_args()
    results = []
    for python in options.pythons or pythons_here():
        work = Path(tempfile.mkdtemp(prefix="okdhp-fresh-"))
        try:
            results.append(try_python(python, options.torch_backend, work, options.trials))
        finally:
            if not options.keep:
                shutil.rmtree(work, ignore_errors=True)
        print(json.dumps(results[-1]), flush=True)
        words = ["PYTHON" if "/" in word else word for word in sys.argv[1:]]
        content = {"command": " ".join(["python", "tools/fresh.py", *words]),
                   "machine": f"{os.cpu_count()} cores, {platform.platform()}",
                   "results": results}  # fmt: skip
        RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
