"""INT8 against FP32 and BF16, per runtime, side by side in one run.

    python benchmarks/speed/int8.py --threads 2

Networks at the sizes that are deployed. A network's speed does not depend on its weights, so those
without a trained model at hand are untrained; `--model NAME=FOLDER` puts a trained one's artifacts
(a folder with fp32/ and int8/) in the place of NAME, and its cards say what INT8 costs in accuracy.
Medians over rounds that go round all candidates of one network; the result goes to
`results/int8.json`.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import ModelCard, SkeletonSpec, compute_sha256, read_card, write_card
from okdhp_edge.artifacts.model_store import find_artifact
from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import get_backend_class, get_profile, open_backend
from okdhp_edge.backends.timing import ROUND, time_interleaved
from okdhp_edge.errors import BackendError
from okdhp_edge.export.strip import strip
from okdhp_edge.export.to_onnx import simplify, write_onnx
from okdhp_edge.network.branches import eval_mode
from okdhp_edge.network.build import build_network, count_macs
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.quantize.graph import openvino, strongly_typed
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.quantize.ranges.statistics import observe_input_range
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import LatencyStats

RESULT = Path(__file__).parent.parent / "results" / "int8.json"
LITE = {"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
        "branches": [1], "aggregation": "mean"}  # fmt: skip
HOURGLASS = {"kind": "hourglass", "width": 256, "shared_stacks": 2, "branches": [2],
             "aggregation": "mean"}  # fmt: skip
NETWORKS: dict[str, tuple[dict[str, Any], int, int]] = {
    # network, side of the crop, timed runs
    "lite-128": (LITE, 128, 1500),
    "lite-256": (LITE, 256, 600),
    "hourglass-4-256": (HOURGLASS, 256, 50),
}
CANDIDATES = (
    ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
    ("onnxruntime", "fp32"), ("onnxruntime", "int8"),
)  # fmt: skip
ON_GPU = (("tensorrt", "fp32"), ("tensorrt", "int8"))


class Reach(NamedTuple):
    """Ratios of medians that the project wants."""

    numerator: tuple[str, str]
    denominator: tuple[str, str]
    at_least: dict[str, float]


REACH = {
    "openvino int8 over fp32": Reach(("openvino", "fp32"), ("openvino", "int8"),
                                     {"lite-128": 2.8, "lite-256": 2.8, "hourglass-4-256": 4.0}),
    "openvino int8 over bf16": Reach(("openvino", "bf16"), ("openvino", "int8"),
                                     {"lite-128": 1.3, "lite-256": 1.3}),
    "onnxruntime int8 over fp32": Reach(("onnxruntime", "fp32"), ("onnxruntime", "int8"),
                                        {"lite-128": 2.3, "lite-256": 2.3, "hourglass-4-256": 2.5}),
}  # fmt: skip


def main(
    threads: Annotated[int, typer.Option(min=1)] = 2,
    model: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER")] = None,
    only: Annotated[str, typer.Option(help="Comma-separated names; empty: all.")] = "",
    gpu: Annotated[bool, typer.Option(help="TensorRT on the GPU instead of the CPU.")] = False,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
) -> None:
    """Time every candidate of every network."""
    trained = dict(entry.split("=", 1) for entry in model or [])
    rows = []
    for name, (network, side, runs) in NETWORKS.items():
        if only and name not in only.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(trained[name]) if name in trained else _made(network, side, Path(folder))
            row: dict[str, Any] = {"network": name, "trained": name in trained}
            row |= _timed(path, name, runs, None if gpu else threads, ON_GPU if gpu else CANDIDATES)
            row |= {"gmacs": _macs(network, side) / 1e9}
        rows.append(row)
        print(json.dumps(row, indent=1))
    content = {
        "command": " ".join(
            ["python benchmarks/speed/int8.py", f"--threads {threads}"]
            + [f"--model {entry}" for entry in model or []] + ([f"--only {only}"] if only else [])
            + (["--gpu"] if gpu else [])
        ),
        "machine": describe_machine(),
        "threads": threads, "networks": rows,
    }  # fmt: skip
    write_text(out, json.dumps(content, indent=1) + "\n")


def _recipe(network: dict[str, Any], side: int) -> Recipe:
    return Recipe.model_validate(
        {"name": "bench", "network": network, "input": {"size": [side, side]},
         "distillation": {"method": "supervised"}}
    )  # fmt: skip


def _macs(network: dict[str, Any], side: int) -> int:
    net = build_network(_recipe(network, side).network, 14, load_encoder=False).eval()
    return count_macs(net, torch.zeros(1, side, side, 3, dtype=torch.uint8))


def _made(network: dict[str, Any], side: int, folder: Path) -> Path:
    """The artifacts of an untrained network whose batch norms have seen some pictures."""
    recipe = _recipe(network, side)
    torch.manual_seed(0)
    net = build_network(recipe.network, 14, load_encoder=False).train()
    for crops in _pictures(side, batches=3):
        net(torch.from_numpy(crops))
    fp32 = folder / "fp32"
    fp32.mkdir()
    with eval_mode(net):
        net.eval()
        write_onnx(strip(net, recipe.network, 0), recipe.input_spec(), fp32 / "model.onnx", 1)
    simplify(fp32 / "model.onnx", 1)
    _card(recipe, fp32, "float", "onnx")
    source_sha256 = compute_sha256(fp32 / "model.onnx")
    calibration = [crop[:1] for crop in _pictures(side, batches=4)]
    source = fp32 / "model.onnx"
    ranges = compute_ranges(observe(source, calibration), "moving-average") | observe_input_range(
        source
    )
    for name in ("onnxruntime", "openvino", "tensorrt"):
        target = folder / "int8" / name
        target.mkdir(parents=True)
        write_qdq(source, target / "model.onnx", ranges, get_profile(name))
        if name == "tensorrt":
            strongly_typed.to_strongly_typed(target / "model.onnx")
        if name == "openvino":
            openvino.convert(target / "model.onnx", target / "model.xml")
        _card(recipe, target, name, "openvino" if name == "openvino" else "onnx", source_sha256)
    return folder


def _pictures(side: int, batches: int) -> Iterator[NDArray[np.uint8]]:
    """Noise of several scales: smooth enough to leave channels different."""
    rng = np.random.default_rng(0)
    for _ in range(batches):
        coarse = rng.integers(0, 256, (4, side // 8, side // 8, 3))
        yield coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def _card(
    recipe: Recipe, folder: Path, profile_: str, format_: str, source_sha256: str | None = None
) -> None:
    name = "model.xml" if format_ == "openvino" else "model.onnx"
    write_card(ModelCard.model_validate({
        "name": "bench", "format": format_, "profile": profile_,
        "precision": "fp32" if profile_ == "float" else "int8",
        "input": recipe.input_spec().model_dump(), "decoder": recipe.decoder_spec().model_dump(),
        "skeleton": SkeletonSpec.of(LSP14).model_dump(),
        "files": {name: compute_sha256(folder / name)},
        "model_file": name, "branch": 0, "parent_sha256": "",
        "float_sha256": source_sha256, "training_data": "none",
        "terms": "untrained", "command": "", "version": "",
    }), folder)  # fmt: skip


def _timed(
    path: Path, name: str, runs: int, threads: int | None, candidates: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    loaded: dict[tuple[str, str], Backend] = {}
    cards = {}
    for backend, precision in candidates:
        folder = find_artifact(path, backend, precision)
        cards[backend, precision] = read_card(folder)
        request = BackendConfig(folder, cards[backend, precision], precision, threads)
        try:
            loaded[backend, precision] = open_backend(backend, request)
        except BackendError as error:
            print(f"left out: {error}")
    spec = next(iter(cards.values())).input
    crops = np.stack([c[0] for c in _pictures(max(spec.size), batches=4)])
    samples = time_interleaved(list(loaded.values()), crops[:, : spec.height, : spec.width], runs)
    rows = [
        {
            "backend": backend, "precision": precision,
            "runs": loaded[backend, precision].describe().precision,
            "latency_ms": LatencyStats.of(ns).to_dict(),
            "metric": _metric(cards[backend, precision]),
            "by_kind_ms": _by_kind(path, backend, precision, threads or 1)
            if backend != "tensorrt" else {},
        }
        for (backend, precision), ns in zip(loaded, samples, strict=True)
    ]  # fmt: skip
    for backend_ in loaded.values():
        backend_.close()
    return {"rows": rows, "ratios": _ratios(dict(zip(loaded, samples, strict=True)), name)}


def _by_kind(path: Path, backend: str, precision: str, threads: int) -> dict[str, float]:
    """Where the time goes: the runtime's own counters, added up by kind of layer."""
    folder = find_artifact(path, backend, precision)
    card = read_card(folder)
    crop = np.zeros((1, card.input.height, card.input.width, 3), dtype=np.uint8)
    request = BackendConfig(folder, card, precision, threads)
    times: defaultdict[str, float] = defaultdict(float)
    for layer in get_backend_class(backend).layer_times(request, crop):
        times[layer.kind] += layer.us / 1e3
    longest = sorted(times.items(), key=lambda item: -item[1])[:8]
    return {kind: round(ms, 3) for kind, ms in longest}


def _metric(card: ModelCard) -> dict[str, Any] | None:
    return card.metrics[0].model_dump() if card.metrics else None


def _ratios(samples: dict[tuple[str, str], list[int]], name: str) -> dict[str, dict[str, Any]]:
    """Medians over rounds of the ratio of a round's medians: what slows the machine down for a
    while slows both down, so it cancels."""
    rounds = {key: np.median(np.reshape(ns, (-1, ROUND)), axis=1) for key, ns in samples.items()}
    found: dict[str, dict[str, Any]] = {}
    for title, reach in REACH.items():
        if reach.numerator in rounds and reach.denominator in rounds:
            each = rounds[reach.numerator] / rounds[reach.denominator]
            quarters = np.percentile(each, [25, 50, 75]).round(2).tolist()
            found[title] = {"ratio": quarters[1], "quartiles": [quarters[0], quarters[2]],
                            "wanted": reach.at_least.get(name)}  # fmt: skip
    return found


if __name__ == "__main__":
    typer.run(main)
