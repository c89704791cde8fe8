"""Label corrections: persons with swapped sides, misplaced joints."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from okdhp_edge.data.sample import PoseDataset, Sample, list_kinds
from okdhp_edge.errors import DataError, describe_first_fault
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.system.reading import read_text


class Corrections(BaseModel):
    """What `okdhp-edge data relabel` or a second opinion found, by sample id; no images.

    Attributes:
        data: kind and split of the set, without its place.
        model: name and hash of what disagreed with the labels.
        swapped: persons whose left and right are to be exchanged.
        unlabelled: joints that are to count as unlabelled.
        moved: joints that are to count as labelled, at this x and y in pixels of the image.
            Names are those after exchanging.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    model: str
    swapped: tuple[str, ...]
    unlabelled: Mapping[str, tuple[str, ...]]
    moved: Mapping[str, Mapping[str, tuple[float, float]]] = {}


def make_corrections(
    poses: PoseDataset, model: str, swapped_N: NDArray[np.bool_], wrong_NK: NDArray[np.bool_]
) -> Corrections:
    """What was found in a set of N persons with K joints, by the ids of its samples."""
    ids = [sample.id for sample in poses.samples]
    joints = np.array(poses.skeleton.joints)
    return Corrections(
        data=f"{list_kinds(poses.source)}, {poses.split}",
        model=model,
        swapped=tuple(i for i, swap in zip(ids, swapped_N, strict=True) if swap),
        unlabelled={
            i: tuple(joints[row].tolist())
            for i, row in zip(ids, wrong_NK, strict=True)
            if row.any()
        },
    )


def read_corrections(path: Path) -> Corrections:
    """Read a file of corrections.

    Raises:
        DataError: there is none, or it is something else.
    """
    try:
        return Corrections.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a corrections file ({describe_first_fault(error)})",
            "create one with `okdhp-edge data relabel`",
        ) from error


def apply_corrections(poses: PoseDataset, corrections: Corrections) -> PoseDataset:
    """The set with its labels put right; samples that are not named stay as they are.

    Raises:
        DataError: none of the named samples is in the set, or a joint is not of its skeleton.
    """
    named = {*corrections.swapped, *corrections.unlabelled, *corrections.moved}
    if named and not named & {sample.id for sample in poses.samples}:
        raise DataError(
            f"the corrections are for {corrections.data}, none of whose samples is in "
            f"{poses.source} ({poses.split})",
            "use corrections made for this data set",
        )
    lists = (*corrections.unlabelled.values(), *corrections.moved.values())
    strange = {joint for joints in lists for joint in joints} - set(poses.skeleton.joints)
    if strange:
        raise DataError(
            f"the corrections name joints that {poses.source} lacks: {', '.join(sorted(strange))}",
            "use corrections made for this data set",
        )
    swapped = set(corrections.swapped)
    samples = [
        _apply(
            s,
            poses.skeleton,
            s.id in swapped,
            corrections.unlabelled.get(s.id, ()),
            corrections.moved.get(s.id, {}),
        )
        if s.id in named
        else s
        for s in poses.samples
    ]
    return replace(poses, samples=samples)


def _apply(
    sample: Sample,
    skeleton: Skeleton,
    swap: bool,
    unlabelled: tuple[str, ...],
    moved: Mapping[str, tuple[float, float]],
) -> Sample:
    order = skeleton.flip_index if swap else np.arange(len(skeleton))
    kept = ~np.isin(np.array(skeleton.joints), unlabelled)
    xy, labelled = sample.xy[order], sample.labelled[order] & kept
    absent = None if sample.absent is None else sample.absent[order]
    spread = None if sample.spread is None else sample.spread[order]
    for joint, place in moved.items():
        index = skeleton.index(joint)
        xy[index], labelled[index] = place, True
        if absent is not None:
            absent[index] = False
        if spread is not None:
            spread[index] = 0  # of the place that was left
    return replace(sample, xy=xy, labelled=labelled, absent=absent, spread=spread)
