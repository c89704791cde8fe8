"""What an archive costs: workers against one process, Ray against the pool, memory, kills.

    pip install okdhp-edge[batch,cluster]
    python benchmarks/speed/batch.py --video FILE [--clips 200] [--rounds 2] [--kills 50]
        [--cluster] [--full-size FILE ...] [--only executors cluster long overhead full_size kills]

`--clips` short videos are cut from FILE. Each of these is a process of its own, timed from its
start to its end, in turns: one, two and four workers of one core each; two workers with `full`, in
processes and on a local Ray instance (`--cluster`); `okdhp-edge run` on one video as long as all
clips and `okdhp-edge batch` on it. Memory is that of the whole process tree, sampled once a second.
`--full-size` videos are processed as they are by one worker with `lite` and with `full`: frames per
second, the decoder's share of its time, and the CPU time of a frame. Overhead is what a task costs
that does nothing. `--only` measures some parts anew and keeps the others of the result. CPU seconds
are those of segments, without loading models and without Ray's own processes. `--kills` ends the
driver, or one of its workers, by SIGKILL after a random time and goes on with the same command, as
often as it takes; the tables that come out must equal those of the batch that was left alone.
The result goes to `results/batch.json`.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import psutil
import pyarrow.parquet as pq

from okdhp_edge.data.video import VideoReader
from okdhp_edge.system.executors import make_executor
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

RESULTS = Path(__file__).parent.parent / "results"
CLIP_SIZE = (640, 360)
WORKERS = {"one worker": ["--workers", "1"], "two workers": ["--workers", "2"],
           "four workers": ["--workers", "4"]}  # fmt: skip
CLUSTER = {"processes": ["--workers", "2"], "Ray": ["--workers", "2", "--cluster", "local"]}
SAMPLE_INTERVAL_S, LONGEST_LIFE_S = 1.0, 6.0
SEGMENT_S = 20
FULL_SIZE_ROUNDS, EMPTY_TASKS = 3, 1000
PARTS = ("executors", "cluster", "long", "overhead", "full_size", "kills")


class Run(NamedTuple):
    """How a command ended: its JSON, wall seconds, and the peak memory of its processes in MiB."""

    json: dict[str, Any]
    seconds: float
    peak_mib: float


def cut_clips(video: Path, folder: Path, count: int, frames: int) -> None:
    """Clips of FILE, each from where the one before ended, round and round."""
    capture = cv2.VideoCapture(str(video))
    rate = capture.get(cv2.CAP_PROP_FPS) or 30.0
    for index in range(count):
        writer = _open_writer(folder / f"clip-{index:03}.mp4", rate)
        for _ in range(frames):
            _copy_frame(capture, writer)
        writer.release()


def _open_writer(path: Path, rate: float) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, CLIP_SIZE)


def _copy_frame(capture: cv2.VideoCapture, writer: cv2.VideoWriter) -> None:
    ok, frame = capture.read()
    if not ok:
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        ok, frame = capture.read()
    assert ok
    writer.write(cv2.resize(frame, CLIP_SIZE, interpolation=cv2.INTER_AREA))


def run_command(words: Sequence[str]) -> Run:
    """Run `okdhp-edge` to its end, and watch its memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        _command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch_memory, args=(process.pid, peak), daemon=True)
    watcher.start()
    out, errors = process.communicate()
    seconds = time.perf_counter() - started
    assert process.returncode == 0, errors
    return Run(json.loads(out.splitlines()[-1]), round(seconds, 2), round(peak[0], 1))


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "okdhp_edge", *words]


def _watch_memory(pid: int, peak: list[float]) -> None:
    """Keep the largest sum of a process tree's resident memory, shared pages counted once."""
    while psutil.pid_exists(pid):
        total = 0.0
        for process in _list_tree(pid):
            try:
                total += process.memory_full_info().pss / 2**20
            except (psutil.Error, OSError):
                continue
        peak[0] = max(peak[0], total)
        time.sleep(SAMPLE_INTERVAL_S)


def _list_tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def time_executors(
    clips: Path, out: Path, model: str, kinds: dict[str, list[str]], rounds: int
) -> dict[str, Any]:
    """The same work by workers of one core each, in turns; medians."""
    common = ["--model", model, "--backend", "openvino", "--threads", "1"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, options in kinds.items():
            done = run_command(["batch", str(clips), "--out", str(out / name), *common, *options])
            shutil.rmtree(out / name)
            runs[name].append({
                "seconds": done.seconds, "cpu_s": round(done.json["cpu_s"], 1),
                "work_seconds": done.json["seconds"], "peak_mib": done.peak_mib,
                "frames": done.json["frames"], "persons": done.json["persons"],
                "limit": done.json["limit"],
            })  # fmt: skip
            print(name, json.dumps(runs[name][-1]), flush=True)
    return {name: _take_medians(found) for name, found in runs.items()}


def _take_medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each number; what is equal in all runs stays."""
    values = {key: [run[key] for run in runs] for key in runs[0]}
    return {key: value[0] if len(set(value)) == 1 or isinstance(value[0], str)
            else round(statistics.median(value), 2) for key, value in values.items()}  # fmt: skip


def compare_with_run(long: Path, out: Path, model: list[str], rounds: int = 5) -> dict[str, Any]:
    """Frames per second of `run` and of `batch` on one long video, in turns, as they are when
    nothing is said but the length of a segment."""
    run = ["run", "--source", str(long), "--no-window", "--json", str(out / "poses.jsonl"), *model]
    batch = ["batch", str(long), *model]
    commands = {
        "run": run,
        "batch": batch,
        "batch, segments": [*batch, "--segment-seconds", str(SEGMENT_S)],
    }
    rates: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds):
        for name, words in commands.items():
            place = ["--out", str(out / f"{name}-{turn}")] if words[0] == "batch" else []
            done = run_command([*words, *place])
            rates[name].append(done.json["frames"] / done.seconds)
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def measure_full_size(video: Path, out: Path) -> dict[str, Any]:
    """One worker on a video as it is: frames per second of its own time, and where that went."""
    with closing(VideoReader(video)) as reader:
        first = reader.read()
    assert first is not None, video
    height, width = first.image.shape[:2]
    rows: dict[str, Any] = {}
    for model in ("lite", "full"):
        rates, cpu_ms, busy = [], [], Counter[str]()
        for turn in range(FULL_SIZE_ROUNDS):
            done = run_command(["batch", str(video), "--out", str(out / f"{model}-{turn}"),
                                "--workers", "1", "--threads", "1", "--model", model,
                                "--backend", "openvino"]).json  # fmt: skip
            cpu_ms.append(1e3 * done["cpu_s"] / done["frames"])
            rates.append(done["frames"] / done["work_s"])
            busy.update(done["busy_s"])
        share = busy["decoder"] / sum(busy.values())
        rows[model] = {"fps": round(statistics.median(rates), 1),
                       "cpu_ms_per_frame": round(statistics.median(cpu_ms), 2),
                       "persons_per_frame": round(done["persons"] / done["frames"], 2),
                       "decoder_share": round(share, 2)}  # fmt: skip
        print(video.name, model, json.dumps(rows[model]))
    return {"size": f"{width}x{height}", "models": rows}


def do_nothing(_: int, task: int) -> int:
    """What an empty task does."""
    return task


def measure_overhead(cluster: bool) -> dict[str, float]:
    """Milliseconds that a task costs which does nothing, on two workers."""
    kinds = {"processes": None} | ({"Ray": "local"} if cluster else {})
    found = {}
    for name, address in kinds.items():
        with closing(make_executor(address, 2)) as executor:
            list(executor.run(do_nothing, 0, range(20)))  # workers start
            start = time.perf_counter()
            list(executor.run(do_nothing, 0, range(EMPTY_TASKS)))
            found[name] = round((time.perf_counter() - start) / EMPTY_TASKS * 1e3, 2)
    return found


def kill_at_random(clips: Path, out: Path, model: list[str], kills: int, seed: int) -> int:
    """Go on until nothing is left to do; how often something was killed."""
    chance = random.Random(seed)
    killed = 0
    while True:
        words = ["batch", str(clips), "--out", str(out), "--workers", "2", "--threads", "1", *model]
        process = subprocess.Popen(
            _command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if killed >= kills:
            assert process.wait() == 0
            return killed
        try:
            code = process.wait(timeout=chance.uniform(0.5, LONGEST_LIFE_S))
        except subprocess.TimeoutExpired:
            victim = chance.choice(_list_tree(process.pid))
            victim.kill()
            killed += 1
            if victim.pid != process.pid:
                # The driver goes on with a new pool for a while. Workers of a killed driver end
                # by themselves; the next driver may begin before they have.
                time.sleep(chance.uniform(0, 2))
                process.kill()
            process.wait()
        else:
            # It got to its end: what is left to be killed begins anew.
            assert code == 0, code
            print(f"{killed} kills until all was done; again")
            shutil.rmtree(out)


def kill_and_compare(root: Path, model: list[str], kills: int, seed: int) -> dict[str, int]:
    """What the tables of a batch that was killed and continued differ in from those of another."""
    killed = kill_at_random(root / "clips", root / "killed", model, kills, seed)
    alone = root / "alone"
    run_command(["batch", str(root / "clips"), "--out", str(alone), "--threads", "1", *model])
    return {"kills": killed, "seed": seed} | count_differences(alone, root / "killed")


def count_differences(first: Path, second: Path) -> dict[str, int]:
    """Files that are missing or differ, and frames that are there twice."""
    names = sorted(file.name for file in first.glob("*.parquet"))
    missing = differing = doubled = 0
    for name in names:
        other = second / name
        if not other.is_file():
            missing += 1
            continue
        table = pq.read_table(other)
        differing += not pq.read_table(first / name).equals(table)
        keys = list(zip(table["frame"].to_pylist(), table["person"].to_pylist(), strict=True))
        doubled += len(keys) - len(set(keys))
    left = len(list((second / ".parts").rglob("*.parquet"))) if (second / ".parts").exists() else 0
    return {"files": len(names), "missing": missing, "differing": differing,
            "rows_twice": doubled, "left_behind": left}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=60, help="of a clip")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cluster", action="store_true", help="Ray too")
    parser.add_argument("--full-size", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--rounds", type=int, default=2, help="of executors and cluster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    only = set(options.only) - (set() if options.kills else {"kills"})
    only -= set() if options.cluster else {"cluster"}
    model = ["--model", options.model, "--backend", "openvino"]
    content: dict[str, Any] = {}
    if set(options.only) != set(PARTS) and (RESULTS / "batch.json").is_file():
        content = json.loads((RESULTS / "batch.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for folder in ("clips", "long"):
            (root / folder).mkdir()
        cut_clips(options.video, root / "clips", options.clips, options.frames)
        cut_clips(options.video, root / "long", 1, options.frames * options.clips)
        parts: dict[str, Callable[[], Any]] = {
            "executors": lambda: time_executors(
                root / "clips", root / "out", options.model, WORKERS, options.rounds
            ),
            "cluster": lambda: time_executors(
                root / "clips", root / "out", "full", CLUSTER, options.rounds
            ),
            "long": lambda: compare_with_run(next((root / "long").iterdir()), root, model),
            "overhead": lambda: measure_overhead(options.cluster),
            "full_size": lambda: {
                video.name: measure_full_size(video, root / video.stem)
                for video in options.full_size
            },
            "kills": lambda: kill_and_compare(root, model, options.kills, options.seed),
        }
        content |= {name: parts[name]() for name in PARTS if name in only}
    words = ["FILE" if "/" in word else word for word in sys.argv[1:]]
    command = " ".join(["python", "benchmarks/speed/batch.py", *words])
    commands = content.get("commands", {}) | {name: command for name in PARTS if name in only}
    machine = describe_machine()
    machines = content.get("machines", {}) | {name: machine for name in PARTS if name in only}
    described = {"commands": commands, "machines": machines, "clips": options.clips,
                 "frames_per_clip": options.frames}  # fmt: skip
    write_text(RESULTS / "batch.json", json.dumps(content | described, indent=1) + "\n")
    print(json.dumps(content))


if __name__ == "__main__":
    main()
