import numpy as np
import pytest

from okdhp_edge.artifacts.card import DecoderSpec
from okdhp_edge.errors import GateError
from okdhp_edge.export.parity import check_parity, measure_joint_shift
from okdhp_edge.pose.heatmap import HeatmapKind, gaussians

DECODER = DecoderSpec(kind=HeatmapKind.GAUSSIAN, sigma=1.5, stride=4)
CROPS = np.zeros((2, 64, 64, 3), np.uint8)


def _predict(shift):
    xy = np.array([[5.0, 6.0], [9.0, 4.0]]) + shift
    return lambda crops: {"model": np.stack([gaussians(xy, (16, 16), 1.5)] * len(crops))}


def test_the_shift_is_in_crop_pixels():
    shift = measure_joint_shift(_predict(0), _predict(0.1), CROPS, DECODER)
    assert shift == pytest.approx(0.1 * 4 * np.sqrt(2), abs=0.02)


def test_the_gate():
    check_parity(0.0999)
    for wrong in (0.11, float("nan")):
        with pytest.raises(GateError):
            check_parity(wrong)


def test_joints_without_a_peak_of_their_own_do_not_decide():
    def tied(value):
        maps = np.zeros((1, 1, 16, 16), np.float32)
        maps[0, 0, 2, 2], maps[0, 0, 12, 12] = 1.0, value
        return lambda _: {"model": maps}

    assert measure_joint_shift(tied(1.0 - 1e-6), tied(1.0 + 1e-6), CROPS[:1], DECODER) == 0.0
