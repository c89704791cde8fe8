"""Put the labels of a training set right where two models, one of them not ours, say otherwise.

    npm pack @mediapipe/pose && tar xzf mediapipe-pose-*.tgz        # Apache 2.0
    python models/second_opinion.py --data lspet:PATH --model models/lite-base \
        --blazepose package/pose_landmark_heavy.tflite --out corrections.json

Needs `pip install ai-edge-litert`. BlazePose heavy is no heatmap network and far too slow for the
edge, but it was trained on other pictures, so it does not share the labels' mistakes as a model
trained on them does. Each person is turned upright for it, since the labels tell where up is. It
puts joints a little elsewhere than the annotators; that shift, measured over the set in the
person's own frame, is taken away first. Then, joint by joint:

* label and BlazePose near each other: the middle (the noise of two is less than that of one);
* the label alone against both models: what the two say;
* BlazePose alone against label and our model: the label;
* three opinions: the label if BlazePose, seeing the person twice, differs with itself; otherwise
  unlabelled;
* nothing labelled: what the two models say, if they agree closely.

Left and right are exchanged first where that is what BlazePose saw. Only training labels may be
touched: what is judged on stays as its makers have it.
"""

import argparse
import os
from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge import model_store
from okdhp_edge.backends.base import Request, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.card import read_card, write_text
from okdhp_edge.data.corrections import Corrections, noted
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseSet, Sample
from okdhp_edge.evaluate import predict_joints
from okdhp_edge.pose.crop import apply
from okdhp_edge.pose.preprocess import Image, warp
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.relabel import doubted, seen_twice

SIDE, PADDING = 256, 1.75
"""BlazePose's input, and how much wider than the joints' extent its square is: best on `val`."""
LANDMARKS = {
    "shoulder": (11, 12),
    "elbow": (13, 14),
    "wrist": (15, 16),
    "hip": (23, 24),
    "knee": (25, 26),
    "ankle": (27, 28),
}
"""Left and right, in BlazePose's 33 landmarks."""
TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
NEAR, CLOSE, SURE, USUAL = 0.08, 0.05, 0.06, 0.2
"""Shares of the longer side of a person's box: the same place; closely so; the most that two looks
of a sure model differ; no gross mistake."""

Points = NDArray[np.float64]


class Opinions(NamedTuple):
    """Of N persons with K joints, in picture pixels; NaN where a model knows no such joint."""

    ours_straight: Points
    ours_mirrored: Points
    theirs_straight: Points
    theirs_mirrored: Points

    @property
    def ours(self) -> Points:
        """(N, K, 2), the mean of both looks."""
        return (self.ours_straight + self.ours_mirrored) / 2

    @property
    def theirs(self) -> Points:
        """(N, K, 2), the mean of both looks."""
        return (self.theirs_straight + self.theirs_mirrored) / 2


class Upright(NamedTuple):
    """The square round a person, turned so that the torso points up."""

    centre: Points
    side: float
    up: Points
    """Unit vector from the hips to the shoulders."""

    @property
    def axes(self) -> Points:
        """(2, 2): to the person's frame, right and down."""
        right = np.array([-self.up[1], self.up[0]])
        return np.stack([right, -self.up])

    def mirrored(self, width: int) -> "Upright":
        """The same square in the mirrored picture."""
        flip = np.array([-1.0, 1.0])
        return Upright(self.centre * flip + np.array([width - 1.0, 0.0]), self.side, self.up * flip)

    def transform(self) -> Points:
        """(2, 3): picture to BlazePose's input."""
        scale = SIDE / self.side * self.axes
        return np.column_stack([scale, SIDE / 2 - scale @ self.centre])


def upright(xy_K2: Points, shown: NDArray[np.bool_], skeleton: Skeleton) -> Upright:
    """Round the joints that count; the torso must be complete."""
    at = {joint: xy_K2[skeleton.index(joint)] for joint in skeleton.joints}
    hips = (at["left_hip"] + at["right_hip"]) / 2
    spine = (at["left_shoulder"] + at["right_shoulder"]) / 2 - hips
    up = spine / max(float(np.linalg.norm(spine)), 1e-6)
    frame = Upright(hips, 1.0, up)
    local = (xy_K2[shown] - hips) @ frame.axes.T
    low, high = local.min(axis=0), local.max(axis=0)
    centre = hips + (low + high) / 2 @ frame.axes
    return Upright(centre, float((high - low).max()) * PADDING, up)


class BlazePose:
    """Landmarks of one person (Bazarevsky et al. 2020), by name of joint."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._net = Interpreter(str(path), num_threads=1)
        self._net.allocate_tensors()
        self._in = self._net.get_input_details()[0]["index"]
        (self._out,) = (
            o["index"] for o in self._net.get_output_details() if list(o["shape"]) == [1, 195]
        )
        self._skeleton = skeleton
        self._joints = [
            (skeleton.index(f"{side}_{joint}"), pair[side == "right"])
            for joint, pair in LANDMARKS.items()
            for side in ("left", "right")
        ]

    def joints(self, picture: Image, where: Upright) -> Points:
        """(K, 2) in picture pixels."""
        transform = where.transform()
        crop = warp(picture, transform, (SIDE, SIDE), (0, 0, 0))
        self._net.set_tensor(self._in, crop[None, ..., ::-1].astype(np.float32) / 255)
        self._net.invoke()
        found = self._net.get_tensor(self._out).reshape(39, 5)[:, :2]
        xy = apply(cv2.invertAffineTransform(transform), found)
        joints = np.full((len(self._skeleton), 2), np.nan)
        for row, landmark in self._joints:
            joints[row] = xy[landmark]
        return joints

    def twice(self, picture: Image, where: Upright) -> tuple[Points, Points]:
        """Straight, and from the mirrored picture."""
        seen = self.joints(np.ascontiguousarray(picture[:, ::-1]), where.mirrored(picture.shape[1]))
        seen = seen[self._skeleton.flip_index]
        seen[:, 0] = picture.shape[1] - 1 - seen[:, 0]
        return self.joints(picture, where), seen


@cache
def _blazepose(path: Path, skeleton: Skeleton) -> BlazePose:
    """One a process."""
    cv2.setNumThreads(1)
    return BlazePose(path, skeleton)


def _asked(job: tuple[Path, Skeleton, Sample, Points]) -> tuple[Points, Points]:
    path, skeleton, sample, ours = job
    xy = np.where(sample.labelled[:, None], sample.xy, ours)
    where = upright(xy, sample.labelled | np.isin(skeleton.joints, TORSO), skeleton)
    return _blazepose(path, skeleton).twice(sample.picture.read(), where)


def opinions(poses: PoseSet, model: str, blazepose: Path, processes: int) -> Opinions:
    """What both models see, each looking twice."""
    folder = model_store.artefact(model_store.named(model), "onnxruntime", "fp32")
    card = read_card(folder)
    with open_backend("onnxruntime", Request(folder, card, "fp32", processes)) as backend:
        predict = seen_twice(predict_with(backend), poses.skeleton)
        ours = predict_joints(poses, card.input, card.decoder, predict)
    middle = (ours["straight"] + ours["mirrored"]) / 2
    jobs = [(blazepose, poses.skeleton, s, m) for s, m in zip(poses.samples, middle, strict=True)]
    theirs = []
    with get_context("spawn").Pool(processes) as pool:
        for done, answer in enumerate(pool.imap(_asked, jobs, chunksize=16), 1):
            theirs.append(answer)
            if done % 100 == 0:
                print(f"\r{done} of {len(jobs)}", end="", flush=True)
    straight, mirrored = (np.stack(look) for look in zip(*theirs, strict=True))
    return Opinions(ours["straight"], ours["mirrored"], straight, mirrored)


def fused(poses: PoseSet, seen: Opinions) -> Corrections:
    """The rules above."""
    skeleton = poses.skeleton
    truth = np.stack([s.xy for s in poses.samples]).astype(np.float64)
    labelled = np.stack([s.labelled for s in poses.samples])
    side = np.array([max(s.box[2:].max(), 1.0) for s in poses.samples])
    known = np.isfinite(seen.theirs).all(axis=(0, 2))
    swapped = doubted(
        np.where(known[:, None], seen.theirs_straight, 1e9),
        np.where(known[:, None], seen.theirs_mirrored, 1e9),
        truth,
        labelled & known,
        side,
        skeleton,
    ).swapped
    flip = skeleton.flip_index
    truth = np.where(swapped[:, None, None], truth[:, flip], truth)
    labelled = np.where(swapped[:, None], labelled[:, flip], labelled)
    theirs = seen.theirs - shift(seen, truth, labelled, side, skeleton)
    unsure = np.linalg.norm(seen.theirs_straight - seen.theirs_mirrored, axis=2) > (
        SURE * side[:, None]
    )
    xy, counts = _agreed(truth, labelled, seen.ours, theirs, side)
    counts |= labelled & unsure
    changed = (counts & (~labelled | (np.abs(xy - truth).max(axis=2) > 0))) & known
    moved = {
        s.id: {skeleton.joints[k]: _rounded(xy[n, k]) for k in np.flatnonzero(changed[n])}
        for n, s in enumerate(poses.samples)
        if changed[n].any()
    }
    wrong = labelled & ~counts & known
    return noted(poses, "BlazePose heavy and ours", swapped, wrong, moved)


def shift(
    seen: Opinions,
    truth: Points,
    labelled: NDArray[np.bool_],
    side: NDArray[np.floating],
    skeleton: Skeleton,
) -> Points:
    """(N, K, 2): how far BlazePose puts each joint from where the annotators do, as a rule.

    A median over the persons, in the frame of the torso and in shares of the person's size.
    """
    frames = np.stack([upright(o, np.ones(len(o), bool), skeleton).axes for o in seen.ours])
    local = np.einsum("nij,nkj->nki", frames, seen.theirs - truth) / side[:, None, None]
    usual = labelled & (np.linalg.norm(local, axis=2) < USUAL)
    columns = [
        np.median(local[usual[:, k], k], axis=0) if usual[:, k].any() else np.zeros(2)
        for k in range(len(skeleton))
    ]
    return np.einsum("nji,kj->nki", frames, np.stack(columns)) * side[:, None, None]


def _agreed(
    label: Points,
    labelled: NDArray[np.bool_],
    ours: Points,
    theirs: Points,
    side: NDArray[np.floating],
) -> tuple[Points, NDArray[np.bool_]]:
    """Where each joint is, and which of them count."""

    def near(a: Points, b: Points, share: float) -> NDArray[np.bool_]:
        return np.asarray(np.linalg.norm(a - b, axis=2) < share * side[:, None])

    twins = near(label, theirs, NEAR) & labelled
    ours_with_label = near(label, ours, NEAR) & labelled & ~twins
    ours_with_theirs = near(ours, theirs, NEAR) & labelled & ~twins & ~ours_with_label
    found = near(ours, theirs, CLOSE) & ~labelled
    xy = label.copy()
    xy = np.where(twins[..., None], (label + theirs) / 2, xy)
    xy = np.where((ours_with_theirs | found)[..., None], (ours + theirs) / 2, xy)
    return xy, twins | ours_with_label | ours_with_theirs | found


def _rounded(place: Points) -> tuple[float, float]:
    return round(float(place[0]), 1), round(float(place[1]), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask both, fuse, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--model", default="models/lite-base")
    parser.add_argument("--blazepose", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("corrections.json"))
    given = parser.parse_args(arguments)
    poses = load(given.data, given.split)
    seen = opinions(poses, given.model, given.blazepose, given.processes)
    corrections = fused(poses, seen)
    write_text(given.out, corrections.model_dump_json(indent=1))
    print(
        f"\n{len(corrections.swapped)} persons exchanged, "
        f"{sum(map(len, corrections.unlabelled.values()))} joints unlabelled, "
        f"{sum(map(len, corrections.moved.values()))} moved"
    )


if __name__ == "__main__":
    main()
