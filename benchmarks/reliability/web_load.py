"""A run whose page is under load: does the loop keep its rate, does memory stay?

    python benchmarks/reliability/web_load.py [--silent 500] [--viewers 200]
        [--seconds 15] [--rounds 3]

Starts `okdhp-edge run` at 30 frames a second with `--web` in a process of its own. In turns nobody
is there, then `--silent` clients that connect and send nothing and `--viewers` who watch the
picture. Frames done are counted by the run's own `/metrics`. The rate is the median of the ratios
within a round; memory is the resident set, the largest under load less the largest before. Counts
go to `results/reliability.json`.
"""

import argparse
import contextlib
import json
import re
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from counts import RESULT, record

FPS = 30
_REQUEST = "GET /video/0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[psutil.Process, int]]:
    """A run with a page; its process and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "okdhp_edge", "run", "--no-window", "--web", str(port), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while frames(port) is None:
            if child.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the run does not start (exit code {child.poll()})")
            time.sleep(0.2)
        yield psutil.Process(child.pid), port
    finally:
        child.terminate()
        child.wait(30)


def frames(port: int) -> int | None:
    """Frames done so far, by the run's metrics; None where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = re.search(
                r"^okdhp_edge_frames_total\S* ([\d.e+]+)", answer.read().decode(), re.MULTILINE
            )
    except OSError:
        return None
    return int(float(found[1])) if found else None


class Crowd:
    """Clients: some say nothing, some watch. Use as a context manager."""

    def __init__(self, port: int, silent: int, viewers: int) -> None:
        self._sockets = [self._connected(port) for _ in range(silent)]
        self._watched = selectors.DefaultSelector()
        for _ in range(viewers):
            viewer = self._connected(port)
            viewer.sendall(_REQUEST.format(port=port).encode())
            viewer.setblocking(False)
            self._watched.register(viewer, selectors.EVENT_READ)
            self._sockets.append(viewer)
        self.received = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    @staticmethod
    def _connected(port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def _read(self) -> None:
        while not self._over.is_set():
            for key, _ in self._watched.select(0.2):
                with contextlib.suppress(OSError):
                    self.received += len(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]
            time.sleep(0.01)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for client in self._sockets:
            client.close()


def rate(process: psutil.Process, port: int, seconds: float) -> tuple[float, int]:
    """Frames a second over this time, and the largest resident set in bytes."""
    first, started, memory = frames(port), time.monotonic(), 0
    while time.monotonic() - started < seconds:
        memory = max(memory, process.memory_info().rss)
        time.sleep(0.5)
    last, ended = frames(port), time.monotonic()
    if first is None or last is None:
        raise SystemExit("the run no longer answers")
    return (last - first) / (ended - started), memory


def measure(silent: int, viewers: int, seconds: float, rounds: int) -> dict[str, Any]:
    ratios, quiet_memory, loaded_memory, received = [], 0, 0, 0
    with running("--source", f"synthetic:1000000@{FPS}") as (process, port):
        rate(process, port, 3)
        for _ in range(rounds):
            quiet, memory = rate(process, port, seconds)
            quiet_memory = max(quiet_memory, memory)
            with Crowd(port, silent, viewers) as crowd:
                loaded, memory = rate(process, port, seconds)
                loaded_memory = max(loaded_memory, memory)
                received += crowd.received
            ratios.append(loaded / quiet)
            time.sleep(2)
        left = process.num_fds()
    return {
        "silent": silent, "viewers": viewers, "rate": round(statistics.median(ratios), 4),
        "lowest_rate": round(min(ratios), 4),
        "memory_added_mib": round((loaded_memory - quiet_memory) / 2**20, 1),
        "received_mib": round(received / 2**20, 1), "descriptors_after": left,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--silent", type=int, default=500)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to add the counts to.")
    asked = parser.parse_args()
    command = (f"python benchmarks/reliability/web_load.py --silent {asked.silent} "
               f"--viewers {asked.viewers} "
               f"--seconds {asked.seconds:g} --rounds {asked.rounds}")  # fmt: skip
    found = {"command": command} | measure(asked.silent, asked.viewers, asked.seconds, asked.rounds)
    print(json.dumps(found))
    record("web", found, asked.out)


if __name__ == "__main__":
    main()
