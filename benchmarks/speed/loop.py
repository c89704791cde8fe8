"""What the loop loses around the model, and what it withstands.

    python benchmarks/speed/loop.py [--video FILE] [--model models/lite] [--threads N]
        [--only PART ...]

Parts, each of rounds that take turns with what they are compared with:

- throughput: frames per second of `run` on a video file, beside decoding alone and beside
  OpenVINO's own `benchmark_app` on the same model with as many threads;
- live: a synthetic camera at 30 frames a second, and one faster than the model;
- around: what a frame costs outside inference, without drawing, for one person and for eight;
- viewers: throughput with twenty browsers watching, two of which do not read, and without any;
- memory: resident memory over 20,000 frames.

Without `--video` the video is one of the synthetic person, written for the occasion.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.synthetic import SyntheticScene
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.pose.crop import box_around
from okdhp_edge.run.assemble import TrackingConfig, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import SourceRun, run_loop
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.report import RunReport, build_report
from okdhp_edge.run.sinks.base import Sink
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.run.web.hub import Hub
from okdhp_edge.run.web.server import WebServer, parse_address
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine, read_sensors
from okdhp_edge.system.latency import LatencyStats, StageClock, StageLog

RESULT = Path(__file__).parent.parent / "results" / "loop.json"
VIDEO_FRAMES, ROUNDS, BENCHMARK_S = 600, 5, 3
VIEWERS, STALLED = 20, 2
WARMUP = 5
_ONE_PERSON = TrackingConfig(mode="one", detector="none")


def loop(
    source: str,
    backend: Backend,
    sinks: Sequence[Sink] = (),
    hub: Hub | None = None,
    **policy: Any,
) -> RunReport:
    """One run, as the command does it."""
    controls = Controls()
    with ExitStack() as closing:
        feed = SourceRun(open_source(source), list(sinks))
        pipeline = assemble(
            [feed.source], backend, _ONE_PERSON, FramePolicy(**policy), controls, closing
        )
        if hub:
            hub.attach(pipeline, [feed])
        before = read_sensors()
        run_loop(pipeline, [feed], controls)
        after = (before, read_sensors())
        return build_report(feed.source, pipeline.readers[0], feed.stats, backend, "int8", after)


def synthetic_video(path: Path) -> Path:
    scene = SyntheticScene((640, 480))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (640, 480))
    for number in range(VIDEO_FRAMES):
        writer.write(scene.frame(number / 30)[0])
    writer.release()
    return path


def decoding(video: Path) -> float:
    """Frames per second of the source alone."""
    source = open_source(str(video))
    started, frames = time.perf_counter(), 0
    while source.read() is not None:
        frames += 1
    source.close()
    return frames / (time.perf_counter() - started)


def benchmark_app(model: Path, threads: int, streams: int) -> float:
    """Frames per second of OpenVINO's own tool: one request at a time, or two for each stream."""
    words = ["-m", str(model), "-d", "CPU", "-hint", "none", "-nthreads", str(threads),
             "-nstreams", str(streams), "-t", str(BENCHMARK_S), "-infer_precision", "f32",
             "-api", "sync" if streams == 1 else "async"]  # fmt: skip
    program = Path(sys.executable).with_name("benchmark_app")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True)
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    assert found, done.stdout
    return float(found[1])


def in_turns(
    measures: dict[str, Callable[[], float]], rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Each measure once a round; medians and all values."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            values[name].append(round(measure(), 2))
            print(f"round {number + 1}: {name} {values[name][-1]}", file=sys.stderr)
    return {name: {"median": statistics.median(v), "rounds": v} for name, v in values.items()}


def throughput(opened: Callable[[], Backend], model: Path, video: Path, threads: int) -> Any:
    with opened() as backend:
        found = in_turns({
            "decoding": lambda: decoding(video),
            "benchmark_app, one stream": lambda: benchmark_app(model, threads, 1),
            "benchmark_app, a stream a thread": lambda: benchmark_app(model, threads, threads),
            "loop": lambda: loop(str(video), backend).fps,
        })  # fmt: skip
        stages = {n: s.to_dict() for n, s in loop(str(video), backend).stages.items()}
    medians = {name: values["median"] for name, values in found.items()}
    best = max(value for name, value in medians.items() if name.startswith("benchmark_app"))
    share = medians["loop"] / min(medians["decoding"], best)
    return {"fps": found, "share_of_the_slower": round(share, 3), "stages_ms": stages}


def live(opened: Callable[[], Backend]) -> Any:
    with opened() as backend:
        model = []
        crop = np.zeros((1, backend.card.input.height, backend.card.input.width, 3), np.uint8)
        for _ in range(300):
            started = time.perf_counter_ns()
            backend.infer(crop)
            model.append(time.perf_counter_ns() - started)
            time.sleep(1 / 60)  # as seldom as a camera's frames: clocks and caches cool as much
        at_30 = loop("synthetic:900@30", backend)
        fast = loop("synthetic:10000@2000", backend)
    ages = fast.samples_ms["frame age"]
    tenth = len(ages) // 10
    assert at_30.frame_age
    assert fast.frame_age
    return {
        "model_p95_ms": round(LatencyStats.of(model).p95, 3),
        "at_30": {"frames": at_30.frames, "dropped": at_30.dropped,
                  "frame_age_ms": at_30.frame_age.to_dict()},
        "faster_than_the_model": {
            "captured": fast.captured, "shown": fast.frames, "dropped": fast.dropped,
            "unseen_at_the_end": fast.unprocessed, "frame_age_ms": fast.frame_age.to_dict(),
            "median_age_of_first_tenth_ms": round(statistics.median(ages[:tenth]), 3),
            "median_age_of_last_tenth_ms": round(statistics.median(ages[-tenth:]), 3),
        },
    }  # fmt: skip


def around(opened: Callable[[], Backend]) -> Any:
    """A frame with one box and with eight, in turns of twenty: the two models of a batch of one
    and of eight are in each other's way in the caches."""
    frame, xy = SyntheticScene((1280, 720)).frame(0.0)
    boxes = [box_around(xy) + np.array([5.0 * i, 0, 0, 0]) for i in range(8)]
    logs = {1: StageLog(), 8: StageLog()}
    whole: dict[int, list[int]] = {1: [], 8: []}
    with opened() as backend:
        clock = StageClock()
        estimator = PoseEstimator(backend, clock)
        estimator.warm_up(8)
        for number in range(40 * 20):
            people = 1 if number // 20 % 2 else 8
            started = clock.now()
            estimator.estimate_many(frame, boxes[:people])
            stages, took = clock.take(), clock.now() - started
            if number % 20 >= WARMUP:
                logs[people].add(stages)
                whole[people].append(took)
    found: dict[str, Any] = {}
    for people, log in logs.items():
        total = LatencyStats.of(whole[people])
        infer = log.series["infer"].stats()
        found[f"people_{people}"] = {
            "frame_ms": total.to_dict(),
            "infer_ms": infer.to_dict(),
            "around_p50_ms_per_person": round((total.p50 - infer.p50) / people, 4),
        }
    eight, one = (found[f"people_{n}"]["frame_ms"]["p50"] for n in (8, 1))
    return found | {"eight_cost_times_one": round(eight / one, 2)}


_VIEWER = """
import socket, sys, threading, time
port, readers, stalled = (int(word) for word in sys.argv[1:])
def connect():
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    one.sendall(b"GET /video/0 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    return one
def read(one):
    while one.recv(65536):
        pass
keep = [connect() for _ in range(stalled)]
for _ in range(readers):
    threading.Thread(target=read, args=(connect(),), daemon=True).start()
print("watching", flush=True)
sys.stdin.read()
"""


def viewers(opened: Callable[[], Backend], video: Path) -> Any:
    """Served in both cases; watched, in a process apart, in one."""

    def served(readers: int, stalled: int) -> float:
        hub = Hub(Controls(), ["video"])
        with WebServer(hub, parse_address("0")) as server:
            words = [sys.executable, "-c", _VIEWER]
            words += [str(n) for n in (server.address.port, readers, stalled)]
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            try:
                return loop(str(video), backend, hub.channels, hub).fps
            finally:
                process.stdin.close()
                process.wait(10)

    with opened() as backend:
        found = in_turns({
            "none": lambda: served(0, 0),
            f"{VIEWERS}, {STALLED} of them stalled": lambda: served(VIEWERS - STALLED, STALLED),
        }, rounds=2 * ROUNDS)  # fmt: skip
    watched, alone = (values["median"] for values in reversed(found.values()))
    return {"fps": found, "share": round(watched / alone, 3)}


def memory(opened: Callable[[], Backend], frames: int = 20_000) -> Any:
    class DetectionScheduler:
        """Resident memory, every 500 frames."""

        wants_image = False

        def __init__(self) -> None:
            self.mib: list[float] = []

        def write(self, result: Any, annotated: Any) -> bool:  # noqa: ARG002
            if result.frame.number % 500 == 0:
                pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
                self.mib.append(round(pages * 4096 / 2**20, 1))
            return True

        def close(self, *, success: bool) -> None:
            pass

    scheduler = DetectionScheduler()
    with opened() as backend:
        loop(f"synthetic:{frames}@100000", backend, [scheduler], live=False)
    settled = scheduler.mib[len(scheduler.mib) // 10 :]
    return {"frames": frames, "mib": scheduler.mib, "range_after_the_first_tenth_mib":
            round(max(settled) - min(settled), 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="What the loop loses around the model.")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+")
    asked = parser.parse_args()
    folder = model_store.find_artifact(model_store.resolve_model(asked.model), "openvino", "int8")
    card = read_card(folder)

    def opened() -> Backend:
        return open_backend("openvino", BackendConfig(folder, card, "int8", asked.threads))

    cv2.setNumThreads(asked.threads)
    with tempfile.TemporaryDirectory() as place:
        video = asked.video or synthetic_video(Path(place) / "person.mp4")
        parts: dict[str, Callable[[], Any]] = {
            "throughput": lambda: throughput(
                opened, folder / card.model_file, video, asked.threads
            ),
            "live": lambda: live(opened),
            "around": lambda: around(opened),
            "viewers": lambda: viewers(opened, video),
            "memory": lambda: memory(opened),
        }
        kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
        # Beside each part what it was measured with: another one may be older.
        circumstances = {
            "command": " ".join(["python", "benchmarks/speed/loop.py", *sys.argv[1:]]),
            "video": asked.video.name if asked.video else "synthetic, 640x480",
            "model": f"{card.name} {card.files[card.model_file][:12]}", "threads": asked.threads,
            "machine": describe_machine(),
        }  # fmt: skip
        for name in asked.only or parts:
            print(f"== {name}", file=sys.stderr)
            kept[name] = parts[name]()
            kept["measured"] = kept.get("measured", {}) | {name: circumstances}
    write_text(RESULT, json.dumps(kept, indent=2) + "\n")
    print(json.dumps(kept, indent=2))


if __name__ == "__main__":
    main()
