"""What weights that cannot saturate cost in speed: the same INT8 file with and without the limit.

    python benchmarks/speed/saturation_cost.py --data coco:PATH@all [--models lite full]
        [--rounds 300]

Exports the shipped float weights, quantizes them twice for each runtime, once with scales at which
no pair of u8 x s8 products leaves 16 bits and once at full 8 bits, and times the two in turns. The
result is the median over rounds of the ratio within a round; it goes to
`results/saturation_cost.json`.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.artifacts.model_store import resolve_weights
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import get_profile, open_backend
from okdhp_edge.backends.timing import time_interleaved
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions, prepare_quantization_inputs
from okdhp_edge.quantize.search.plan import Plan
from okdhp_edge.quantize.search.write import write_artifact
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

RESULT = Path(__file__).parent.parent / "results" / "saturation_cost.json"
RUNTIMES = ("openvino", "onnxruntime")


def ratio(safe: Path, full: Path, runtime: str, rounds: int, threads: int) -> float:
    """Time with the limit over time without."""
    loaded = [
        open_backend(runtime, BackendConfig(folder, read_card(folder), "int8", threads))
        for folder in (safe, full)
    ]
    spec = loaded[0].card.input
    shape = (1, spec.height, spec.width, 3)
    crop = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    limited, unlimited = time_interleaved(loaded, crop, rounds)
    for backend in loaded:
        backend.close()
    return float(np.median(np.array(limited) / np.array(unlimited)))


def measure(model: str, data: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        fp32 = export_branch(resolve_weights(model), ExportOptions(out=out, data=data))
        inputs = prepare_quantization_inputs(fp32, QuantizeOptions(data=data))
        for runtime in RUNTIMES:
            wanted = get_profile(runtime)
            folders = (out / f"{runtime}-safe", out / f"{runtime}-full")
            for folder, safe in zip(folders, (True, False), strict=True):
                kind = replace(wanted, saturation_free=safe)
                write_artifact(Plan("moving-average"), kind, inputs, folder)
            rows.append({
                "model": model, "runtime": runtime,
                "time_over_unlimited": round(ratio(*folders, runtime, rounds, threads), 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="KIND:PATH to calibrate on")
    parser.add_argument("--models", nargs="+", default=["lite", "full"])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    rows = [
        row
        for model in asked.models
        for row in measure(model, asked.data, asked.rounds, asked.threads)
    ]
    record = {
        "command": f"python benchmarks/speed/saturation_cost.py --data coco:PATH@all --rounds "
        f"{asked.rounds} --threads {asked.threads}",
        "machine": describe_machine(), "rows": rows,
    }  # fmt: skip
    write_text(RESULT, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
