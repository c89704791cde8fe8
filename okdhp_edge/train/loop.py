"""The training loop: epochs, validation of every branch, the best branch kept."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from okdhp_edge import __version__, checkpoint
from okdhp_edge.card import SkeletonSpec, writing
from okdhp_edge.checkpoint import Facts
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseSet
from okdhp_edge.distillation import FpdTable
from okdhp_edge.errors import OkdhpError
from okdhp_edge.evaluate import check_metric
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.recipe import Recipe
from okdhp_edge.train.batchnorm import make_process_wide
from okdhp_edge.train.dataset import Batch, CropDataset, EpochBatches, build_loader
from okdhp_edge.train.journal import AGREEMENT, ENSEMBLE_GAIN, GRADIENT_RATIO, Journal, Row
from okdhp_edge.train.methods import Method, build_method
from okdhp_edge.train.schedule import build_optimiser, learning_rate
from okdhp_edge.train.step import StepResult, TrainingStep
from okdhp_edge.train.validate import validate

# The two extra backward passes, from the loss to the heatmaps alone, cost little but not nothing.
_MEASURE_EVERY = 10
LAST, BEST = "last.safetensors", "best.safetensors"
Report = Callable[[str, int, int, str], None]
"""Told stage, steps done, steps in all, and a short text."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What decides how a run is carried out, not what it gives."""

    out: Path
    resume: bool = False
    device: str = "auto"
    precision: str = "32-true"
    workers: int = 1
    report: Report = lambda *_: None


@dataclass(kw_only=True)
class _Run:
    recipe: Recipe
    fabric: Fabric
    train: PoseSet
    val: PoseSet
    metric: str
    net: PoseNet
    method: Method
    model: Any
    optimiser: torch.optim.Optimizer
    epochs_done: int = 0
    best_score: float = float("-inf")


def train(recipe: Recipe, data: str, options: TrainingOptions) -> Path:
    """Train as the recipe says; returns the best checkpoint.

    Args:
        recipe: what to train.
        data: KIND:PATH.
        options: where, on what, resumed or not.

    Raises:
        OkdhpError: data, recipe or place cannot be used; the loss is no longer finite.
    """
    run = _prepare(recipe, data, options)
    last = options.out / LAST
    if options.resume and last.is_file():
        _resume(run, last)
    elif run.fabric.is_global_zero:
        with writing(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.out, run.epochs_done) if run.fabric.is_global_zero else None
    dataset = _dataset(run)
    batches = EpochBatches(
        len(dataset), recipe.optimiser.batch_size, recipe.seed,
        run.fabric.global_rank, run.fabric.world_size,
    )  # fmt: skip
    loader = build_loader(dataset, batches, options.workers)
    for epoch in range(run.epochs_done, recipe.optimiser.epochs):
        batches.epoch = epoch
        row = _train_epoch(run, cast(Any, loader), len(batches), epoch, options.report)
        if journal:
            row |= _validate_and_save(run, options, epoch)
            journal.add(row)
        run.fabric.barrier()
    if journal:
        journal.close()
    return options.out / BEST


def _dataset(run: _Run) -> CropDataset:
    recipe, table = run.recipe, run.recipe.distillation
    spec = recipe.input_spec()
    if run.method.reads_mask:
        spec = spec.model_copy(update={"mask": True})
    extra = table.unlabelled if isinstance(table, FpdTable) else None
    return CropDataset(
        run.train.samples, run.train.skeleton, spec, recipe.decoder_spec().stride,
        recipe.augmentation, recipe.seed,
        unlabelled=load(run.train.source, extra).samples if extra else (),
        large=run.method.large,
    )  # fmt: skip


def _prepare(recipe: Recipe, data: str, options: TrainingOptions) -> _Run:
    train_set, val_set = load(data, recipe.train_split), load(data, "val")
    metric = recipe.metric or train_set.metric
    check_metric(metric)
    fabric = _launch(options)
    cv2.setNumThreads(1)
    torch.manual_seed(recipe.seed)
    net = build_network(recipe.network, len(train_set.skeleton))
    method = build_method(recipe, train_set.skeleton)
    method.prepare(net)
    step = TrainingStep(net, method)
    if fabric.world_size > 1:
        make_process_wide(step)
    cast(nn.Module, step).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimiser = fabric.setup(step, build_optimiser(step, recipe.optimiser))
    method.over_processes = lambda count: cast(
        # Summed over processes and divided among them, because DDP averages gradients.
        torch.Tensor,
        fabric.all_reduce(count, reduce_op="mean"),
    )
    return _Run(
        recipe=recipe, fabric=fabric, train=train_set, val=val_set, metric=metric,
        net=net, method=method, model=model, optimiser=optimiser,
    )  # fmt: skip


def _launch(options: TrainingOptions) -> Fabric:
    """One process, or as many as torchrun started."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=options.device,
            devices=processes,
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
            # Not every method uses every weight: without an ensemble the FAU is idle, for one.
            strategy="ddp_find_unused_parameters_true"
            if int(os.environ.get("WORLD_SIZE", "1")) > 1
            else "auto",
            precision=cast(Any, options.precision),
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise OkdhpError(
            f"device '{options.device}' cannot be used ({str(error).splitlines()[0]})",
            "choose --device cpu, or see `okdhp-edge doctor`",
        ) from error
    return fabric


def _resume(run: _Run, last: Path) -> None:
    facts = checkpoint.read_facts(last)
    if facts.recipe != run.recipe:
        raise OkdhpError(
            f"{last} was trained by another recipe",
            "resume with the recipe it was started with, or train into another --out",
        )
    checkpoint.load_net(last, run.net)
    checkpoint.load_optimiser(last, run.optimiser)
    checkpoint.load_method(last, run.method)
    run.epochs_done, run.best_score = facts.epochs_done, facts.best_score


def _train_epoch(run: _Run, loader: Any, steps: int, epoch: int, report: Report) -> Row:
    run.model.train()
    # Anything random inside the network restarts here, so that a resumed epoch is the same.
    torch.manual_seed(run.recipe.seed + epoch)
    seen: dict[str, list[float]] = {}
    waited, started, images = 0.0, time.perf_counter(), 0
    lr = 0.0
    for step, (batch, wait) in enumerate(_timed(loader)):
        waited += wait
        lr = _set_rate(run, epoch * steps + step, steps)
        values = _step(run, batch, epoch + step / steps, measure=step % _MEASURE_EVERY == 0)
        for name, value in values.items():
            seen.setdefault(name, []).append(value)
        images += len(batch.image) // run.recipe.augmentation.views * run.fabric.world_size
        report(f"epoch {epoch + 1}", step + 1, steps, f"loss {_loss(values):.3f}")
    seconds = time.perf_counter() - started
    speed, waiting = images / seconds, waited / seconds
    report(f"epoch {epoch + 1}", steps, steps, f"{speed:.0f} img/s, {waiting:.1%} data wait")
    return {
        "epoch": float(epoch + 1), "lr": lr, **{k: float(np.mean(v)) for k, v in seen.items()},
        "images_per_s": speed, "data_wait_share": waiting,
    }  # fmt: skip


def _loss(values: dict[str, float]) -> float:
    return sum(value for name, value in values.items() if name.startswith("loss/"))


def _timed(loader: Any) -> Iterator[tuple[Batch, float]]:
    """Batches, each with the seconds the optimiser had to wait for it."""
    iterator = iter(loader)
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - asked


def _set_rate(run: _Run, step: int, steps_per_epoch: int) -> float:
    rate = learning_rate(run.recipe.optimiser, step, steps_per_epoch)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    return rate


def _step(run: _Run, batch: Batch, epoch: float, *, measure: bool) -> dict[str, float]:
    """One optimisation step; returns the loss terms, and the gradient ratio where measured."""
    batch = Batch(*(run.fabric.to_device(column) for column in batch))
    result: StepResult = run.model(batch, epoch, measure=measure)
    loss = torch.stack(list(result.terms.values())).sum()
    values = {f"loss/{name}": float(term.detach()) for name, term in result.terms.items()}
    if not np.isfinite(sum(values.values())):
        raise OkdhpError(
            f"the loss is no longer finite in epoch {int(epoch) + 1} ({values})",
            "lower optimiser.lr or distillation.kd_weight",
        )
    run.optimiser.zero_grad()
    run.fabric.backward(loss)
    clip = run.recipe.optimiser.clip_norm
    if clip is not None:
        run.fabric.clip_gradients(run.model, run.optimiser, max_norm=clip)
    run.optimiser.step()
    run.method.after_step(run.net)
    if result.gradient_ratio is not None:
        values[GRADIENT_RATIO] = float(result.gradient_ratio)
    return values


def _validate_and_save(run: _Run, options: TrainingOptions, epoch: int) -> Row:
    recipe = run.recipe
    found = validate(
        run.net, run.val, recipe.input_spec(), recipe.decoder_spec(), run.metric,
        lambda done: options.report("validate", done, len(run.val), ""),
    )  # fmt: skip
    branch = max(recipe.deployable, key=lambda b: found.scores[f"branch{b}"])
    score = found.scores[f"branch{branch}"]
    improved = score > run.best_score
    run.best_score = max(score, run.best_score)
    facts = Facts(
        recipe=recipe, data=run.train.source, metric=run.metric,
        skeleton=SkeletonSpec.of(run.train.skeleton), epochs_done=epoch + 1, scores=found.scores,
        best_branch=branch, best_score=run.best_score, version=__version__,
    )  # fmt: skip
    if improved:
        checkpoint.save(options.out / BEST, facts, run.net)
    checkpoint.save(options.out / LAST, facts, run.net, run.optimiser, run.method)
    row = {f"val/{name}": value for name, value in found.scores.items()}
    if len(recipe.network.branches) > 1:
        row |= {AGREEMENT: found.agreement, ENSEMBLE_GAIN: found.ensemble_gain}
    return row
