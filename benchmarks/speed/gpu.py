"""All that needs an NVIDIA GPU, in one command and under ten minutes.

    make gpu DATA=coco:PATH@all
    python benchmarks/speed/gpu.py --data coco:PATH@all [--video FILE]
        [--engines FOLDER] [--out FOLDER]

On a bare machine: Python 3.11 or newer, a CUDA build of torch, and `pip install .[all,tensorrt]`.
Each step is a command of its own with a limit; one that fails or takes too long does not keep the
others from running. `--out` gets a log for each step and `gpu.json`: what ran, on what, and what
came of it.

1. what the machine is (`doctor`);
2. the backends' contract tests with TensorRT among them;
3. `lite` and `full`: export from the shipped weights, INT8 for TensorRT, an engine built here;
4. engines that were built elsewhere with `--sm` (`--engines` holds MODEL-PRECISION.engine files);
5. joints of each engine against PyTorch, and of INT8 against its Q/DQ file on the CPU;
6. `bench` of both models, and the 4-stack hourglass, in FP32 and in INT8 with an FP16 remainder;
7. `run` on a video; 8. a training step of the published 4-stack OKDHP.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

HERE = Path(__file__).parent
MODELS = ("lite", "full")


class Step(NamedTuple):
    """A command; `limit_s` ends it."""

    name: str
    command: tuple[str, ...]
    limit_s: int


def steps(options: argparse.Namespace) -> list[Step]:
    work = options.out / "models"
    ours = (sys.executable, "-m", "okdhp_edge")
    found = [
        Step("doctor", (*ours, "doctor"), 30),
        Step("contract", (sys.executable, "-m", "pytest", "-q", "tests/backends"), 120),
    ]
    for model in MODELS:
        weights = str(HERE.parents[1] / "models" / model / "weights.safetensors")
        folder = str(work / model)
        found += [
            Step(f"export-{model}", (
                *ours, "export", weights, "--int8", "--profile", "tensorrt", "--data", options.data,
                "--calibration", options.data, "--out", folder,
            ), 120),
            Step(f"joints-{model}", (
                sys.executable, str(HERE / "gpu_joints.py"), folder, options.data,
                *((str(options.engines),) if options.engines else ()),
            ), 90),
            Step(f"bench-{model}", (
                *ours, "bench", "--model", folder, "--data", options.data, "--out",
                str(options.out / f"bench-{model}"),
            ), 90),
        ]  # fmt: skip
    found += [
        Step("hourglass", (
            sys.executable, str(HERE / "int8.py"), "--gpu", "--only", "hourglass-4-256", "--out",
            str(options.out / "hourglass.json"),
        ), 120),
        Step("training-step", (
            sys.executable, str(HERE / "training_step.py"), "--device", "cuda", "--batch", "16",
            "--out", str(options.out / "training_step.json"),
        ), 90),
    ]  # fmt: skip
    if options.video:
        found.append(Step("run", (
            *ours, "run", "--source", str(options.video), "--model", str(work / "lite"),
            "--backend", "tensorrt", "--report", str(options.out / "run.json"), "--no-window",
        ), 90))  # fmt: skip
    return found


def carried_out(step: Step, out: Path) -> dict[str, Any]:
    """Run it; the log is kept, and its last line where that is JSON."""
    log = out / f"{step.name}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                step.command, stdout=file, stderr=subprocess.STDOUT, timeout=step.limit_s,
                cwd=HERE.parents[1], check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = 124
    record = {"step": step.name, "exit": code, "seconds": round(time.monotonic() - started, 1)}
    return record | {"result": _last_json(log)}


def _last_json(log: Path) -> Any:
    for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                return None
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="KIND:PATH[@SPLIT] to evaluate on")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--engines", type=Path, help="folder of engines built elsewhere")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "gpu")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for step in steps(options):
        rows.append(carried_out(step, options.out))
        print({k: rows[-1][k] for k in ("step", "exit", "seconds")}, flush=True)
        record = {"command": "make gpu DATA=coco:PATH@all", "machine": describe_machine(),
                  "steps": rows}  # fmt: skip
        write_text(options.out / "gpu.json", json.dumps(record, indent=1) + "\n")
    failed = [row["step"] for row in rows if row["exit"]]
    told = f"; failed: {', '.join(failed)}" if failed else ""
    print(f"{len(rows) - len(failed)} of {len(rows)} steps passed{told}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
