"""What surrounds the network: start, single calls, memory, before and after a change.

    python benchmarks/speed/start.py [--before REVISION] [--rounds 9]

Each measurement is a process of its own, with the code of this checkout and with that of REVISION
(default: HEAD) in turns; medians go into `results/start.json`. The cache folder is the benchmark's
own, and each measurement is made once before it counts, so that what is remembered is there.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent.parent / "results" / "start.json"
IMAGE = ROOT / "docs" / "person.jpg"
VIDEO_FRAMES = 300

_LOAD = """
import okdhp_edge, time
start = time.perf_counter()
okdhp_edge.load("lite")
print(time.perf_counter() - start)
"""
# Milliseconds of a call on an image that is there already, and of its networks alone: in turns, as
# in a call, since a network that runs again and again finds its weights in the cache.
_CALL = """
import cv2, numpy as np, okdhp_edge, sys, time
model = okdhp_edge.load("lite", backend="openvino", precision="int8")
image = cv2.imread(sys.argv[1])
def timed(*calls):
    samples = []
    for _ in range(60):
        row = [time.perf_counter()]
        for call, argument in calls:
            call(argument)
            row.append(time.perf_counter())
        samples.append(np.diff(row))
    return 1e3 * np.median(samples[10:], axis=0)
def network(backend):
    spec = backend.card.input
    return backend.infer_all, np.zeros((1, spec.height, spec.width, 3), np.uint8)
(call,) = timed((model, image))
detect = getattr(model, "_detect", None)  # opened by the first call
first, pose = timed(network(detect._backend if detect else model._backend), network(model._backend))
print(call, pose, first)
"""
_BATCH = """
import numpy as np, okdhp_edge, os, statistics, time
def timed(threads, count):
    model = okdhp_edge.load("lite", backend="openvino", precision="int8", threads=threads)
    backend = model._backend
    spec = backend.card.input
    crops = np.random.default_rng(0).integers(0, 255, (8, spec.height, spec.width, 3), np.uint8)
    samples = []
    for _ in range(60):
        start = time.perf_counter()
        backend.infer_all(crops[:count])
        samples.append(time.perf_counter() - start)
    return statistics.median(samples[10:])
cores = len(os.sched_getaffinity(0))
single = timed(cores, 1)
print(timed(cores, 8) / single, 8 * timed(1, 1) / cores / single)
"""


class Code:
    """A checkout's code, run with this interpreter."""

    def __init__(self, root: Path, cache: Path) -> None:
        self._environment = os.environ | {"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(cache)}
        # As on an ordinary machine: compiled once.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, *words: str) -> tuple[str, float, float]:
        """Standard output, wall seconds and peak megabytes of `python WORDS`."""
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-P", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=self._environment, text=True,
        ) as process:  # fmt: skip
            output = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{words} failed with {process.returncode}")
        return output, seconds, _megabytes(usage)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def measurements(scratch: Path, video: Path) -> dict[str, Callable[[Code], float]]:
    """Each row of the table, and how it is measured."""
    picture = ("-m", "okdhp_edge", "run", "--source", str(IMAGE), "--no-window", "--model", "lite",
               "--save", str(scratch / "out.jpg"))  # fmt: skip
    film = ("-m", "okdhp_edge", "run", "--source", str(video), "--no-window", "--model", "lite")
    call = ("-c", _CALL, str(IMAGE))

    def numbers(code: Code, *words: str) -> list[float]:
        return [float(word) for word in code.run(*words)[0].split()]

    def measure_call_overhead(code: Code) -> float:
        whole, *networks = numbers(code, *call)
        return whole - sum(networks)

    return {
        "run_image_s": lambda code: code.run(*picture)[1],
        "load_s": lambda code: float(code.run("-c", _LOAD)[0]),
        "call_ms": lambda code: numbers(code, *call)[0],
        "pose_network_ms": lambda code: numbers(code, *call)[1],
        "call_over_networks_ms": measure_call_overhead,
        "batch_of_eight_in_singles": lambda code: numbers(code, "-c", _BATCH)[0],
        "limit_of_eight_in_singles": lambda code: numbers(code, "-c", _BATCH)[1],
        "run_video_mb": lambda code: code.run(*film)[2],
        "help_s": lambda code: code.run("-m", "okdhp_edge", "--help")[1],
    }


def measure(before: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians by row, before and after, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        codes = {"before": Code(before, scratch / "old"), "after": Code(ROOT, scratch / "new")}
        video = scratch / "video.mp4"
        codes["after"].run("-m", "okdhp_edge", "run", "--source", f"synthetic:{VIDEO_FRAMES}",
                           "--model", "lite", "--no-window", "--save", str(video))  # fmt: skip
        rows = {}
        for name, row in measurements(scratch, video).items():
            samples: dict[str, list[float]] = {when: [] for when in codes}
            for turn in range(rounds + 1):
                for when, code in codes.items():
                    value = row(code)
                    if turn:  # the first fills caches
                        samples[when].append(value)
            rows[name] = {w: round(statistics.median(v), 3) for w, v in samples.items()}
            print(name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="HEAD", help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        archive = subprocess.run(
            ["git", "archive", options.before], cwd=ROOT, capture_output=True, check=True
        ).stdout
        before.mkdir()
        subprocess.run(["tar", "-x", "-C", str(before)], input=archive, check=True)
        everywhere = os.sched_getaffinity(0)
        rows = measure(before, options.rounds)
        os.sched_setaffinity(0, {min(everywhere)})  # the processes that are started inherit it
        rows_on_one_core = measure(before, options.rounds)
        os.sched_setaffinity(0, everywhere)
    content: dict[str, Any] = {
        "command": f"python benchmarks/speed/start.py --before {options.before} "
        f"--rounds {options.rounds}",
        "machine": describe_machine(), "rows": rows, "rows_on_one_core": rows_on_one_core,
    }  # fmt: skip
    write_text(RESULT, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
