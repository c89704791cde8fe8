"""The quantize stage: fp32/ -> int8/<profile>/, each measured and gated, or nothing."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from okdhp_edge.artifacts.card import CARD_NAME, RANGES_FILE_NAME, read_card, write_card
from okdhp_edge.artifacts.model_store import mark_newest
from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.backends.registry import get_profile, list_runtime_profiles
from okdhp_edge.data.detection import load_for
from okdhp_edge.errors import ModelError
from okdhp_edge.quantize.graph.onnx_qdq import find_matching_nodes
from okdhp_edge.quantize.ranges.calibration import load_calibration_set
from okdhp_edge.quantize.ranges.calibrators import METHODS, Range
from okdhp_edge.quantize.ranges.statistics import get_statistics, observe_input_range
from okdhp_edge.quantize.search.accuracy_tuner import (
    AUTO_CALIBRATOR,
    AccuracyTuner,
    choose_calibrators,
    write_trials,
)
from okdhp_edge.quantize.search.gate import check_drop
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.plan import Plan
from okdhp_edge.quantize.search.verify import verify
from okdhp_edge.system.files import copy_listed, lock_folder, stage_folder, write_text
from okdhp_edge.system.progress import Report, ignore_progress
from okdhp_edge.system.reading import read_json


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How to quantize.

    Attributes:
        data: KIND:PATH; the gate is measured on its val split, and without `calibration` ranges
            come from its train split.
        train_data: KIND:PATH whose train split takes the place of that of `data`, in which the
            names of a list are looked up too.
        calibration: where ranges come from, see `load_calibration_set`.
        calibrator: one of `METHODS`, or `auto`: the best by the metric, per profile.
        keep_float: regular expression of nodes that are not quantized.
        max_drop: points of the card's metric that INT8 may lose.
        tune: whether to tune where the first attempt fails the gate.
        reference: another float model that the gate compares with, and beside which the artifacts
            go; None: the one that is quantized.
        command: what the person typed, for the card.
    """

    data: str
    train_data: str | None = None
    calibration: str | None = None
    calibrator: str = next(iter(METHODS))
    keep_float: str | None = None
    max_drop: float = 1.0
    tune: bool = True
    reference: Path | None = None
    profiles: Sequence[str] = field(default_factory=list_runtime_profiles)
    command: str = ""
    report: Report = ignore_progress

    def __post_init__(self) -> None:
        """Raise ModelError for a profile, calibrator or expression that there cannot be."""
        for name in self.profiles:
            get_profile(name)
        if self.calibrator not in (AUTO_CALIBRATOR, *METHODS):
            raise ModelError(
                f"unknown calibrator '{self.calibrator}'",
                f"use one of auto, {', '.join(METHODS)}",
            )
        try:
            re.compile(self.keep_float or "")
        except re.error as error:
            raise ModelError(
                f"invalid regular expression '{self.keep_float}' ({error})", "fix --keep-float"
            ) from error


def quantize(fp32: Path, options: QuantizeOptions) -> Path:
    """Quantize an exported model for the wanted profiles; returns the `int8` folder.

    Profiles that were not asked for keep the artifacts they have, if those were made from the same
    export.

    Raises:
        ModelError: the export is unusable, or no node is named as `keep_float` says.
        DataError: calibration or validation images are missing.
        GateError: a profile loses more than it may, on every trial; nothing changes.
    """
    profiles = [get_profile(name) for name in dict.fromkeys(options.profiles)]
    with lock_folder((options.reference or fp32).parent):
        return _quantize(fp32, options, profiles)


def _quantize(fp32: Path, options: QuantizeOptions, profiles: Sequence[Int8Profile]) -> Path:
    inputs = prepare_quantization_inputs(fp32, options)
    kept = tuple(
        find_matching_nodes(inputs.float_model, options.keep_float) if options.keep_float else ()
    )
    target = (options.reference or fp32).parent / "int8"
    with stage_folder(target) as staging:
        _carry_over(target, staging, inputs.reference_sha256, options.profiles)
        for wanted in profiles:
            learned = read_learned_ranges(fp32, wanted)
            ranges = inputs.fixed_ranges | learned
            own = replace(inputs, learned=bool(learned), fixed_ranges=ranges)
            _quantize_one(wanted, own, kept, staging, options)
    for wanted in profiles:
        mark_newest(target / wanted.name / CARD_NAME)
    return target


def prepare_quantization_inputs(fp32: Path, options: QuantizeOptions) -> QuantizationInputs:
    """Read, observe and measure all that the profiles share."""
    card = read_card(fp32)
    if not card.metrics:
        raise ModelError(f"{fp32} has no measured metric", "export it again")
    source = fp32 / card.model_file
    crops = load_calibration_set(
        options.train_data or options.data, options.calibration, card.input, card.decoder
    )
    gate = load_for(card.kind, options.data, "val").with_skeleton(card.skeleton.skeleton())
    reference = options.reference or fp32
    held_against = read_card(reference)
    inputs = QuantizationInputs(
        float_model=source, card=card, crops=crops,
        statistics=get_statistics(source, crops, len(crops), options.report),
        fixed_ranges=observe_input_range(source), gate=gate,
        metric=card.metrics[0].metric, float_metric=0.0, max_drop=options.max_drop,
        reference_sha256=held_against.files[held_against.model_file], command=options.command,
    )  # fmt: skip
    return replace(inputs, float_metric=verify(reference, "onnxruntime", inputs).value)


def read_learned_ranges(fp32: Path, wanted: Int8Profile) -> dict[str, Range]:
    """Those that training with quantization has found, if it was for activations of this kind:
    signed ranges would waste half of the unsigned levels."""
    path = fp32 / RANGES_FILE_NAME
    if not path.is_file():
        return {}
    content = read_json(path)
    if get_profile(content["profile"]).signed != wanted.signed:
        return {}
    return {name: (low, high) for name, (low, high) in content["ranges"].items()}


def _carry_over(target: Path, staging: Path, reference: str, profiles: Sequence[str]) -> None:
    """Other profiles' artifacts of the same float model stay, as far as they are whole."""
    for folder in sorted(target.glob("*/")):
        if folder.name in profiles or not (folder / CARD_NAME).is_file():
            continue
        try:
            same = read_card(folder).float_sha256 == reference
        except ModelError:
            continue  # damaged, or of another version: it is made again when it is asked for
        if same:
            copy_listed(target, folder.name, staging)


def _quantize_one(
    wanted: Int8Profile,
    inputs: QuantizationInputs,
    kept: tuple[str, ...],
    staging: Path,
    options: QuantizeOptions,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tuner = AccuracyTuner(wanted, inputs, Path(scratch), options.report)
        calibrators, search = choose_calibrators(options.calibrator, inputs)
        if options.tune:
            tuner.tune(calibrators, kept, search=search)
        else:
            for calibrator in calibrators if search else calibrators[:1]:
                tuner.run_trial(Plan(calibrator, keep_float=kept))
        best = tuner.best
        check_drop(
            wanted.name, inputs.metric, inputs.float_metric, best.measured.value, options.max_drop,
            f"{best.plan} was the best of {len(tuner.attempts)} trials",
        )  # fmt: skip
        shutil.copytree(best.folder, staging / wanted.name)
        for extra in Path(scratch).glob("sensitivity.*"):
            shutil.copy(extra, staging / wanted.name)
        write_trials(tuner, staging / wanted.name)
        # Of this profile: others may be carried over, made from another list.
        write_text(staging / wanted.name / "calibration.txt", inputs.crops.format_ids())
    card = read_card(staging / wanted.name)
    measured = best.measured.model_copy(update={"parent_value": inputs.float_metric})
    write_card(card.model_copy(update={"metrics": (measured,)}), staging / wanted.name)
