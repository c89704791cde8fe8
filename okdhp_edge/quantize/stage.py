"""The quantize stage: fp32/ -> int8/<profile>/, each measured and gated, or nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from okdhp_edge import __version__
from okdhp_edge.backends.base import Request, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.card import (
    Measured,
    ModelCard,
    read_card,
    sha256_of,
    staged_folder,
    write_card,
    write_text,
)
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseSet
from okdhp_edge.errors import ModelError
from okdhp_edge.evaluate import evaluate
from okdhp_edge.quantize import onnx_qdq
from okdhp_edge.quantize import openvino as openvino_int8
from okdhp_edge.quantize.calibration import CalibrationSet, calibration_set
from okdhp_edge.quantize.gate import check_drop
from okdhp_edge.quantize.tensorrt import check_contract

PROFILES = ("openvino", "onnxruntime", "tensorrt")
Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How to quantize.

    Attributes:
        data: KIND:PATH; calibration comes from its train split, the gate from its val split.
        calibration: list of sample ids; None draws 300.
        max_drop: points of the card's metric that INT8 may lose.
        command: what the person typed, for the card.
    """

    data: str
    calibration: Path | None = None
    max_drop: float = 1.0
    profiles: Sequence[str] = PROFILES
    command: str = ""
    report: Report = lambda *_: None


def quantize(fp32: Path, options: QuantizeOptions) -> Path:
    """Quantize an exported model for every profile; returns the `int8` folder.

    Raises:
        ModelError: the export is unusable.
        DataError: calibration or validation pictures are missing.
        GateError: a profile loses more than it may; nothing is left.
    """
    card = read_card(fp32)
    if not card.metrics:
        raise ModelError(f"{fp32} has no measured metric", "export it again")
    unknown = [p for p in options.profiles if p not in PROFILES]
    if unknown:
        raise ModelError(f"unknown profile '{unknown[0]}'", f"use {', '.join(PROFILES)}")
    crops = calibration_set(options.data, options.calibration, card.input, card.decoder)
    val = load(options.data, "val")
    metric = card.metrics[0].metric
    before = _measure(fp32, card, val, metric)
    target = fp32.parent / "int8"
    with staged_folder(target) as staging:
        write_text(staging / "calibration.txt", crops.listing())
        for number, profile in enumerate(options.profiles):
            options.report("quantize", number, len(options.profiles), profile)
            folder = staging / profile
            folder.mkdir()
            _quantize_one(profile, fp32, card, folder, crops, options)
            after = _measure(folder, read_card(folder), val, metric)
            check_drop(profile, metric, before.value, after.value, options.max_drop)
            _record(folder, after.model_copy(update={"parent_value": before.value}))
        options.report("quantize", len(options.profiles), len(options.profiles), "done")
    return target


def _quantize_one(
    profile: str,
    fp32: Path,
    card: ModelCard,
    folder: Path,
    crops: CalibrationSet,
    options: QuantizeOptions,
) -> None:
    source = fp32 / card.model_file
    names: tuple[str, ...]
    if profile == "openvino":
        openvino_int8.quantize_for_openvino(source, folder / "model.xml", crops, len(crops))
        method, names = openvino_int8.METHOD, ("model.xml", "model.bin")
    else:
        target = folder / "model.onnx"
        if profile == "onnxruntime":
            onnx_qdq.quantize_for_cpu(source, target, crops)
        else:
            onnx_qdq.quantize_for_tensorrt(source, target, crops)
            check_contract(target)
        method, names = onnx_qdq.METHOD, ("model.onnx",)
    files = {name: sha256_of(folder / name) for name in names}
    made = card.model_copy(
        update={
            "format": "openvino" if profile == "openvino" else "onnx",
            "profile": profile, "precision": "int8", "files": files, "model_file": names[0],
            "parent_sha256": sha256_of(source), "network": None, "parity_px": None,
            "metrics": (), "calibration": crops.facts(method), "command": options.command,
            "version": __version__,
        }
    )  # fmt: skip
    write_card(made, folder)


def _measure(folder: Path, card: ModelCard, val: PoseSet, metric: str) -> Measured:
    """The metric on `val`; the TensorRT file is judged by onnxruntime, which reads it too."""
    backend = "openvino" if card.format == "openvino" else "onnxruntime"
    with open_backend(backend, Request(folder, card, card.precision)) as loaded:
        found = evaluate(val, card.input, card.decoder, predict_with(loaded), metric)["model"]
    return Measured(
        metric=metric, data=val.source.partition(":")[0], split=val.split, persons=found.persons,
        value=found.value, low=found.low, high=found.high,
    )  # fmt: skip


def _record(folder: Path, measured: Measured) -> None:
    card = read_card(folder)
    write_card(card.model_copy(update={"metrics": (measured,)}), folder)
