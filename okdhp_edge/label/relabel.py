"""Find wrong labels with a model: it must disagree with them, and agree with itself.

Each person is predicted twice, as it is and mirrored. Where the two predictions lie together the
model is sure; labels far from a sure prediction are doubtful. Of a person whose joints come near
once left and right are exchanged, the sides were swapped. A model learns wrong labels too: one that
was trained for few epochs, or on other images, finds more.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend, predict_with
from okdhp_edge.data.corrections import Corrections, make_corrections
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.evaluation.evaluate import Progress, predict_joints
from okdhp_edge.inference.flip_test import Predict, make_mirrored_predictor
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.skeleton import Skeleton

# Distances as shares of the longer side of the person's box.
_MAX_FLIP_DISTANCE = 0.06
_MAX_MATCH_ERROR, _MIN_WRONG_ERROR = 0.12, 0.3
# A swap must bring the joints twice as near, for a person of whom most joints are sure.
_MAX_SWAP_ERROR_RATIO, _MIN_CERTAIN_SHARE, _MIN_CERTAIN_JOINTS = 0.5, 0.6, 6


class LabelErrors(NamedTuple):
    """Of each of N persons with K joints.

    Attributes:
        swapped: (N,) left and right are exchanged.
        wrong: (N, K) joints, by their names after exchanging, that are somewhere else.
    """

    swapped: NDArray[np.bool_]
    wrong: NDArray[np.bool_]


def relabel(poses: PoseDataset, backend: Backend, progress: Progress | None = None) -> Corrections:
    """What a model doubts in a set's labels.

    Raises:
        DataError: model and set share no joint.
    """
    card = backend.card
    poses = poses.with_skeleton(card.skeleton.skeleton())
    predict = predict_with_flip(predict_with(backend), poses.skeleton)
    found = predict_joints(poses, card.input, card.decoder, predict, progress=progress)
    side = np.array([max(s.box[2:].max(), 1.0) for s in poses.samples])
    labelled = np.stack([s.labelled for s in poses.samples])
    truth = np.stack([s.xy for s in poses.samples])
    doubts = find_label_errors(
        found["straight"], found["mirrored"], truth, labelled, side, poses.skeleton
    )
    name = f"{card.name} {card.files[card.model_file][:12]}"
    return make_corrections(poses, name, doubts.swapped, doubts.wrong)


def predict_with_flip(predict: Predict, skeleton: Skeleton) -> Predict:
    """`straight` and `mirrored` heatmaps of a one-output predict function, in the same places."""

    mirrored = make_mirrored_predictor(predict, skeleton)

    def predict_both(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        (straight,) = predict(images_BHWC).values()
        (other,) = mirrored(images_BHWC).values()
        return {"straight": straight, "mirrored": other}

    return predict_both


def find_label_errors(
    straight_NK2: NDArray[np.floating],
    mirrored_NK2: NDArray[np.floating],
    truth_NK2: NDArray[np.floating],
    labelled_NK: NDArray[np.bool_],
    side_N: NDArray[np.floating],
    skeleton: Skeleton,
) -> LabelErrors:
    """The rules above.

    Args:
        side_N: longer side of each person's box, in pixels.
    """
    said = (straight_NK2 + mirrored_NK2) / 2
    sure = (
        np.linalg.norm(straight_NK2 - mirrored_NK2, axis=-1) < _MAX_FLIP_DISTANCE * side_N[:, None]
    )
    flip = skeleton.flip_index
    as_is = _compute_errors(said, truth_NK2, side_N)
    exchanged = _compute_errors(said, truth_NK2[:, flip], side_N)
    counted, counted_exchanged = sure & labelled_NK, sure & labelled_NK[:, flip]
    before, after = _average_errors(as_is, counted), _average_errors(exchanged, counted_exchanged)
    fewest = min(_MIN_CERTAIN_JOINTS, len(skeleton))
    enough = (counted_exchanged.sum(axis=1) >= fewest) & (
        counted_exchanged.sum(axis=1) >= _MIN_CERTAIN_SHARE * labelled_NK.sum(axis=1)
    )
    swapped = enough & (after < _MAX_MATCH_ERROR) & (after < _MAX_SWAP_ERROR_RATIO * before)
    error = np.where(swapped[:, None], exchanged, as_is)
    known = np.where(swapped[:, None], counted_exchanged, counted)
    # Only of a person whom the model otherwise sees as the labels have it.
    evaluated = np.ma.masked_array(error, ~known)
    usual = np.ma.median(evaluated, axis=1).filled(np.inf)  # type: ignore[no-untyped-call]
    trusted = enough & (usual < _MAX_MATCH_ERROR)
    return LabelErrors(swapped, known & (error > _MIN_WRONG_ERROR) & trusted[:, None])


def _compute_errors(
    said_NK2: NDArray[np.floating], truth_NK2: NDArray[np.floating], side_N: NDArray[np.floating]
) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(said_NK2 - truth_NK2, axis=-1) / side_N[:, None])


def _average_errors(
    error_NK: NDArray[np.float64], counted_NK: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Infinite where nothing counts."""
    number = counted_NK.sum(axis=1)
    total = np.where(counted_NK, error_NK, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.inf)
