"""Write an INT8 artifact and its card for a plan and a profile."""

import tempfile
from pathlib import Path

from okdhp_edge import __version__
from okdhp_edge.artifacts.card import compute_sha256, write_card
from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.quantize.graph import openvino, strongly_typed
from okdhp_edge.quantize.graph.bias import apply_bias_correction
from okdhp_edge.quantize.graph.graph_rewrites import quantize_after_hard_swish
from okdhp_edge.quantize.graph.onnx_qdq import find_heads, write_qdq
from okdhp_edge.quantize.graph.saturation import analyze_saturation
from okdhp_edge.quantize.graph.tensorrt import check_qdq_rules
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.plan import Plan


def write_artifact(
    plan: Plan, profile: Int8Profile, inputs: QuantizationInputs, folder: Path
) -> None:
    """Write the artifact and its card into `folder`."""
    folder.mkdir(exist_ok=True)
    name = profile.file_name
    with tempfile.TemporaryDirectory() as scratch:
        onnx_file = folder / name if profile.format == "onnx" else Path(scratch) / "qdq.onnx"
        if plan.method == "accuracy-control":
            openvino.quantize_with_accuracy_control(inputs, folder / name, inputs.max_drop)
        else:
            _write_qdq(plan, profile, inputs, onnx_file, Path(scratch))
            if profile.format == "openvino":
                quantize_after_hard_swish(onnx_file)
                openvino.convert(onnx_file, folder / name)
        safe = _is_safe(plan, profile, onnx_file)
    if profile.strongly_typed:
        strongly_typed.to_strongly_typed(folder / name)
        check_qdq_rules(folder / name)
    _write_card(plan, profile, inputs, folder, name, safe)


def _is_safe(plan: Plan, profile: Int8Profile, file: Path) -> bool | None:
    """Whether nothing can saturate; None of files without u8 x s8, and of NNCF's, which only
    OpenVINO can read."""
    if profile.signed or plan.method == "accuracy-control":
        return None
    return not analyze_saturation(file).unsafe


def _write_qdq(
    plan: Plan, profile: Int8Profile, inputs: QuantizationInputs, target: Path, scratch: Path
) -> None:
    source = inputs.float_model
    if plan.bias_correction:
        source = scratch / "corrected.onnx"
        # Heads stay float, so nothing is lost in them that could be made up for.
        kept = (*plan.keep_float, *find_heads(inputs.float_model))
        apply_bias_correction(inputs.float_model, source, inputs.statistics, profile, kept)
    ranges = plan.ranges(inputs, signed=profile.signed)
    write_qdq(source, target, ranges, profile, keep_float=plan.keep_float)


def _write_card(
    plan: Plan,
    profile: Int8Profile,
    inputs: QuantizationInputs,
    folder: Path,
    name: str,
    safe: bool | None,
) -> None:
    files = sorted(p.name for p in folder.iterdir() if p.suffix in (".onnx", ".xml", ".bin"))
    made = inputs.card.model_copy(
        update={
            "format": profile.format, "profile": profile.name, "precision": "int8",
            "files": {file: compute_sha256(folder / file) for file in files}, "model_file": name,
            "parent_sha256": compute_sha256(inputs.float_model),
            "float_sha256": inputs.reference_sha256, "network": None, "parity_px": None,
            "metrics": (), "calibration": inputs.crops.facts(str(plan)),
            "kept_float": plan.keep_float, "saturation_free": safe, "command": inputs.command,
            "version": __version__,
        }
    )  # fmt: skip
    write_card(made, folder)
