"""Opens an offline teacher: a checkpoint of ours or any ONNX heatmap model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec
from okdhp_edge.artifacts.external_model import ExternalPoseSpec, read_pose_spec
from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import BranchOutputs, PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.checkpoint import CheckpointInfo
from okdhp_edge.recipe.distillation import TeacherTable
from okdhp_edge.train.teacher import Teacher, TeacherOutput
from okdhp_edge.train.teacher_maps import Frame, make_frame
from okdhp_edge.train.validate import INT8_NAME

_FATAL_SEVERITY = 4
_HEATMAP_DIMENSIONS = 4


def open_teacher(table: TeacherTable, student: Skeleton, spec: InputSpec) -> Teacher:
    """The teacher of a recipe.

    Args:
        student: whose joints are taught.
        spec: the student's input; the teacher must look at the same part of the image.

    Raises:
        OkdhpError: the file is missing, no teacher, knows other joints or sees other crops.
    """
    path = Path(table.path).expanduser()
    if path.suffix == ".onnx":
        return _open_onnx_teacher(table, path, student, spec)
    net, facts = load_checkpoint(path)
    theirs = facts.recipe.input_spec()
    _check_crop(path, theirs, spec)
    output = _choose_output(table, facts)

    def predict_maps(image: Tensor) -> TeacherOutput:
        outputs: BranchOutputs = net.to(image.device)(image)
        maps = outputs.ensemble if output == "ensemble" else outputs.last(int(output[6:]))
        return TeacherOutput(maps, outputs.backbone_features)

    return Teacher(
        predict_maps, name=str(path), joints=facts.skeleton.joints,
        frame=Frame(theirs.size, theirs.size), student=student, kind=facts.recipe.heatmap.kind,
        reads_mask=facts.recipe.network.mask, table=table,
    )  # fmt: skip


def load_checkpoint(path: Path) -> tuple[PoseNet, CheckpointInfo]:
    """A trained network, frozen and in eval mode.

    Raises:
        ModelError: missing, damaged, or not written by this project.
    """
    facts = checkpoint.read_info(path)
    net = build_network(facts.recipe.network, facts.channels, load_encoder=False)
    checkpoint.load_net(path, net)
    return net.eval().requires_grad_(requires_grad=False), facts


def _choose_output(table: TeacherTable, facts: CheckpointInfo) -> str:
    # INT8 is the deployed branch once more, made coarser.
    floats = [name for name in facts.scores if name != INT8_NAME]
    output = table.output or max(floats, key=lambda name: facts.scores[name])
    if output not in floats:
        raise RecipeError(
            f"teacher {table.path} has no output '{output}'",
            f"use one of {', '.join(floats)}",
        )
    return output


def _check_crop(path: Path, teacher: InputSpec, student: InputSpec) -> None:
    same_shape = teacher.width * student.height == teacher.height * student.width
    if not same_shape or teacher.box_padding != student.box_padding:
        raise RecipeError(
            f"teacher {path} takes crops of {teacher.width}x{teacher.height} padded by "
            f"{teacher.box_padding}, the student {student.width}x{student.height} by "
            f"{student.box_padding}",
            "use the same aspect ratio and box_padding; the size may differ",
        )


class _OnnxInfo(NamedTuple):
    joints: Sequence[str]
    kind: HeatmapKind
    frame: Frame
    foreign: ExternalPoseSpec | None
    """How a network that is not ours is fed."""


def _open_onnx_teacher(
    table: TeacherTable, path: Path, student: Skeleton, spec: InputSpec
) -> Teacher:
    if not path.is_file():
        raise RecipeError(f"teacher {path} does not exist", "check its `path` in [distillation]")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_SEVERITY
    options.intra_op_num_threads = torch.get_num_threads()  # they take turns with PyTorch's
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # pybind raises its own kinds
        raise RecipeError(
            f"teacher {path} cannot be loaded ({str(error)[:120]})", "use an ONNX heatmap model"
        ) from error
    facts = _read_onnx_facts(session, path, spec, table)
    described = facts.foreign.output if facts.foreign else None
    names = [port.name for port in session.get_outputs()]
    output = table.output or described or names[0]
    if output not in names:
        raise RecipeError(
            f"teacher {path} has no output {output}", f"use one of {', '.join(names)}"
        )
    _check_output(session, output, path, facts)
    on_cpu, on_device = _make_onnxruntime_runner(session, output), _make_torch_runner(path, output)

    def predict_maps(image: Tensor) -> TeacherOutput:
        fed = _normalize_image(image, facts.foreign) if facts.foreign else image
        maps = on_device(fed) if image.device.type != "cpu" else None
        return TeacherOutput((on_cpu(fed) if maps is None else maps).to(image.device), None)

    return Teacher(
        predict_maps, name=str(path), joints=facts.joints, kind=facts.kind, frame=facts.frame,
        student=student, table=table, foreign=facts.foreign,
    )  # fmt: skip


def _check_output(session: Any, output: str, path: Path, facts: _OnnxInfo) -> None:
    """Raise RecipeError where the output is no heatmaps of the joints that are described."""
    shape = next(port.shape for port in session.get_outputs() if port.name == output)
    count = len(facts.joints)
    channels = shape[1] if len(shape) == _HEATMAP_DIMENSIONS else None
    if channels != count and not isinstance(channels, str):
        raise RecipeError(
            f"teacher {path} returns {shape}, expected heatmaps of {count} joints",
            f"fix `joints` or `output` in {path.with_suffix('.toml').name}",
        )


def _make_onnxruntime_runner(session: Any, output: str) -> Callable[[Tensor], Tensor]:
    source = session.get_inputs()[0]
    from okdhp_edge.backends.onnxruntime import NUMPY_DTYPES

    dtype = NUMPY_DTYPES.get(source.type, np.float32)
    batch = source.shape[0] if isinstance(source.shape[0], int) else None

    def run(fed: Tensor) -> Tensor:
        crops = fed.cpu().numpy().astype(dtype, copy=False)
        count = len(crops)
        if batch and count % batch:  # the last part is filled up
            crops = np.concatenate([crops, np.repeat(crops[-1:], -count % batch, axis=0)])
        parts = [crops[i : i + batch] for i in range(0, count, batch)] if batch else [crops]
        maps = [np.asarray(session.run([output], {source.name: part})[0]) for part in parts]
        return torch.from_numpy(np.concatenate(maps)[:count])

    return run


def _make_torch_runner(path: Path, output: str) -> Callable[[Tensor], Tensor | None]:
    """The same network on the crops' device; gives None where it has operators unknown there."""
    import onnx

    from okdhp_edge.network.onnx_module import OnnxModule, UnknownOperatorError

    loaded: list[OnnxModule | None] = []

    def run(fed: Tensor) -> Tensor | None:
        try:
            if not loaded:
                loaded.append(OnnxModule(onnx.load(path), output).to(fed.device))
            return None if loaded[0] is None else loaded[0](fed)
        except UnknownOperatorError:
            loaded[:] = [None]
            return None

    return run


def _read_onnx_facts(
    session: object, path: Path, spec: InputSpec, table: TeacherTable
) -> _OnnxInfo:
    """From our own metadata, or from the TOML file next to it where it is foreign."""
    metadata = session.get_modelmeta().custom_metadata_map  # type: ignore[attr-defined]
    if "okdhp_edge.skeleton" in metadata:
        theirs = InputSpec.model_validate_json(metadata["okdhp_edge.input"])
        _check_crop(path, theirs, spec)
        joints = json.loads(metadata["okdhp_edge.skeleton"])["joints"]
        decoder = DecoderSpec.model_validate_json(metadata["okdhp_edge.decoder"])
        return _OnnxInfo(joints, decoder.kind, Frame(theirs.size, theirs.size), foreign=None)
    shape = session.get_inputs()[0].shape  # type: ignore[attr-defined]
    described = read_pose_spec(path)
    height, width = shape[1:3] if described.layout == "NHWC" else shape[2:4]
    fixed = isinstance(height, int) and isinstance(width, int)
    if not (fixed or described.size):
        raise RecipeError(
            f"teacher {path} has a dynamic input size",
            f"add `size = [width, height]` to {path.with_suffix('.toml').name}",
        )
    size = described.size or (width, height)
    # A description for labelling may read keypoints where the recipe names the heatmaps.
    if described.reads != "heatmaps" and table.output in (None, described.output):
        raise RecipeError(
            f"teacher {path} returns keypoints, not heatmaps", "use a teacher that returns heatmaps"
        )
    frame = make_frame(size, spec.size)
    return _OnnxInfo(described.skeleton.joints, described.kind, frame, foreign=described)


def _normalize_image(image_NHWC: Tensor, table: ExternalPoseSpec) -> Tensor:
    """Float, in the layout and colours that the published network wants."""
    colours = image_NHWC.float()
    if table.colour == "RGB":
        colours = colours.flip(-1)
    mean, std = (torch.tensor(v, device=colours.device) for v in (table.mean, table.std))
    scaled = (colours - mean) / std
    return scaled if table.layout == "NHWC" else scaled.permute(0, 3, 1, 2).contiguous()
