"""The drawn person: a posture of angles, its joints, and the paint over them."""

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import LSP14

Colour = tuple[int, int, int]
_JOINT_INDEX = {name: i for i, name in enumerate(LSP14.joints)}

# Segment lengths as shares of body height (Winter, Biomechanics of Human Movement, rounded).
_HEAD_LENGTH, _TORSO_LENGTH, _UPPER_ARM_LENGTH, _FOREARM_LENGTH, _THIGH_LENGTH, _SHIN_LENGTH = (
    0.14,
    0.30,
    0.18,
    0.16,
    0.24,
    0.24,
)
_SHOULDER_HALF_WIDTH, _HIP_HALF_WIDTH = 0.115, 0.075


@dataclass(frozen=True)
class Posture:
    """Angles in radians; 0 hangs straight down (limbs) or stands straight up (torso, head).

    `turn` is the cosine of the body's turn about its axis: 1 faces the camera, 0 side-on,
    negative shows the back.
    """

    torso: float
    head: float
    turn: float
    left_arm: float
    right_arm: float
    left_elbow: float
    right_elbow: float
    left_leg: float
    right_leg: float
    left_knee: float
    right_knee: float


def random_posture(rng: np.random.Generator, *, upright: bool = False) -> Posture:
    """A varied posture; one in ten is tilted far, one in thirty seen from behind."""
    tilted = rng.uniform() < 1 / 10 and not upright
    back = rng.uniform() < 1 / 30 and not upright
    bend = rng.uniform
    return Posture(
        torso=bend(-1.2, 1.2) if tilted else rng.normal(0, 0.2),
        head=rng.normal(0, 0.2),
        turn=(-1 if back else 1) * bend(0.55, 1.0),
        left_arm=bend(0.0, 2.7),
        right_arm=-bend(0.0, 2.7),
        left_elbow=bend(-0.3, 1.4),
        right_elbow=-bend(-0.3, 1.4),
        left_leg=bend(-0.1, 0.9),
        right_leg=-bend(-0.1, 0.9),
        left_knee=-bend(-0.1, 1.1),
        right_knee=bend(-0.1, 1.1),
    )


def interpolate_postures(a: Posture, b: Posture, share: float) -> Posture:
    """The posture `share` of the way from `a` to `b`."""
    return replace(
        a, **{f.name: (1 - share) * getattr(a, f.name) + share * getattr(b, f.name)
              for f in fields(a)}
    )  # fmt: skip


def compute_joints(posture: Posture, height: float) -> NDArray[np.float64]:
    """(14, 2) LSP joints with the pelvis at the origin, for a body `height` pixels tall."""
    xy = np.zeros((len(LSP14), 2))
    up = _direction(np.pi + posture.torso)
    across = np.array([-up[1], up[0]]) * posture.turn
    neck = up * _TORSO_LENGTH * height
    xy[_JOINT_INDEX["neck"]] = neck
    xy[_JOINT_INDEX["head_top"]] = (
        neck + _direction(np.pi + posture.torso + posture.head) * _HEAD_LENGTH * height
    )
    # Facing us, the person's left is on the image's right.
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = neck * 0.96 + across * sign * _SHOULDER_HALF_WIDTH * height
        hip = across * sign * _HIP_HALF_WIDTH * height
        _place_limb(xy, posture, side, ("shoulder", "elbow", "wrist"), shoulder,
              ("arm", "elbow"), (_UPPER_ARM_LENGTH * height, _FOREARM_LENGTH * height))  # fmt: skip
        _place_limb(xy, posture, side, ("hip", "knee", "ankle"), hip,
              ("leg", "knee"), (_THIGH_LENGTH * height, _SHIN_LENGTH * height))  # fmt: skip
    return xy


def _place_limb(
    xy: NDArray[np.float64],
    posture: Posture,
    side: str,
    joints: tuple[str, str, str],
    start: NDArray[np.float64],
    angles: tuple[str, str],
    lengths: tuple[float, float],
) -> None:
    facing = 1.0 if posture.turn >= 0 else -1.0
    first = posture.torso + facing * getattr(posture, f"{side}_{angles[0]}")
    second = first + facing * getattr(posture, f"{side}_{angles[1]}")
    middle = start + _direction(first) * lengths[0]
    for name, point in zip(
        joints, (start, middle, middle + _direction(second) * lengths[1]), strict=True
    ):
        xy[_JOINT_INDEX[f"{side}_{name}"]] = point


def _direction(angle: float) -> NDArray[np.float64]:
    """Unit vector; 0 points down, positive turns towards the image's right."""
    return np.array([np.sin(angle), np.cos(angle)])


@dataclass(frozen=True)
class Appearance:
    """Colours and build of a person."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    sleeves: bool
    stripes: float
    build: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Appearance":
        """Any clothing; skin and hair from plausible ranges."""
        tone = rng.uniform(0.35, 1.0)
        skin = (int(150 * tone), int(185 * tone), int(235 * tone))
        hair = tuple(int(c) for c in rng.uniform(10, 90) * np.array([0.6, 0.8, 1.0]))
        shirt, trousers = (tuple(int(c) for c in rng.integers(10, 246, 3)) for _ in range(2))
        return cls(
            skin, (hair[0], hair[1], hair[2]), (shirt[0], shirt[1], shirt[2]),
            (trousers[0], trousers[1], trousers[2]), bool(rng.uniform() < 0.5),
            float(rng.uniform(3, 12)) if rng.uniform() < 0.4 else 0.0, float(rng.uniform(0.8, 1.3)),
        )  # fmt: skip


def draw_figure(
    canvas: Image,
    xy: NDArray[np.float64],
    posture: Posture,
    look: Appearance,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Paint the person whose joints are `xy` (14, 2) into `canvas`; returns where (H, W)."""
    unit = _measure_torso(xy) * 0.2 * look.build
    layer = canvas.copy()
    near = "left" if rng.uniform() < 0.5 else "right"
    far = "right" if near == "left" else "left"
    _draw_arm(layer, xy, far, look, unit)
    for side in (far, near):
        _draw_leg(layer, xy, side, look, unit)
    _draw_torso(layer, xy, look, unit)
    _draw_head(layer, xy, posture, look, unit)
    _draw_arm(layer, xy, near, look, unit)
    figure: NDArray[np.bool_] = np.asarray(cv2.absdiff(layer, canvas)).max(axis=2) > 0
    canvas[:] = np.where(figure[:, :, None], _shade(layer, rng), canvas)
    return figure


def _measure_torso(xy: NDArray[np.float64]) -> float:
    pelvis = (xy[_JOINT_INDEX["left_hip"]] + xy[_JOINT_INDEX["right_hip"]]) / 2
    return max(float(np.linalg.norm(xy[_JOINT_INDEX["neck"]] - pelvis)), 4.0)


def _draw_arm(
    layer: Image, xy: NDArray[np.float64], side: str, look: Appearance, unit: float
) -> None:
    shoulder, elbow, wrist = (
        xy[_JOINT_INDEX[f"{side}_{j}"]] for j in ("shoulder", "elbow", "wrist")
    )
    forearm = look.shirt if look.sleeves else look.skin
    _draw_capsule(layer, elbow, wrist, unit * 0.5, unit * 0.36, forearm)
    _draw_capsule(layer, shoulder, elbow, unit * 0.62, unit * 0.5, look.shirt)
    hand = wrist + (wrist - elbow) * 0.12
    _draw_capsule(layer, wrist, hand, unit * 0.36, unit * 0.42, look.skin)


def _draw_leg(
    layer: Image, xy: NDArray[np.float64], side: str, look: Appearance, unit: float
) -> None:
    hip, knee, ankle = (xy[_JOINT_INDEX[f"{side}_{j}"]] for j in ("hip", "knee", "ankle"))
    _draw_capsule(layer, knee, ankle, unit * 0.62, unit * 0.42, look.trousers)
    _draw_capsule(layer, hip, knee, unit * 0.85, unit * 0.62, look.trousers)
    _draw_capsule(layer, ankle, ankle + (ankle - knee) * 0.16, unit * 0.45, unit * 0.5, look.hair)


def _draw_torso(layer: Image, xy: NDArray[np.float64], look: Appearance, unit: float) -> None:
    names = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
    corners = np.array([xy[_JOINT_INDEX[n]] for n in names])
    _fill(layer, corners, look.shirt)
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        _draw_capsule(layer, corners[a], corners[b], unit * 0.6, unit * 0.6, look.shirt)
    if look.stripes:
        for share in np.arange(0.1, 0.95, 0.2):
            ends = [corners[0] + share * (corners[3] - corners[0]),
                    corners[1] + share * (corners[2] - corners[1])]  # fmt: skip
            _draw_capsule(layer, ends[0], ends[1], unit * 0.12, unit * 0.12, look.trousers)


def _draw_head(
    layer: Image, xy: NDArray[np.float64], posture: Posture, look: Appearance, unit: float
) -> None:
    neck, top = xy[_JOINT_INDEX["neck"]], xy[_JOINT_INDEX["head_top"]]
    up = top - neck
    across = np.array([-up[1], up[0]])
    _draw_capsule(layer, neck, neck + up * 0.4, unit * 0.4, unit * 0.4, look.skin)
    facing = posture.turn >= 0
    _draw_ellipse(layer, neck + up * 0.62, up * 0.42, 0.72, look.skin if facing else look.hair)
    _draw_ellipse(layer, neck + up * 0.86, up * 0.18, 1.7, look.hair)
    if facing:
        for sign in (-1, 1):
            eye = neck + up * 0.66 + across * 0.13 * sign
            _draw_capsule(layer, eye, eye, unit * 0.11, unit * 0.11, (20, 20, 20))


def _draw_capsule(
    layer: Image,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    radius_a: float,
    radius_b: float,
    colour: Colour,
) -> None:
    """A tapered limb with round ends."""
    along = b - a
    length = float(np.linalg.norm(along)) or 1.0
    normal = np.array([-along[1], along[0]]) / length
    _fill(layer, np.array([a + normal * radius_a, b + normal * radius_b,
                           b - normal * radius_b, a - normal * radius_a]), colour)  # fmt: skip
    for point, radius in ((a, radius_a), (b, radius_b)):
        centre = (round(float(point[0]) * 8), round(float(point[1]) * 8))
        cv2.circle(layer, centre, round(radius * 8), colour, -1, cv2.LINE_AA, 3)


def _fill(layer: Image, corners: NDArray[np.float64], colour: Colour) -> None:
    cv2.fillConvexPoly(layer, np.round(corners * 8).astype(np.int32), colour, cv2.LINE_AA, 3)


def _draw_ellipse(
    layer: Image, centre: NDArray[np.float64], up: NDArray[np.float64], ratio: float, colour: Colour
) -> None:
    """An ellipse whose half axis is `up`, and `ratio` times as wide."""
    half = max(float(np.linalg.norm(up)), 1.0)
    angle = float(np.degrees(np.arctan2(up[1], up[0])))
    shape = ((float(centre[0]), float(centre[1])), (2 * half, 2 * half * ratio), angle)
    cv2.ellipse(layer, shape, colour, -1, cv2.LINE_AA)


def _shade(layer: Image, rng: np.random.Generator) -> Image:
    """With a cloth-like texture."""
    height, width = layer.shape[:2]
    grid = rng.normal(1.0, 0.12, size=(max(height // 5, 1), max(width // 5, 1))).astype(np.float32)
    texture = np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(cv2.convertScaleAbs(layer * texture[:, :, None]), dtype=np.uint8)
