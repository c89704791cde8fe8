"""Evaluate a predict function on samples; all stages measure accuracy here."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec
from okdhp_edge.data.detection import BOX_METRIC, DetectionSample
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.average_precision import average_precision_score, has_annotation_file
from okdhp_edge.evaluation.box_average_precision import box_average_precision_score
from okdhp_edge.inference.flip_test import Predict
from okdhp_edge.inference.top_down import crop_for, image_from_heatmap, letterbox_for
from okdhp_edge.pose.crop import Affine, apply
from okdhp_edge.pose.heatmap import Decoded
from okdhp_edge.pose.metrics import Score, oks, pck, torso_diagonals
from okdhp_edge.pose.preprocess import Image

Progress = Callable[[int], None]
"""Called with the number of samples done so far."""

# MPII's evaluation leaves these out of its mean.
_PCKH_EXCLUDED_JOINTS = ("pelvis", "thorax")
_METRIC_PATTERN = re.compile(r"(pck|pckh)@(0?\.\d+|1\.0)|oks|ap|box_ap")


class EvaluationCrop(NamedTuple):
    """A sample as the network sees it; where it reads a mask, that is the fourth channel."""

    image: Image
    image_from_heatmap: Affine


def make_inference_crop(sample: Sample, spec: InputSpec, stride: int) -> EvaluationCrop:
    """The crop exactly as `run` makes it: this is what is calibrated and evaluated on.

    Raises:
        DataError: the image cannot be read.
    """
    whole = sample.image.read()
    if isinstance(sample, DetectionSample):
        image, transform = letterbox_for(spec, whole)
    else:
        image, transform = crop_for(spec, whole, sample.box)
    if spec.mask:
        image = np.dstack([image, sample.mask.warped(transform, spec.size)])
    return EvaluationCrop(image, image_from_heatmap(transform, stride))


def predict_joints(
    poses: PoseDataset,
    spec: InputSpec,
    decoder: DecoderSpec,
    predict: Predict,
    *,
    progress: Progress | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Joints (N, K, 2) in image pixels, for each of `predict`'s outputs."""
    found = predict_with_scores(poses, spec, decoder, predict, progress=progress)
    return {name: decoded.xy_BK2 for name, decoded in found.items()}


def predict_with_scores(
    poses: PoseDataset,
    spec: InputSpec,
    decoder: DecoderSpec,
    predict: Predict,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Decoded]:
    """As `predict_joints`, with each joint's score (N, K)."""
    joints: dict[str, list[NDArray[np.float32]]] = {}
    scores: dict[str, list[NDArray[np.float32]]] = {}
    for start in range(0, len(poses), batch_size):
        batch = poses.samples[start : start + batch_size]
        crops = [make_inference_crop(s, spec, decoder.stride) for s in batch]
        for name, heatmaps in predict(np.stack([c.image for c in crops])).items():
            decoded = decoder.decode(heatmaps, poses.skeleton.sigmas)
            placed = [
                apply(c.image_from_heatmap, xy) for c, xy in zip(crops, decoded.xy_BK2, strict=True)
            ]
            joints.setdefault(name, []).extend(np.asarray(j, dtype=np.float32) for j in placed)
            scores.setdefault(name, []).append(decoded.score_BK)
        if progress:
            progress(start + len(batch))
    return {n: Decoded(np.stack(joints[n]), np.concatenate(scores[n])) for n in joints}


def evaluate(
    poses: PoseDataset,
    spec: InputSpec,
    decoder: DecoderSpec,
    predict: Predict,
    metric: str,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Score]:
    """The metric of each of `predict`'s outputs over all samples.

    Args:
        metric: `pck@T` (normalised by the longer torso diagonal), `pckh@T` (by the head's size,
            without pelvis and thorax, as MPII's evaluation has it), `oks`, or `ap`, COCO's.

    Raises:
        DataError: the metric is unknown or the set lacks what it needs.
    """
    check_metric(metric)
    found = predict_with_scores(
        poses, spec, decoder, predict, batch_size=batch_size, progress=progress
    )
    return {n: score(poses, d.xy_BK2, metric, d.score_BK) for n, d in found.items()}


def check_metric(metric: str) -> None:
    """Raise DataError unless `metric` is one we know."""
    if not _METRIC_PATTERN.fullmatch(metric):
        raise DataError(f"unknown metric '{metric}'", "use pck@0.2, pckh@0.5, oks, ap or box_ap")


def choose_metric(wanted: str, poses: PoseDataset) -> str:
    """What a model is evaluated by, or the set's own metric where that needs a COCO file."""
    if wanted == "ap" and not has_annotation_file(poses):
        return poses.metric
    return wanted


def score(
    poses: PoseDataset,
    predicted_NK2: NDArray[np.floating],
    metric: str,
    score_NK: NDArray[np.floating] | None = None,
) -> Score:
    """Evaluate joints in image pixels against a set's labels.

    Args:
        score_NK: each joint's score; `ap` ranks persons by them, without they are equal.
    """
    check_metric(metric)
    if metric == BOX_METRIC or isinstance(poses.samples[0], DetectionSample):
        return _score_boxes(poses, predicted_NK2, metric, score_NK)
    if metric == "ap":
        scores = np.ones(predicted_NK2.shape[:2]) if score_NK is None else score_NK
        return average_precision_score(poses, predicted_NK2, scores)
    truth = np.stack([s.xy for s in poses.samples])
    labelled = np.stack([s.labelled for s in poses.samples])
    if metric == "oks":
        area = _to_array(s.area for s in poses.samples)
        result = oks(predicted_NK2, truth, labelled, area, poses.skeleton.sigmas)
    else:
        name, threshold = metric.split("@")
        if name == "pckh":
            labelled = labelled & ~np.isin(poses.skeleton.joints, _PCKH_EXCLUDED_JOINTS)
        norm = (
            torso_diagonals(truth, labelled, poses.skeleton)
            if name == "pck"
            else _to_array(s.head_size for s in poses.samples)
        )
        result = pck(predicted_NK2, truth, labelled, norm, float(threshold))
    if not result.persons:
        raise DataError(
            f"no sample of {poses.source} ({poses.split}) can be evaluated by {metric}",
            "pck needs torsos, pckh head sizes, oks areas: use other --data or another metric",
        )
    return result


def _score_boxes(
    poses: PoseDataset,
    corners_NK2: NDArray[np.floating],
    metric: str,
    score_NK: NDArray[np.floating] | None,
) -> Score:
    """Boxes of a detector, as `pose.center_map` returns them."""
    images = [s for s in poses.samples if isinstance(s, DetectionSample)]
    if metric != BOX_METRIC or len(images) != len(poses):
        raise DataError(
            f"{metric} does not fit {poses.source}",
            f"evaluate detectors by {BOX_METRIC}, pose models by another metric",
        )
    assert score_NK is not None
    corners = corners_NK2.reshape(len(images), -1, 4)
    boxes = np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)
    return box_average_precision_score(images, boxes, score_NK[:, ::2])


def _to_array(values: Iterator[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
