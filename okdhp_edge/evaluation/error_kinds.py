"""Every labelled joint's error by kind, after Ronchi and Perona ("Benchmarking and Error Diagnosis
in Multi-Instance Pose Estimation", ICCV 2017), on one person in a known box.

N persons, K joints. A keypoint similarity is COCO's: exp(-d^2 / (2 s^2 k^2)), k = 2 sigma, s^2 the
person's area.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.pose.metrics import keypoint_similarity
from okdhp_edge.pose.skeleton import Skeleton

# The paper's thresholds: human annotators agree within the first, the second is still the joint.
MIN_GOOD_SIMILARITY, MIN_CLOSE_SIMILARITY = 0.85, 0.5


class Kind(IntEnum):
    """What a joint's error is."""

    UNLABELLED = 0
    GOOD = 1
    JITTER = 2
    """Near its place."""
    INVERSION = 3
    """On the other side's joint of the same person: left and right confused."""
    SWAP = 4
    """On the same joint, or its other side, of another labelled person."""
    MISS = 5
    """Anywhere else."""


class JointErrors(NamedTuple):
    """One set, one model.

    Attributes:
        kind: (N, K) values of `Kind`.
        similarity: (N, K) keypoint similarity to the label; 0 where unlabelled.
        person: (N,) mean similarity over a person's labelled joints, in 0..1: its OKS.
    """

    kind: NDArray[np.int8]
    similarity: NDArray[np.float64]
    person: NDArray[np.float64]

    def compute_distance(self) -> NDArray[np.float64]:
        """(N, K) distances from the labels in units of k s, COCO's tolerance for the joint: what
        gave the similarity exp(-distance^2 / 2)."""
        smallest = np.finfo(np.float64).tiny  # of a joint so far away that its similarity is 0
        return np.asarray(np.sqrt(-2 * np.log(np.maximum(self.similarity, smallest))))


def classify(poses: PoseDataset, xy_NK2: NDArray[np.floating]) -> JointErrors:
    """Classify predictions in image pixels.

    Args:
        poses: with the model's joints.
        xy_NK2: predictions for each of its samples.
    """
    by_image = _group_by_image(poses.samples)
    kinds, similarities = [], []
    for number, sample in enumerate(poses.samples):
        others = [poses.samples[i] for i in by_image[sample.image_name] if i != number]
        evaluated = _Matched(xy_NK2[number], sample, poses.skeleton)
        own = evaluated.compute_similarity(sample)
        swapped = np.maximum.reduce([
            np.zeros(len(own)), *(evaluated.compute_similarity(other) for other in others),
            *(evaluated.compute_similarity(other, mirrored=True) for other in others),
        ])  # fmt: skip
        kinds.append(
            _classify_joints(
                sample.labelled, own, evaluated.compute_similarity(sample, mirrored=True), swapped
            )
        )
        similarities.append(own)
    similarity = np.stack(similarities)
    labelled = np.stack([s.labelled for s in poses.samples])
    person = similarity.sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)
    return JointErrors(np.stack(kinds), similarity, person)


class _Matched(NamedTuple):
    """(K, 2) predictions of the joints of one person."""

    xy: NDArray[np.floating]
    sample: Sample
    skeleton: Skeleton

    def compute_similarity(self, other: Sample, *, mirrored: bool = False) -> NDArray[np.float64]:
        """(K,) similarity to somebody's joints, or to those of the other side; 0 where there is no
        such label."""
        truth, known = other.xy, other.labelled
        if mirrored:
            flip = self.skeleton.flip_index
            truth, known = truth[flip], known[flip] & (flip != np.arange(len(flip)))
        sigmas = self.skeleton.sigmas
        return keypoint_similarity(self.xy, truth, _estimate_area(self.sample), sigmas) * known


def _classify_joints(
    labelled: NDArray[np.bool_],
    own: NDArray[np.float64],
    inverted: NDArray[np.float64],
    swapped: NDArray[np.float64],
) -> NDArray[np.int8]:
    kind = np.full(len(own), Kind.MISS, dtype=np.int8)
    kind[swapped >= MIN_CLOSE_SIMILARITY] = Kind.SWAP
    kind[inverted >= MIN_CLOSE_SIMILARITY] = Kind.INVERSION
    kind[own >= MIN_CLOSE_SIMILARITY] = Kind.JITTER
    kind[own >= MIN_GOOD_SIMILARITY] = Kind.GOOD
    kind[~labelled] = Kind.UNLABELLED
    return kind


def _estimate_area(sample: Sample) -> float:
    box = float(sample.box[2] * sample.box[3]) * PERSON_BOX_AREA_RATIO
    return max(sample.area or box, 1.0)


def _group_by_image(samples: Sequence[Sample]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        found.setdefault(sample.image_name, []).append(number)
    return found
