"""INT8 against FP32 and BF16, per runtime, side by side in one run.

    python benchmarks/speed/int8.py --threads 2

The shipped models as they are (in float as their weights export), whose cards say what INT8 costs
in accuracy, and an hourglass, untrained, since speed does not depend on weights. Medians over
rounds that go round all candidates of one network; the result goes to `results/int8.json`.
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

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import ModelCard, SkeletonSpec, compute_sha256, read_card, write_card
from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import get_backend_class, get_profile, open_backend
from okdhp_edge.backends.timing import ROUND, time_interleaved
from okdhp_edge.errors import BackendError
from okdhp_edge.export.strip import strip
from okdhp_edge.export.to_onnx import simplify, write_onnx
from okdhp_edge.network.branches import PoseNet, eval_mode
from okdhp_edge.network.build import build_network, count_macs
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.quantize.graph import openvino, strongly_typed
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.quantize.ranges.statistics import observe_input_range
from okdhp_edge.recipe.checkpoint import load_net, read_info
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import LatencyStats

RESULT = Path(__file__).parent.parent / "results" / "int8.json"
HOURGLASS = {"kind": "hourglass", "width": 256, "shared_stacks": 2, "branches": [2],
             "aggregation": "mean"}  # fmt: skip
HOURGLASS_SIDE = 256
HOURGLASS_NAME = "hourglass-4-256"
RUNS = {"lite": 1500, "full": 900, HOURGLASS_NAME: 50}
"""Timed runs of each network."""
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
                                     {"lite": 2.8, "full": 2.8, HOURGLASS_NAME: 4.0}),
    "openvino int8 over bf16": Reach(("openvino", "bf16"), ("openvino", "int8"),
                                     {"lite": 1.3, "full": 1.3}),
    "onnxruntime int8 over fp32": Reach(("onnxruntime", "fp32"), ("onnxruntime", "int8"),
                                        {"lite": 2.3, "full": 2.3, HOURGLASS_NAME: 2.5}),
}  # fmt: skip


class Candidate(NamedTuple):
    """A network to time: where its float and its INT8 artifacts are, and what it is made from."""

    float_folder: Path
    int8_folder: Path
    recipe: Recipe
    channels: int


def main(
    threads: Annotated[int, typer.Option(min=1)] = 2,
    only: Annotated[str, typer.Option(help="Comma-separated names; empty: all.")] = "",
    gpu: Annotated[bool, typer.Option(help="TensorRT on the GPU instead of the CPU.")] = False,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
) -> None:
    """Time every candidate of every network."""
    rows = []
    for name, runs in RUNS.items():
        if only and name not in only.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            shipped = name != HOURGLASS_NAME
            found = _read_shipped(name, Path(folder)) if shipped else _make_hourglass(Path(folder))
            width, height = found.recipe.input.size
            row: dict[str, Any] = {"network": name, "size": [width, height], "trained": shipped}
            row |= _timed(
                found, name, runs, None if gpu else threads, ON_GPU if gpu else CANDIDATES
            )
            row |= {"gmacs": _count_macs(found) / 1e9}
        rows.append(row)
        print(json.dumps(row, indent=1))
    content = {
        "command": " ".join(
            ["python benchmarks/speed/int8.py", f"--threads {threads}"]
            + ([f"--only {only}"] if only else []) + (["--gpu"] if gpu else [])
        ),
        "machine": describe_machine(),
        "threads": threads, "networks": rows,
    }  # fmt: skip
    write_text(out, json.dumps(content, indent=1) + "\n")


def _count_macs(found: Candidate) -> int:
    net = build_network(found.recipe.network, found.channels, load_encoder=False).eval()
    width, height = found.recipe.input.size
    return count_macs(net, torch.zeros(1, height, width, 3, dtype=torch.uint8))


def _read_shipped(name: str, folder: Path) -> Candidate:
    """A shipped model: INT8 as it is shipped, float exported from its weights."""
    weights = model_store.resolve_weights(name)
    facts = read_info(weights)
    net = build_network(facts.recipe.network, facts.channels, load_encoder=False)
    load_net(weights, net)
    _export_float(net, facts.recipe, facts.skeleton, folder)
    return Candidate(folder, model_store.resolve_model(name), facts.recipe, facts.channels)


def _make_hourglass(folder: Path) -> Candidate:
    """An untrained hourglass whose batch norms have seen some pictures, and its INT8."""
    recipe = Recipe.model_validate(
        {"name": "bench", "network": HOURGLASS, "input": {"size": [HOURGLASS_SIDE] * 2},
         "distillation": {"method": "supervised"}}
    )  # fmt: skip
    torch.manual_seed(0)
    net = build_network(recipe.network, len(LSP14), load_encoder=False).train()
    for crops in _pictures(HOURGLASS_SIDE, batches=3):
        net(torch.from_numpy(crops))
    source = _export_float(net, recipe, SkeletonSpec.of(LSP14), folder)
    source_sha256 = compute_sha256(source)
    calibration = [crop[:1] for crop in _pictures(HOURGLASS_SIDE, batches=4)]
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
        format_ = "openvino" if name == "openvino" else "onnx"
        _card(recipe, SkeletonSpec.of(LSP14), target, name, format_, source_sha256)
    return Candidate(folder, folder, recipe, len(LSP14))


def _export_float(net: PoseNet, recipe: Recipe, skeleton: SkeletonSpec, folder: Path) -> Path:
    """Write `folder/fp32`; returns its model."""
    model = folder / "fp32" / "model.onnx"
    model.parent.mkdir()
    with eval_mode(net):
        net.eval()
        write_onnx(strip(net, recipe.network, 0), recipe.input_spec(), model, 1)
    simplify(model, 1)
    _card(recipe, skeleton, model.parent, "float", "onnx")
    return model


def _pictures(side: int, batches: int) -> Iterator[NDArray[np.uint8]]:
    """Noise of several scales: smooth enough to leave channels different."""
    rng = np.random.default_rng(0)
    for _ in range(batches):
        coarse = rng.integers(0, 256, (4, side // 8, side // 8, 3))
        yield coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def _card(
    recipe: Recipe, skeleton: SkeletonSpec, folder: Path, profile_: str, format_: str,
    source_sha256: str | None = None,
) -> None:  # fmt: skip
    name = "model.xml" if format_ == "openvino" else "model.onnx"
    write_card(ModelCard.model_validate({
        "name": "bench", "format": format_, "profile": profile_,
        "precision": "fp32" if profile_ == "float" else "int8",
        "input": recipe.input_spec().model_dump(), "decoder": recipe.decoder_spec().model_dump(),
        "skeleton": skeleton.model_dump(),
        "files": {name: compute_sha256(folder / name)},
        "model_file": name, "branch": 0, "parent_sha256": "",
        "float_sha256": source_sha256, "training_data": "none",
        "saturation_free": None if profile_ == "float" else get_profile(profile_).saturation_free,
        "terms": "untrained", "command": "", "version": "",
    }), folder)  # fmt: skip


def _timed(
    found: Candidate, name: str, runs: int, threads: int | None,
    candidates: Sequence[tuple[str, str]],
) -> dict[str, Any]:  # fmt: skip
    loaded: dict[tuple[str, str], Backend] = {}
    cards = {}
    for backend, precision in candidates:
        folder = _find_folder(found, backend, precision)
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
            "by_kind_ms": _by_kind(found, backend, precision, threads or 1)
            if backend != "tensorrt" else {},
        }
        for (backend, precision), ns in zip(loaded, samples, strict=True)
    ]  # fmt: skip
    for backend_ in loaded.values():
        backend_.close()
    return {"rows": rows, "ratios": _ratios(dict(zip(loaded, samples, strict=True)), name)}


def _find_folder(found: Candidate, backend: str, precision: str) -> Path:
    root = found.int8_folder if precision == "int8" else found.float_folder
    return model_store.find_artifact(root, backend, precision)


def _by_kind(found: Candidate, backend: str, precision: str, threads: int) -> dict[str, float]:
    """Where the time goes: the runtime's own counters, added up by kind of layer."""
    folder = _find_folder(found, backend, precision)
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
