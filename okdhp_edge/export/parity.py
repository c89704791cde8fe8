"""Parity check: the exported file must place joints where PyTorch does."""

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import DecoderSpec
from okdhp_edge.errors import GateError
from okdhp_edge.inference.flip_test import Predict
from okdhp_edge.pose.center_map import compute_probability, decode_corners
from okdhp_edge.pose.heatmap import HeatmapKind, Heatmaps

MAX_SHIFT_PX = 0.1
# Of a detector's center: below it nobody reads the box.
_MIN_PROBABILITY = 0.05


def measure_joint_shift(
    reference: Predict, exported: Predict, crops_BHWC: NDArray[np.uint8], decoder: DecoderSpec
) -> float:
    """The largest distance in crop pixels between joints decoded from the two, over all crops.

    Joints without a peak of their own are left out: where two pixels tie within rounding, which
    of them wins says nothing about the file.
    """
    a = reference(crops_BHWC)["model"]
    b = exported(crops_BHWC)["model"]
    if decoder.kind is HeatmapKind.CENTERS:
        return _measure_corner_shift(a, b) * decoder.stride
    if decoder.kind is HeatmapKind.BOXES:
        return _measure_candidate_shift(a, b)
    first, second = (decoder.decode(h) for h in (a, b))
    distance = np.linalg.norm(first.xy_BK2 - second.xy_BK2, axis=-1) * decoder.stride
    clear = _has_clear_peak(a)
    return float(distance[clear].max()) if clear.any() else 0.0


def _measure_corner_shift(a_B5HW: Heatmaps, b_B5HW: Heatmaps) -> float:
    """The same of a detector's boxes, cell by cell where a person is at all likely."""
    likely = compute_probability(a_B5HW[:, 0]) >= _MIN_PROBABILITY
    shift = np.abs(decode_corners(a_B5HW) - decode_corners(b_B5HW))[likely]
    return float(shift.max()) if shift.size else 0.0


def _measure_candidate_shift(a_B51N: Heatmaps, b_B51N: Heatmaps) -> float:
    """The same of candidate boxes."""
    likely = a_B51N[:, 0] >= _MIN_PROBABILITY
    shift = np.abs(a_B51N[:, 1:] - b_B51N[:, 1:]).max(axis=1)[likely]
    return float(shift.max()) if shift.size else 0.0


def _has_clear_peak(heatmaps_BKHW: NDArray[np.float32]) -> NDArray[np.bool_]:
    flat = heatmaps_BKHW.reshape(*heatmaps_BKHW.shape[:2], -1)
    top = np.partition(flat, -2, axis=-1)[..., -2:]
    spread = flat.max(axis=-1) - flat.min(axis=-1)
    clear: NDArray[np.bool_] = (top[..., 1] - top[..., 0]) > 1e-4 * spread
    return clear


def check_parity(shift_px: float) -> None:
    """Raise GateError when the shift is above the limit."""
    if not shift_px <= MAX_SHIFT_PX:
        raise GateError(
            f"ONNX joints differ from PyTorch's by {shift_px:.3f} px (limit {MAX_SHIFT_PX})",
            "use --no-simplify, or report this as a bug, with the recipe",
        )
