"""Skeletons as data: joint names are the source of truth, all indices are derived from them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.errors import DataError

# OKS constants of the COCO keypoint evaluation (cocodataset.org, k_i = 2 sigma_i), by joint.
_COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072,
    "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
# COCO has no such joint; the values CrowdPose's evaluation uses for head top and neck.
_OTHER_SIGMAS = {"head_top": 0.079, "neck": 0.079}
_DEFAULT_SIGMA = 0.079


MAX_JOINTS = 1000
"""Of a skeleton; whole-body sets have 133."""


@dataclass(frozen=True)
class Skeleton:
    """A named, ordered set of joints.

    Attributes:
        name: short name, unique among the sets in use.
        joints: joint names in tensor order; sides are the person's own, `left_x` / `right_x`.
        limbs: pairs of joint names to draw and to colour.
        twins: pairs of joints swapped by a horizontal flip, where their names do not say so.

    Raises:
        DataError: empty or repeated names, a limb or a twin that names no joint, a side without its
            twin.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...] = ()
    twins: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if len(self.joints) > MAX_JOINTS:
            raise DataError(
                f"skeleton '{self.name}' has {len(self.joints)} joints, more than {MAX_JOINTS}",
                "check the file that lists them",
            )
        if not self.joints or len(set(self.joints)) != len(self.joints):
            raise DataError(
                f"skeleton '{self.name}' has no joints or duplicate names: {list(self.joints)}",
                "use a unique name for every joint",
            )
        for pair in (*self.limbs, *self.twins):
            for joint in pair:
                if joint not in self.joints:
                    raise DataError(
                        f"limb {pair} of skeleton '{self.name}' has an unknown joint",
                        f"use names from {', '.join(self.joints)}",
                    )
        for joint in self.joints:
            twin = self.get_twin(joint)
            if twin not in self.joints:
                raise DataError(
                    f"joint '{joint}' of skeleton '{self.name}' has no counterpart '{twin}'",
                    "name both sides left_x and right_x",
                )

    def get_twin(self, joint: str) -> str:
        """The joint's name in a flipped image: its own if it has no counterpart."""
        for a, b in self.twins:
            if joint in (a, b):
                return b if joint == a else a
        return mirror_name(joint)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Joints that mirroring exchanges, each pair once."""
        both = ((j, self.get_twin(j)) for j in self.joints)
        return tuple((a, b) for a, b in both if self.joints.index(a) < self.joints.index(b))

    @property
    def mirroring(self) -> str:
        """What mirroring exchanges, in words."""
        both = ", ".join(f"{a} and {b}" for a, b in self.pairs)
        return f"flipping swaps {both}" if both else "flipping swaps no joints"

    def with_twins(self, pairs: Sequence[tuple[str, str]]) -> "Skeleton":
        """The same joints, with these pairs exchanged by mirroring besides those that are known.

        Raises:
            DataError: a pair names no joint, or one joint is in two pairs.
        """
        named = [joint for pair in pairs for joint in pair]
        if len(set(named)) != len(named):
            raise DataError(f"skeleton.pairs lists a joint twice: {named}", "list each joint once")
        kept = tuple(twin for twin in self.twins if not set(twin) & set(named))
        return replace(self, twins=(*kept, *((a, b) for a, b in pairs))) if pairs else self

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def flip_index(self) -> NDArray[np.int64]:
        """(K,) index of each joint's left/right counterpart; an involution by construction."""
        return np.array([self.joints.index(self.get_twin(j)) for j in self.joints], dtype=np.int64)

    @cached_property
    def limb_index(self) -> NDArray[np.int64]:
        """(L, 2) joint indices of every limb."""
        pairs = [[self.joints.index(a), self.joints.index(b)] for a, b in self.limbs]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def sigmas(self) -> NDArray[np.float64]:
        """(K,) OKS sigmas, looked up by joint name."""
        return np.array([_get_sigma(j) for j in self.joints], dtype=np.float64)

    def index(self, joint: str) -> int | None:
        """Position of `joint`, or None where this skeleton has no such joint."""
        return self.joints.index(joint) if joint in self.joints else None

    def find_columns(self, other: "Skeleton") -> NDArray[np.int64]:
        """(K,) where each of our joints stands in `other`, -1 where it has none."""
        return np.array(
            [other.joints.index(j) if j in other.joints else -1 for j in self.joints],
            dtype=np.int64,
        )


_OPPOSITE_SIDES = {"left": "right", "right": "left"}


def mirror_name(joint: str) -> str:
    """The name of the joint's counterpart in a flipped image."""
    if joint in _OPPOSITE_SIDES:
        return _OPPOSITE_SIDES[joint]
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    if joint.startswith("right_"):
        return "left_" + joint.removeprefix("right_")
    return joint


def canonicalize_names(raw: Sequence[str]) -> tuple[str, ...]:
    """Bring the spellings found in the wild to ours: `left_knee` for `Left Knee`, `LKnee`,
    `l-knee`, `knee_l`, `kneeL`, `knee.left`.

    A single letter at the beginning or the end is a side only where no other single letter stands
    in such a place: `arm_j`, `arm_k`, `arm_l` have no sides.
    """
    words = [_split_words(name) for name in raw]
    letters = {w[end] for w in words if len(w) > 1 for end in (0, -1) if len(w[end]) == 1}
    sides = {"left": "left", "right": "right"}
    if not {c for c in letters if c.isalpha()} - {"l", "r"}:
        sides |= {"l": "left", "r": "right"}
    return tuple(_move_side_first(w, sides) for w in words)


def _split_words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])", "_", name.strip())
    return [word for word in re.split(r"[\s\-_.]+", spaced.lower()) if word] or [name]


def _move_side_first(words: list[str], sides: dict[str, str]) -> str:
    if len(words) == 1:
        return sides.get(words[0], words[0]) if len(words[0]) > 1 else words[0]
    for place in (0, -1):
        if words[place] in sides:
            rest = words[1:] if place == 0 else words[:-1]
            return "_".join([sides[words[place]], *rest])
    return "_".join(words)


def skeleton_from_names(
    name: str,
    raw_joints: Sequence[str],
    limbs: Sequence[tuple[int, int]] = (),
    flip_index: Sequence[int] | None = None,
) -> Skeleton:
    """A skeleton for a data set that brings its own joint names.

    Args:
        limbs: 0-based pairs.
        flip_index: for each joint the place of its twin in a mirrored image (`flip_idx` of YOLO);
            None tells sides by the names.

    Raises:
        DataError: names repeat, a side lacks its twin, or the index is not one that goes both ways.
    """
    joints = canonicalize_names(raw_joints)
    for known in BUILTIN_SKELETONS.values():
        if known.joints == joints and flip_index is None:
            return known
    named = tuple((joints[a], joints[b]) for a, b in limbs)
    return Skeleton(name, joints, named, _find_twins(name, joints, flip_index))


def _find_twins(
    name: str, joints: tuple[str, ...], flip_index: Sequence[int] | None
) -> tuple[tuple[str, str], ...]:
    """Pairs that the names alone do not tell."""
    if flip_index is None:
        return ()
    places = range(len(joints))
    both_ways = sorted(flip_index) == list(places) and all(
        flip_index[flip_index[place]] == place for place in places
    )
    if not both_ways:
        raise DataError(
            f"flip_idx of {name} does not pair {len(joints)} joints: {list(flip_index)}",
            "give the index of the left/right counterpart for each joint",
        )
    return tuple((joints[a], joints[flip_index[a]]) for a in places if a <= flip_index[a])


def _get_sigma(joint: str) -> float:
    part = joint.removeprefix("left_").removeprefix("right_")
    return _COCO_SIGMAS.get(part, _OTHER_SIGMAS.get(part, _DEFAULT_SIGMA))


def _make_both_sides(*limbs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in limbs)


_ARMS_AND_LEGS = _make_both_sides(
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")
)
_TORSO = (
    *_make_both_sides(("shoulder", "hip")),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
)

COCO17 = Skeleton(
    "coco17",
    ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
     "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
     "left_knee", "right_knee", "left_ankle", "right_ankle"),
    (("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
     ("right_eye", "right_ear"), *_TORSO, *_ARMS_AND_LEGS),
)  # fmt: skip
MPII16 = Skeleton(
    "mpii16",
    ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
     "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
     "left_shoulder", "left_elbow", "left_wrist"),
    (("head_top", "upper_neck"), ("upper_neck", "thorax"), ("thorax", "pelvis"),
     ("thorax", "left_shoulder"), ("thorax", "right_shoulder"), ("pelvis", "left_hip"),
     ("pelvis", "right_hip"), *_ARMS_AND_LEGS),
)  # fmt: skip
LSP14 = Skeleton(
    "lsp14",
    ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
     "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
     "neck", "head_top"),
    (("head_top", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"), *_TORSO,
     *_ARMS_AND_LEGS),
)  # fmt: skip
BUILTIN_SKELETONS = {s.name: s for s in (COCO17, MPII16, LSP14)}
