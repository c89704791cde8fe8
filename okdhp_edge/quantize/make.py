"""One INT8 artefact: a plan, made for a profile and measured."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from okdhp_edge import __version__
from okdhp_edge.artifacts.card import Measured, ModelCard, read_card, sha256_of, write_card
from okdhp_edge.backends.base import Request, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.sample import PoseSet, kinds_of
from okdhp_edge.evaluation.evaluate import evaluate
from okdhp_edge.quantize import openvino, strongly_typed
from okdhp_edge.quantize.bias import apply_bias_correction
from okdhp_edge.quantize.calibration import CalibrationSet
from okdhp_edge.quantize.calibrators import METHODS, Range, ranges_of
from okdhp_edge.quantize.observe import StatisticsByTensor
from okdhp_edge.quantize.onnx_qdq import head, write_qdq
from okdhp_edge.quantize.profiles import Profile
from okdhp_edge.quantize.saturation import saturation_of
from okdhp_edge.quantize.tensorrt import check_contract
from okdhp_edge.system.hardware import int8_units

LEARNED = "learned"
"""The calibrator's name where the ranges were learned in training."""


@dataclass(frozen=True, kw_only=True)
class QuantizationInputs:
    """All that the makers of INT8 files start from.

    Attributes:
        source: the float ONNX file.
        card: its card.
        learned: whether `known` holds ranges that training with quantization has found.
        known: ranges that no calibrator needs to find: the picture's, and learned ones.
        gate: the pictures that decide, by `metric`.
        before: the metric of the float file on them, in points of 100.
        max_drop: points that may be lost.
        reference_sha256: of the float file that `before` was measured of.
        command: what the person typed, for the card.
    """

    source: Path
    card: ModelCard
    crops: CalibrationSet
    statistics: StatisticsByTensor
    learned: bool = False
    known: dict[str, Range] = field(default_factory=dict)
    gate: PoseSet
    metric: str
    before: float
    max_drop: float
    reference_sha256: str
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """One way to make a file INT8.

    Attributes:
        calibrator: one of `METHODS`, or `LEARNED`.
        corrected: whether biases make up for what rounding the weights shifts.
        keep_float: names of nodes that are not quantized.
        maker: `qdq` is ours; `accuracy-control` is NNCF's, which finds its own ranges.
    """

    calibrator: str
    corrected: bool = False
    keep_float: tuple[str, ...] = ()
    maker: Literal["qdq", "accuracy-control"] = "qdq"

    def ranges(self, inputs: QuantizationInputs) -> dict[str, Range]:
        """Of every tensor; where learned ones are silent, the first calibrator speaks."""
        method = self.calibrator if self.calibrator in METHODS else next(iter(METHODS))
        return ranges_of(inputs.statistics, method) | inputs.known

    def __str__(self) -> str:
        if self.maker == "accuracy-control":
            return "NNCF accuracy control"
        parts = [self.calibrator]
        parts += ["bias correction"] if self.corrected else []
        parts += [f"{len(self.keep_float)} layers float"] if self.keep_float else []
        return ", ".join(parts)


def make(plan: Plan, profile: Profile, inputs: QuantizationInputs, folder: Path) -> None:
    """Write the artefact and its card into `folder`."""
    folder.mkdir(exist_ok=True)
    name = "model.xml" if profile.format == "openvino" else "model.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        onnx_file = folder / name if profile.format == "onnx" else Path(scratch) / "qdq.onnx"
        if plan.maker == "accuracy-control":
            openvino.control_accuracy(inputs, folder / name, inputs.max_drop)
        else:
            _write(plan, profile, inputs, onnx_file, Path(scratch))
            if profile.format == "openvino":
                openvino.convert(onnx_file, folder / name)
        safe = _is_safe(plan, profile, onnx_file)
    if profile.name == "tensorrt":
        strongly_typed.finish(folder / name)
        check_contract(folder / name)
    _write_card(plan, profile, inputs, folder, name, safe)


def _is_safe(plan: Plan, profile: Profile, file: Path) -> bool | None:
    """Whether nothing can saturate; None of files without u8 x s8, and of NNCF's, which only
    OpenVINO can read."""
    if profile.signed or plan.maker == "accuracy-control":
        return None
    return not saturation_of(file).unsafe


def _write(
    plan: Plan, profile: Profile, inputs: QuantizationInputs, target: Path, scratch: Path
) -> None:
    source = inputs.source
    if plan.corrected:
        source = scratch / "corrected.onnx"
        # The head stays float, so nothing is lost in it that could be made up for.
        kept = (*plan.keep_float, head(inputs.source))
        apply_bias_correction(inputs.source, source, inputs.statistics, profile, kept)
    write_qdq(source, target, plan.ranges(inputs), profile, keep_float=plan.keep_float)


def _write_card(
    plan: Plan,
    profile: Profile,
    inputs: QuantizationInputs,
    folder: Path,
    name: str,
    safe: bool | None,
) -> None:
    files = sorted(p.name for p in folder.iterdir() if p.suffix in (".onnx", ".xml", ".bin"))
    made = inputs.card.model_copy(
        update={
            "format": profile.format, "profile": profile.name, "precision": "int8",
            "files": {file: sha256_of(folder / file) for file in files}, "model_file": name,
            "parent_sha256": sha256_of(inputs.source),
            "float_sha256": inputs.reference_sha256, "network": None, "parity_px": None,
            "metrics": (), "calibration": inputs.crops.facts(str(plan)),
            "kept_float": plan.keep_float, "saturation_free": safe, "command": inputs.command,
            "version": __version__,
        }
    )  # fmt: skip
    write_card(made, folder)


def judge(folder: Path, judge_: str, inputs: QuantizationInputs) -> Measured:
    """The metric of the artefact in `folder`, in the runtime named `judge_`."""
    card = read_card(folder)
    with open_backend(judge_, Request(folder, card, card.precision)) as loaded:
        predict = predict_with(loaded)
        found = evaluate(inputs.gate, card.input, card.decoder, predict, inputs.metric)["model"]
    return Measured(
        metric=inputs.metric, data=kinds_of(inputs.gate.source),
        split=inputs.gate.split, persons=found.persons,
        value=found.value, low=found.low, high=found.high, cpu=int8_units(),
    )  # fmt: skip
