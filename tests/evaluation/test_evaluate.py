import numpy as np
import pytest

from okdhp_edge.artifacts.card import DecoderSpec
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.evaluate import evaluate, make_inference_crop, predict_joints, score
from okdhp_edge.pose.crop import apply, crop_from_frame, heatmap_from_crop
from okdhp_edge.pose.heatmap import HeatmapKind, gaussians
from okdhp_edge.pose.skeleton import MPII16
from tests.helpers.tiny_models import tiny_recipe

POSES = load("synthetic:96", "val")
SPEC = tiny_recipe().input_spec()
DECODER = DecoderSpec(kind=HeatmapKind.GAUSSIAN, sigma=1.0, stride=4)


class _Oracle:
    """Answers with the targets of the samples in order: what a perfect network would say."""

    def __init__(self, offset: float = 0.0) -> None:
        self._next, self._offset = 0, offset

    def __call__(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        maps = []
        for _ in crops:
            sample = POSES.samples[self._next]
            self._next += 1
            xy = apply(crop_from_frame(sample.box, SPEC.size, SPEC.box_padding), sample.xy)
            maps.append(gaussians(apply(heatmap_from_crop(4), xy) + self._offset, (16, 16), 1.0))
        return {"right": np.stack(maps), "nonsense": np.zeros_like(np.stack(maps))}


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_perfect_network_scores_a_hundred_whatever_the_batch(batch_size):
    found = evaluate(POSES, SPEC, DECODER, _Oracle(), "pck@0.2", batch_size=batch_size)
    assert found["right"].value == 100
    assert found["nonsense"].value < 20


def test_joints_come_back_in_picture_pixels():
    joints = predict_joints(POSES, SPEC, DECODER, _Oracle())["right"]
    truth = np.stack([s.xy for s in POSES.samples])
    assert np.median(np.linalg.norm(joints - truth, axis=-1)) < 0.2


def test_an_offset_of_the_decoder_would_be_seen():
    found = evaluate(POSES, SPEC, DECODER, _Oracle(offset=1.5), "pck@0.1")
    assert found["right"].value < 50


@pytest.mark.parametrize(
    ("metric", "message"), [("pckh@0.5", "can be evaluated"), ("oks", "can be evaluated"),
                            ("accuracy", "unknown metric"), ("pck@2", "unknown metric")]
)  # fmt: skip
def test_metrics_that_do_not_fit_say_so(metric, message):
    truth = np.stack([s.xy for s in POSES.samples])
    with pytest.raises(DataError, match=message):
        score(POSES, truth, metric)


def test_the_crop_is_the_one_that_run_cuts():
    from okdhp_edge.inference.pose_estimator import PoseEstimator
    from okdhp_edge.system.latency import StageClock
    from tests.helpers.fakes import FakeBackend

    seen = []

    class Looking(FakeBackend):
        def _infer(self, images_BHWC):
            seen.append(images_BHWC[0].copy())
            return super()._infer(images_BHWC)

    sample, backend = POSES.samples[0], Looking()
    PoseEstimator(backend, StageClock()).estimate(sample.image.read(), sample.box)
    np.testing.assert_array_equal(seen[0], make_inference_crop(sample, backend.card.input, 4).image)


def test_pckh_is_by_the_heads_size_without_pelvis_and_thorax():
    """Of 16 joints 14 count; half of a head of 10 pixels are 5: one of them is 6 off."""
    truth = np.random.default_rng(0).uniform(0, 100, (1, 16, 2)).astype(np.float32)
    sample = Sample(
        "a.jpg#0", None, np.array([0.0, 0, 100, 100]), truth[0], np.ones(16, bool), head_size=10.0
    )
    poses = PoseDataset("mpii:x", "val", MPII16, [sample], "pckh@0.5")
    found = truth.copy()
    for joint, off in {"pelvis": 500, "thorax": 500, "left_knee": 4.9, "left_wrist": 6}.items():
        found[0, MPII16.index(joint), 0] += off
    assert score(poses, found, "pckh@0.5").value == pytest.approx(100 * 13 / 14)
