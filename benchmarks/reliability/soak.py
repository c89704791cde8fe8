"""A run for an hour: memory, descriptors and threads must stay flat.

    make soak
    python benchmarks/reliability/soak.py [--seconds 3600]

Starts `okdhp-edge run` at 30 frames a second with a page, JSON lines, a video and a report in a
process of its own, and samples it every two seconds. What grows is the median of the last tenth
less that of the second tenth (the first is the warm-up). Counts go to `results/reliability.json`.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from counts import RESULT, record
from web_load import FPS, frames, running

EVERY_S = 2.0


class Reading(NamedTuple):
    """What the process holds at a time."""

    memory_mib: float
    descriptors: int
    threads: int


def measure(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outputs = ("--json", str(folder / "poses.jsonl"), "--save", str(folder / "out.mkv"),
                   "--report", str(folder / "report.json"))  # fmt: skip
        readings: list[Reading] = []
        with running("--source", f"synthetic:10000000@{FPS}", *outputs) as (process, port):
            first, started = frames(port) or 0, time.monotonic()
            while time.monotonic() - started < seconds:
                memory = process.memory_info().rss / 2**20
                readings.append(Reading(memory, process.num_fds(), process.num_threads()))
                time.sleep(EVERY_S)
            rate = ((frames(port) or 0) - first) / (time.monotonic() - started)
        lines = sum(1 for _ in (folder / "poses.jsonl").open("rb"))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds, "frames_a_second": round(rate, 2), "json_lines": lines,
        "frames_of_report": report["frames"],
    } | grown(readings)  # fmt: skip


def grown(readings: list[Reading]) -> dict[str, Any]:
    tenth = max(1, len(readings) // 10)
    early, late = readings[tenth : 2 * tenth], readings[-tenth:]
    return {
        f"{field}_added": round(
            statistics.median(getattr(r, field) for r in late)
            - statistics.median(getattr(r, field) for r in early),
            2,
        )
        for field in Reading._fields
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to add the counts to.")
    asked = parser.parse_args()
    command = f"python benchmarks/reliability/soak.py --seconds {asked.seconds:g}"
    found = {"command": command} | measure(asked.seconds)
    print(json.dumps(found))
    record("soak", found, asked.out)


if __name__ == "__main__":
    main()
