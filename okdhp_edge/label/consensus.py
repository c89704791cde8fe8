"""Combine several predictions of a person into one label per joint: known, absent or unlabelled.

T teachers, each with its predictions from V views; K joints.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.inference.external_pose_model import PosePrediction
from okdhp_edge.pose.skeleton import Skeleton

Share = Annotated[float, Field(ge=0, le=1)]


class ConsensusRules(BaseModel):
    """Thresholds for accepting predictions as labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_score: Share = 0.3
    """A joint is labelled where the predictions' mean score reaches this."""
    max_spread: Share = 0.04
    """... and its spread is no more than this."""
    max_absent_score: Share = 0.1
    """A joint is absent where every prediction's score stays below this."""
    min_joints: Annotated[int, Field(ge=1)] = 5
    """Persons with fewer labelled joints are left out."""


class Label(NamedTuple):
    """One person.

    Attributes:
        xy: (K, 2) pixels of the image: the mean of the teachers, each the median of its views.
        score: (K,) the predictions' mean score; 0 where no prediction knows the joint.
        spread: (K,) how uncertain the position is, as a share of the box's longer side: the median
            distance of a teacher's views from its own position, and that one's from the mean.
        labelled: (K,) whether the position is believed.
        absent: (K,) whether all predictions are sure that the joint is not in the crop.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    spread: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    absent: NDArray[np.bool_]


class _Opinion(NamedTuple):
    """What one teacher says of a person, from all its views.

    Attributes:
        xy: (K, 2) the views' median.
        score: (K,) their mean.
        highest_score: (K,).
        distance: (K,) pixels, the median distance of a view from `xy`.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    highest_score: NDArray[np.float64]
    distance: NDArray[np.float64]


def merge_predictions(
    predictions: Sequence[tuple[Skeleton, Sequence[PosePrediction]]],
    skeleton: Skeleton,
    side: float,
    rules: ConsensusRules,
) -> Label:
    """The label on which predictions agree; a joint that a teacher lacks is left to the others.

    Args:
        predictions: of each teacher the joints that it knows, and what its views gave.
        side: longer side of the person's box, in pixels of the image.
    """
    opinions = [(theirs, _merge_views(views)) for theirs, views in predictions]
    knows_TK, merged = _align_joints(opinions, skeleton)
    count_K = np.maximum(knows_TK.sum(axis=0), 1)
    xy_K2 = merged.xy.sum(axis=0) / count_K[:, None]
    score_K = merged.score.sum(axis=0) / count_K
    distance_TK = (np.linalg.norm(merged.xy - xy_K2, axis=-1) + merged.distance) * knows_TK
    spread_K = distance_TK.max(axis=0) / side
    known_K = knows_TK.any(axis=0)
    labelled_K = known_K & (spread_K <= rules.max_spread) & (score_K >= rules.min_score)
    absent_K = known_K & (merged.highest_score.max(axis=0) < rules.max_absent_score)
    return Label(xy_K2, score_K, spread_K, labelled_K, absent_K)


def _merge_views(views: Sequence[PosePrediction]) -> _Opinion:
    xy_VK2, score_VK = np.stack([v.xy for v in views]), np.stack([v.score for v in views])
    xy_K2 = np.median(xy_VK2, axis=0)
    distance_K = np.median(np.linalg.norm(xy_VK2 - xy_K2, axis=-1), axis=0)
    return _Opinion(xy_K2, score_VK.mean(axis=0), score_VK.max(axis=0), distance_K)


def clip_to_image(found: Label, size: tuple[int, int]) -> Label:
    """The label for an image of (width, height): a joint that predictions put beyond its border
    is guessed, and absent."""
    inside = ((found.xy >= 0) & (found.xy <= np.array(size) - 1)).all(axis=1)
    outside = found.labelled & ~inside
    return found._replace(labelled=found.labelled & inside, absent=found.absent | outside)


def _align_joints(
    opinions: Sequence[tuple[Skeleton, _Opinion]], skeleton: Skeleton
) -> tuple[NDArray[np.bool_], _Opinion]:
    """(T, K) whether a teacher knows a joint, and all opinions as (T, K, ...) arrays; zeros where
    it does not."""
    columns_TK = np.stack([skeleton.find_columns(theirs) for theirs, _ in opinions])
    knows_TK = columns_TK >= 0

    def stack(name: str) -> NDArray[np.float64]:
        rows = [getattr(opinion, name) for _, opinion in opinions]
        found = np.stack([row[columns] for row, columns in zip(rows, columns_TK, strict=True)])
        return np.where(knows_TK.reshape(knows_TK.shape + (1,) * (found.ndim - 2)), found, 0.0)

    return knows_TK, _Opinion(*(stack(name) for name in _Opinion._fields))


def merge_skeletons(skeletons: Sequence[Skeleton]) -> Skeleton:
    """The first's joints, then those that only later ones know."""
    first = skeletons[0]
    more = [j for other in skeletons[1:] for j in other.joints if j not in first.joints]
    if not more:
        return first
    limbs = dict.fromkeys(limb for skeleton in skeletons for limb in skeleton.limbs)
    twins = dict.fromkeys(twin for skeleton in skeletons for twin in skeleton.twins)
    joints = (*first.joints, *dict.fromkeys(more))
    return Skeleton(first.name + "+", joints, tuple(limbs), tuple(twins))
