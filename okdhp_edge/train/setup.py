"""Set up a training run before its first step, or resume an interrupted one."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim.swa_utils import AveragedModel

from okdhp_edge.data.corrections import apply_corrections, read_corrections
from okdhp_edge.data.detection import load_for
from okdhp_edge.data.load import load, split_off_suffix
from okdhp_edge.data.sample import PoseDataset, list_kinds, split_sources
from okdhp_edge.errors import OkdhpError, RecipeError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.network.fake_quant import QuantizedBranch
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.allocator import retain_freed_memory
from okdhp_edge.system.hardware import check_descriptors
from okdhp_edge.system.progress import Report, ignore_progress
from okdhp_edge.train.batchnorm import make_process_wide
from okdhp_edge.train.checks import (
    check_batch,
    check_boxes,
    check_epochs,
    check_metric_of,
    warn_of_overlap,
)
from okdhp_edge.train.dataset import Batch, CropDataset, iterate_batches
from okdhp_edge.train.detection_dataset import DetectionBatch, DetectionDataset
from okdhp_edge.train.freeze import freeze
from okdhp_edge.train.initialize import initialize
from okdhp_edge.train.methods import Method, build_method
from okdhp_edge.train.processes import read_process_layout
from okdhp_edge.train.quantization import QuantizationAware
from okdhp_edge.train.schedule import build_optimizer
from okdhp_edge.train.step import TrainingStep
from okdhp_edge.train.weight_average import make_weight_average

_NUM_CALIBRATION_BATCHES = 8
LAST = "last.safetensors"
"""The checkpoint after the last epoch, from which a run is resumed."""
# Of Lightning's names those with which a run resumes exactly.
_PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What decides how a run is carried out, not what it gives."""

    out: Path
    resume: bool = False
    val_data: str | None = None
    """KIND:PATH, with its `val` or the split named behind an @, to evaluate on in place of the
    data's own `val`."""
    device: str = "auto"
    precision: str = "32-true"
    workers: int = 1
    report: Report = ignore_progress
    say: Callable[[str], None] = lambda _: None
    """Told what the run begins with, in words for people."""


@dataclass(kw_only=True)
class Run:
    """A training run: data, network, method and optimizer on their devices, and how far it is."""

    recipe: Recipe
    fabric: Fabric
    data: str
    train: PoseDataset
    val: PoseDataset
    val_data: str | None
    metric: str
    net: PoseNet
    method: Method
    quantization: QuantizationAware | None
    model: Any
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    epochs_done: int = 0
    best_score: float = float("-inf")

    @property
    def evaluated_net(self) -> PoseNet:
        """The network that is validated and kept."""
        return self.net if self.average is None else cast(PoseNet, self.average.module)

    @property
    def extra_modules(self) -> dict[str, nn.Module]:
        """What learns beside the network."""
        return _drop_missing({"method": self.method, "quantization": self.quantization})

    @property
    def resumable_modules(self) -> dict[str, nn.Module]:
        """What a resumed run needs besides network and optimizer."""
        return self.extra_modules | _drop_missing({"average": self.average})

    def get_int8_branch(self, epoch: int) -> QuantizedBranch | None:
        """The INT8 branch, from the epoch on in which it learns."""
        part = self.quantization
        return part.branch if part and epoch >= part.table.start_epoch else None


def _drop_missing(modules: dict[str, nn.Module | None]) -> dict[str, nn.Module]:
    return {name: module for name, module in modules.items() if module is not None}


def get_batch_type(recipe: Recipe) -> type:
    """What one step of the training takes."""
    return DetectionBatch if recipe.is_detector else Batch


def make_training_set(run: Run) -> CropDataset | DetectionDataset:
    """The crops that the student and its teachers see; of a detector the images."""
    recipe, table = run.recipe, run.recipe.distillation
    spec = recipe.input_spec()
    if recipe.is_detector:
        return DetectionDataset(
            run.train.samples, spec, recipe.decoder_spec().stride, recipe.augmentation, recipe.seed
        )
    if run.method.reads_mask:
        spec = spec.model_copy(update={"mask": True})
    extra = table.unlabelled_split
    return CropDataset(
        run.train.samples, run.train.skeleton, spec, recipe.decoder_spec().stride,
        recipe.augmentation, recipe.seed,
        # Of the first set alone: all persons of those added to it are there already.
        unlabelled=_load_first_set(run.data, extra).samples if extra else (),
        large=run.method.large,
    )  # fmt: skip


def _load_first_set(data: str, split: str) -> PoseDataset:
    """A split of the first set, whatever split of it is trained on."""
    place, _ = split_off_suffix(split_sources(data)[0])
    return load(place.replace(",", "\\,"), split)


def prepare(recipe: Recipe, data: str, options: TrainingOptions) -> Run:
    """Data, network, method and optimizer, on their devices.

    Raises:
        OkdhpError: data, recipe or device cannot be used.
    """
    check_epochs(recipe)
    check_boxes(recipe)
    check_descriptors(options.workers)
    train_set = load_for(recipe.kind, data, recipe.train_split)
    if recipe.skeleton.pairs:
        skeleton = train_set.skeleton.with_twins(recipe.skeleton.pairs)
        train_set = replace(train_set, skeleton=skeleton)
    check_batch(recipe, train_set)
    if recipe.augmentation.flip and not recipe.is_detector:
        options.say(train_set.skeleton.mirroring)
    # The `val` of a set of its own, or else the data's.
    val_set = load_for(recipe.kind, options.val_data or data, "val")
    val_set = val_set.with_skeleton(train_set.skeleton)
    warn_of_overlap(train_set, val_set, options.say)
    if recipe.corrections:
        train_set = apply_corrections(
            train_set, read_corrections(Path(recipe.corrections).expanduser())
        )
    metric = recipe.metric or val_set.metric
    check_metric_of(metric, val_set)
    fabric = _launch(options)
    cv2.setNumThreads(1)
    if fabric.device.type == "cpu":
        retain_freed_memory()
    # All batches have one shape: the fastest kernel of the first serves the rest.
    torch.backends.cudnn.benchmark = fabric.device.type == "cuda"
    torch.manual_seed(recipe.seed)
    net = _build_net(recipe, train_set.skeleton, options)
    method = build_method(recipe, train_set.skeleton)
    method.prepare(net)
    if fabric.world_size > 1:
        make_process_wide(net)  # first: INT8 learns on the weights that are there then
    quantization = _make_quantization(net, recipe)
    step = TrainingStep(net, method, quantization, recipe.freeze)
    if fabric.world_size > 1:
        make_process_wide(step)
    cast(nn.Module, step).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = fabric.setup(step, build_optimizer(step, recipe.optimizer))
    method.over_processes = lambda count: cast(
        # Summed over processes and divided among them, because DDP averages gradients.
        torch.Tensor,
        fabric.all_reduce(count, reduce_op="mean"),
    )
    return Run(
        recipe=recipe, fabric=fabric, data=data, train=train_set, val=val_set, metric=metric,
        val_data=options.val_data, net=net, method=method, quantization=quantization,
        model=model, optimizer=optimizer,
        average=make_weight_average(net, decay) if (decay := recipe.optimizer.average) else None,
    )  # fmt: skip


def _build_net(recipe: Recipe, skeleton: Skeleton, options: TrainingOptions) -> PoseNet:
    """The network with the weights that it starts from. A checkpoint brings all weights: what they
    once started from need not be there any more."""
    resumes = options.resume and (options.out / LAST).is_file()
    channels = recipe.count_channels(len(skeleton))
    net = build_network(recipe.network, channels, load_encoder=not resumes)
    if not resumes:
        initialize(net, recipe, skeleton, options.say)
    freeze(net, recipe.freeze)
    return net


def _check_joints(path: Path, facts: checkpoint.CheckpointInfo, skeleton: Skeleton) -> None:
    if facts.skeleton.joints != skeleton.joints:
        raise RecipeError(
            f"{path} predicts {facts.skeleton.name} joints, but the data are {skeleton.name}",
            "list data with the same joints first, others after a comma",
        )


def _make_quantization(net: PoseNet, recipe: Recipe) -> QuantizationAware | None:
    table = recipe.quantization
    if table is None:
        return None
    branch = QuantizedBranch(net, table.branch, recipe.input.size, table.placement)
    return QuantizationAware(branch, table)


def calibrate(run: Run, quantization: QuantizationAware, loader: Any) -> None:
    """The first steps of the quantizers, from the first training crops; of several processes, from
    the first one's share."""
    quantizers = quantization.branch.quantizers
    device = cast(torch.device, quantizers[0].zero_point.device)
    batches = itertools.islice(iterate_batches(loader), _NUM_CALIBRATION_BATCHES)
    quantization.branch.calibrate(batch.image[..., :3].to(device) for batch in batches)
    for quantizer in quantizers if run.fabric.world_size > 1 else ():
        quantizer.load_state_dict(run.fabric.broadcast(quantizer.state_dict()))


def _launch(options: TrainingOptions) -> Fabric:
    """One process, or as many as torchrun or srun started."""
    if options.precision not in _PRECISIONS:
        raise OkdhpError(
            f"unknown precision '{options.precision}'",
            f"use --precision {' or '.join(_PRECISIONS)}",
        )
    layout = read_process_layout()
    try:
        fabric = Fabric(
            accelerator=options.device,
            devices=layout.per_node,
            num_nodes=layout.nodes,
            # Not every method uses every weight: without an ensemble the FAU is idle, for one.
            strategy="ddp_find_unused_parameters_true" if layout.total > 1 else "auto",
            precision=cast(Any, options.precision),
        )
        fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise OkdhpError(
            f"device '{options.device}' cannot be used ({str(error).splitlines()[0]})",
            "choose --device cpu, or see `okdhp-edge doctor`",
        ) from error
    return fabric


def _describe_sets(data: str) -> str:
    """Kinds and splits, without the places, which may have moved."""
    sets = [split_off_suffix(part) for part in split_sources(data)]
    return "+".join(list_kinds(place) + (f"@{split}" if split else "") for place, split in sets)


def resume(run: Run, last: Path) -> None:
    """Take up a run after its last checkpoint, exactly.

    Raises:
        OkdhpError: another recipe made that checkpoint, or other data.
    """
    facts = checkpoint.read_info(last)
    _check_joints(last, facts, run.train.skeleton)
    before, now = _describe_sets(facts.data), _describe_sets(run.data)
    samples = facts.samples or len(run.train)
    if (before, samples) != (now, len(run.train)):
        raise OkdhpError(
            f"{last} was trained on {before} ({samples} samples), not on {now} ({len(run.train)})",
            "use the same --data, or train into another --out",
        )
    if facts.recipe != run.recipe:
        raise OkdhpError(
            f"{last} was trained with another recipe",
            "resume with the recipe it was started with, or train into another --out",
        )
    if _describe_sets(facts.val_data or "") != _describe_sets(run.val_data or ""):
        raise OkdhpError(
            f"{last} was evaluated on {facts.val_data or 'the val of its data'}, not on "
            f"{run.val_data or 'that of its data'}",
            "use the same --val-data, or train into another --out",
        )
    checkpoint.load_net(last, run.net)
    checkpoint.load_optimizer(last, run.optimizer)
    for name, module in run.resumable_modules.items():
        checkpoint.load_extra_module(last, name, module)
    run.epochs_done, run.best_score = facts.epochs_done, facts.best_score
