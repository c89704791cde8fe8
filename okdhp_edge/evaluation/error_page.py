"""A self-contained HTML report of a model's errors."""

import base64
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.evaluation.error_kinds import JointErrors, Kind
from okdhp_edge.inference.top_down import crop_person
from okdhp_edge.pose.crop import apply
from okdhp_edge.pose.draw import draw_skeleton
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton

_TILE_PX, _BOX_PADDING, _JPEG_QUALITY = 220, 1.5, 80
_NUM_SIZE_GROUPS = 4
_REPORTED_KINDS = (Kind.GOOD, Kind.JITTER, Kind.INVERSION, Kind.SWAP, Kind.MISS)


def summary(poses: PoseDataset, errors: JointErrors) -> dict[str, Any]:
    """Shares of each kind of error among labelled joints, their mean similarity and their median
    distance (see `JointErrors.compute_distance`): in all, by joint, by size of person."""
    side = np.array([float(s.box[2:].max()) for s in poses.samples])
    edges = np.quantile(side, np.linspace(0, 1, _NUM_SIZE_GROUPS + 1))
    group = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, _NUM_SIZE_GROUPS - 1)
    by_size = [
        {
            "name": f"{edges[g]:.0f} to {edges[g + 1]:.0f} px",
            **_compute_shares(errors, (group == g)[:, None]),
        }
        for g in range(_NUM_SIZE_GROUPS)
    ]
    columns = np.arange(len(poses.skeleton))
    by_joint = [
        {"name": joint, **_compute_shares(errors, (columns == k)[None])}
        for k, joint in enumerate(poses.skeleton.joints)
    ]
    return {
        "all": {"name": "all", **_compute_shares(errors, np.array([[True]]))},
        "by_joint": by_joint, "by_size": by_size,
    }  # fmt: skip


def _compute_shares(
    errors: JointErrors, chosen: NDArray[np.bool_]
) -> dict[str, float | int | None]:
    chosen = np.broadcast_to(chosen, errors.kind.shape) & (errors.kind != Kind.UNLABELLED)
    count = int(chosen.sum())
    found: dict[str, float | int | None] = {"joints": count}
    for kind in _REPORTED_KINDS:
        share = float((chosen & (errors.kind == kind)).sum()) / count if count else None
        found[kind.name.lower()] = None if share is None else round(100 * share, 1)
    similar = float((errors.similarity * chosen).sum()) / count if count else None
    found["similarity"] = None if similar is None else round(100 * similar, 1)
    distance = float(np.median(errors.compute_distance()[chosen])) if count else None
    found["distance"] = None if distance is None else round(distance, 3)
    return found


def error_page(
    poses: PoseDataset,
    xy_NK2: NDArray[np.floating],
    errors: JointErrors,
    title: str,
    count: int,
    progress: Callable[[int], None],
) -> str:
    """The page's text: tables, and the `count` worst persons, labels left and predictions right.

    Raises:
        DataError: an image cannot be read.
    """
    evaluated = np.flatnonzero((errors.kind != Kind.UNLABELLED).any(axis=1))
    worst = evaluated[np.argsort(errors.person[evaluated], kind="stable")][:count]
    persons = []
    for done, index in enumerate(worst, 1):
        persons.append(_describe_person(poses, int(index), xy_NK2[index], errors))
        progress(done)
    content = {"title": title, **summary(poses, errors), "persons": persons}
    page = (resources.files(__package__) / "error_page.html").read_text(encoding="utf-8")
    # A name that ends the script would end it inside a string too.
    return page.replace("/*DATA*/", json.dumps(content).replace("<", "\\u003c"))


def _describe_person(
    poses: PoseDataset, index: int, xy: NDArray[np.floating], errors: JointErrors
) -> dict[str, Any]:
    sample, kinds = poses.samples[index], errors.kind[index]
    counts = {kind.name.lower(): int((kinds == kind).sum()) for kind in _REPORTED_KINDS}
    return {
        "id": sample.id, "oks": round(100 * float(errors.person[index]), 1),
        "side": round(float(sample.box[2:].max())), "joints": int(sample.labelled.sum()),
        **counts, "image": _render_pair(sample, xy, poses.skeleton),
    }  # fmt: skip


def _render_pair(sample: Sample, xy: NDArray[np.floating], skeleton: Skeleton) -> str:
    """Labels and predictions side by side, as a data URL."""
    size = (_TILE_PX, _TILE_PX)
    crop = crop_person(sample.image.read(), sample.box, size, _BOX_PADDING, (230, 230, 230))
    tiles: list[Image] = []
    for joints in (sample.xy, xy):
        tile = crop.image.copy()
        inside = apply(crop.crop_from_image, joints)
        draw_skeleton(tile, skeleton, inside, sample.labelled, 1)
        tiles.append(tile)
    jpeg = cv2.imencode(".jpg", np.hstack(tiles), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
