"""An offline teacher: joints matched by name, its heatmaps on the student's grid.

N crops, K the student's joints.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.artifacts.external_model import ExternalPoseSpec
from okdhp_edge.errors import RecipeError
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import TeacherTable
from okdhp_edge.train.teacher_maps import (
    Frame,
    draw_in_frame,
    find_confidences,
    move_to_grid,
    normalize_peaks,
)

MIN_TEACHER_PEAK = 0.1
"""Below it a teacher's heatmap shows no joint: normalized to peak 1 it would teach its noise."""


class TeacherTargets(NamedTuple):
    """What a teacher says of a batch.

    Attributes:
        heatmaps: (N, K, h, w), at least 0 and with peak 1, on the student's grid.
        joint_mask: (N, K) 1 for the joints that the teacher has and finds in the crop.
        features: (N, C, h, w) of its trunk; None where it does not show them.
    """

    heatmaps: Tensor
    joint_mask: Tensor
    features: Tensor | None


class TeacherOutput(NamedTuple):
    """A network's answer as it is."""

    heatmaps: Tensor
    features: Tensor | None


class Teacher:
    """A frozen network. Nothing of it is learned, saved or given a gradient.

    Args:
        frame: the network's input, and where in it the student's crops are shown.
    """

    def __init__(
        self,
        answer: Callable[[Tensor], TeacherOutput],
        *,
        name: str,
        joints: Sequence[str],
        kind: HeatmapKind,
        frame: Frame,
        student: Skeleton,
        reads_mask: bool = False,
        table: TeacherTable | None = None,
        foreign: ExternalPoseSpec | None = None,
    ) -> None:
        self._answer = answer
        self._foreign = foreign
        self._kind = kind
        self._power = table.power if table else 1.0
        self.window = table.window if table else None
        self._frame = frame
        self.reads_mask = reads_mask
        self._all_joints = tuple(joints)
        index = {joint: i for i, joint in enumerate(joints)}
        if not index.keys() & set(student.joints):
            raise RecipeError(
                f"teacher {name} predicts none of the joints {', '.join(student.joints)}",
                "use the data set's joint names in the .toml file next to it",
            )
        self._pick = torch.tensor([index.get(joint, 0) for joint in student.joints])
        self._joint_mask = torch.tensor([float(joint in index) for joint in student.joints])

    @property
    def crop_size(self) -> tuple[int, int]:
        """(width, height) of the crops that need no resizing for this teacher."""
        return self._frame.crop_size

    @torch.no_grad()
    def __call__(self, image_NHWC: Tensor, grid: tuple[int, int]) -> TeacherTargets:
        """Teach crops.

        Args:
            image_NHWC: uint8 BGR, with the person's mask as fourth channel where it is at hand.
            grid: (height, width) of the student's heatmaps.
        """
        if not self.reads_mask:
            image_NHWC = image_NHWC[..., :3]
        answer = self._answer(draw_in_frame(image_NHWC, self._frame))
        maps = answer.heatmaps.float()[:, self._pick.to(image_NHWC.device)]
        if self._foreign is not None:
            offset = np.broadcast_to(self._foreign.offset, (len(self._all_joints), 2))
            maps = move_to_grid(
                maps, grid, self._foreign.grid, self._frame, offset[self._pick.numpy()]
            )
        found = find_confidences(maps, self._kind) >= MIN_TEACHER_PEAK
        if self._foreign is None and maps.shape[2:] != grid:
            # Without antialiasing, peaks between the cells that are read would be lost.
            maps = F.interpolate(maps, grid, mode="bilinear", antialias=True)
        return TeacherTargets(
            normalize_peaks(maps, self._kind) ** self._power,
            self._joint_mask.to(maps.device) * found, answer.features,
        )  # fmt: skip
