"""A page of a model's errors: one file that needs nothing but itself."""

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

_TILE, _PADDING, _QUALITY = 220, 1.5, 80
_GROUPS = 4
_COUNTED = (Kind.GOOD, Kind.JITTER, Kind.INVERSION, Kind.SWAP, Kind.MISS)


def summary(poses: PoseDataset, errors: JointErrors) -> dict[str, Any]:
    """Shares of each kind of error among labelled joints: in all, by joint, by size of person."""
    side = np.array([float(s.box[2:].max()) for s in poses.samples])
    edges = np.quantile(side, np.linspace(0, 1, _GROUPS + 1))
    group = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, _GROUPS - 1)
    by_size = [
        {
            "name": f"{edges[g]:.0f} to {edges[g + 1]:.0f} px",
            **_shares(errors, (group == g)[:, None]),
        }
        for g in range(_GROUPS)
    ]
    columns = np.arange(len(poses.skeleton))
    by_joint = [
        {"name": joint, **_shares(errors, (columns == k)[None])}
        for k, joint in enumerate(poses.skeleton.joints)
    ]
    return {
        "all": {"name": "all", **_shares(errors, np.array([[True]]))},
        "by_joint": by_joint, "by_size": by_size,
    }  # fmt: skip


def _shares(errors: JointErrors, chosen: NDArray[np.bool_]) -> dict[str, float | int | None]:
    chosen = chosen & (errors.kind != Kind.UNLABELLED)
    count = int(chosen.sum())
    found: dict[str, float | int | None] = {"joints": count}
    for kind in _COUNTED:
        share = float((chosen & (errors.kind == kind)).sum()) / count if count else None
        found[kind.name.lower()] = None if share is None else round(100 * share, 1)
    similar = float((errors.similarity * chosen).sum()) / count if count else None
    found["similarity"] = None if similar is None else round(100 * similar, 1)
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
        DataError: a picture cannot be read.
    """
    evaluated = np.flatnonzero((errors.kind != Kind.UNLABELLED).any(axis=1))
    worst = evaluated[np.argsort(errors.person[evaluated], kind="stable")][:count]
    persons = []
    for done, index in enumerate(worst, 1):
        persons.append(_person(poses, int(index), xy_NK2[index], errors))
        progress(done)
    content = {"title": title, **summary(poses, errors), "persons": persons}
    page = (resources.files(__package__) / "error_page.html").read_text(encoding="utf-8")
    # A name that ends the script would end it inside a string too.
    return page.replace("/*DATA*/", json.dumps(content).replace("</", "<\\/"))


def _person(
    poses: PoseDataset, index: int, xy: NDArray[np.floating], errors: JointErrors
) -> dict[str, Any]:
    sample, kinds = poses.samples[index], errors.kind[index]
    counts = {kind.name.lower(): int((kinds == kind).sum()) for kind in _COUNTED}
    return {
        "id": sample.id, "oks": round(100 * float(errors.person[index]), 1),
        "side": round(float(sample.box[2:].max())), "joints": int(sample.labelled.sum()),
        **counts, "picture": _pair(sample, xy, poses.skeleton),
    }  # fmt: skip


def _pair(sample: Sample, xy: NDArray[np.floating], skeleton: Skeleton) -> str:
    """Labels and predictions side by side, as a data URL."""
    size = (_TILE, _TILE)
    crop = crop_person(sample.image.read(), sample.box, size, _PADDING, (230, 230, 230))
    tiles: list[Image] = []
    for joints in (sample.xy, xy):
        tile = crop.image.copy()
        inside = apply(crop.crop_from_image, joints)
        draw_skeleton(tile, skeleton, inside, sample.labelled, 1)
        tiles.append(tile)
    jpeg = cv2.imencode(".jpg", np.hstack(tiles), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
