"""Combine several predictions of a person into one label per joint: known, absent or unlabelled.

L predictions (teachers, each as it is and mirrored), K joints.
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
    """... and no prediction puts it farther from their mean than this share of the box's side."""
    max_absent_score: Share = 0.1
    """A joint is absent where every prediction's score stays below this."""
    min_joints: Annotated[int, Field(ge=1)] = 5
    """Persons with fewer labelled joints are left out."""


class Label(NamedTuple):
    """One person.

    Attributes:
        xy: (K, 2) pixels of the image, the predictions' mean.
        score: (K,) the predictions' mean score; 0 where no prediction knows the joint.
        labelled: (K,) whether the position is believed.
        absent: (K,) whether all predictions are sure that the joint is not in the crop.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    absent: NDArray[np.bool_]


def merge_predictions(
    predictions: Sequence[tuple[Skeleton, PosePrediction]],
    skeleton: Skeleton,
    side: float,
    rules: ConsensusRules,
) -> Label:
    """The label on which predictions agree; a joint that a teacher lacks is left to the others.

    Args:
        predictions: each with the joints its teacher knows.
        side: longer side of the person's box, in pixels of the image.
    """
    xy_LK2, score_LK, knows_LK = _stack_predictions(predictions, skeleton)
    count_K = np.maximum(knows_LK.sum(axis=0), 1)
    xy_K2 = xy_LK2.sum(axis=0) / count_K[:, None]
    score_K = score_LK.sum(axis=0) / count_K
    distance_LK = np.linalg.norm(xy_LK2 - xy_K2, axis=-1) * knows_LK
    known_K = knows_LK.any(axis=0)
    together_K = distance_LK.max(axis=0) <= rules.max_spread * side
    labelled_K = known_K & together_K & (score_K >= rules.min_score)
    absent_K = known_K & (score_LK.max(axis=0) < rules.max_absent_score)
    return Label(xy_K2, score_K, labelled_K, absent_K)


def clip_to_image(found: Label, size: tuple[int, int]) -> Label:
    """The label for an image of (width, height): a joint that predictions put beyond its border
    is guessed, and absent."""
    inside = ((found.xy >= 0) & (found.xy <= np.array(size) - 1)).all(axis=1)
    outside = found.labelled & ~inside
    return found._replace(labelled=found.labelled & inside, absent=found.absent | outside)


def _stack_predictions(
    predictions: Sequence[tuple[Skeleton, PosePrediction]], skeleton: Skeleton
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """(L, K, 2) places, (L, K) scores, (L, K) whether known; zeros where not."""
    xy = np.zeros((len(predictions), len(skeleton), 2))
    score = np.zeros((len(predictions), len(skeleton)))
    knows = np.zeros((len(predictions), len(skeleton)), dtype=np.bool_)
    for row, (theirs, prediction) in enumerate(predictions):
        columns = skeleton.find_columns(theirs)
        knows[row] = columns >= 0
        xy[row, knows[row]] = prediction.xy[columns[knows[row]]]
        score[row, knows[row]] = prediction.score[columns[knows[row]]]
    return xy, score, knows


def merge_skeletons(skeletons: Sequence[Skeleton]) -> Skeleton:
    """The first's joints, then those that only later ones know."""
    first = skeletons[0]
    more = [j for other in skeletons[1:] for j in other.joints if j not in first.joints]
    if not more:
        return first
    limbs = dict.fromkeys(limb for skeleton in skeletons for limb in skeleton.limbs)
    return Skeleton(first.name + "+", (*first.joints, *dict.fromkeys(more)), tuple(limbs))
