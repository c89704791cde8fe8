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
from numpy.typing import NDArray
from torch import nn

from okdhp_edge import __version__, checkpoint
from okdhp_edge.card import SkeletonSpec, writing
from okdhp_edge.checkpoint import Facts
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseSet
from okdhp_edge.errors import OkdhpError
from okdhp_edge.evaluate import check_metric, evaluate
from okdhp_edge.network.branches import BranchOutputs, PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.recipe import Recipe
from okdhp_edge.train.batchnorm import make_process_wide
from okdhp_edge.train.dataset import Batch, CropDataset, EpochBatches, build_loader
from okdhp_edge.train.journal import Journal, Row
from okdhp_edge.train.losses import labelled_total
from okdhp_edge.train.okdhp import okdhp_losses
from okdhp_edge.train.schedule import build_optimiser, learning_rate

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
    dataset = CropDataset(
        run.train, recipe.input_spec(), recipe.decoder_spec(), recipe.augmentation, recipe.seed
    )
    batches = EpochBatches(
        len(run.train), recipe.optimiser.batch_size, recipe.seed,
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


def _prepare(recipe: Recipe, data: str, options: TrainingOptions) -> _Run:
    train_set, val_set = load(data, "train"), load(data, "val")
    metric = recipe.metric or train_set.metric
    check_metric(metric)
    fabric = _launch(options)
    cv2.setNumThreads(1)
    torch.manual_seed(recipe.seed)
    net = build_network(recipe.network, len(train_set.skeleton))
    if fabric.world_size > 1:
        make_process_wide(net)
    cast(nn.Module, net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimiser = fabric.setup(net, build_optimiser(net, recipe.optimiser))
    return _Run(
        recipe=recipe, fabric=fabric, train=train_set, val=val_set, metric=metric,
        net=net, model=model, optimiser=optimiser,
    )  # fmt: skip


def _launch(options: TrainingOptions) -> Fabric:
    """One process, or as many as torchrun started."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=options.device,
            devices=processes,
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
            strategy="ddp" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
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
    run.epochs_done, run.best_score = facts.epochs_done, facts.best_score


def _train_epoch(run: _Run, loader: Any, steps: int, epoch: int, report: Report) -> Row:
    run.model.train()
    # Anything random inside the network restarts here, so that a resumed epoch is the same.
    torch.manual_seed(run.recipe.seed + epoch)
    sums: dict[str, float] = {}
    waited, started, images = 0.0, time.perf_counter(), 0
    lr = 0.0
    for step, (batch, wait) in enumerate(_timed(loader)):
        waited += wait
        lr = _set_rate(run, epoch * steps + step, steps)
        terms = _step(run, batch, epoch + step / steps)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value / steps
        images += len(batch.image) * run.fabric.world_size
        report(f"epoch {epoch + 1}", step + 1, steps, f"loss {sum(terms.values()):.3f}")
    seconds = time.perf_counter() - started
    speed, waiting = images / seconds, waited / seconds
    report(f"epoch {epoch + 1}", steps, steps, f"{speed:.0f} img/s, {waiting:.1%} data wait")
    return {
        "epoch": float(epoch + 1), "lr": lr, **{f"loss/{k}": v for k, v in sums.items()},
        "images_per_s": speed, "data_wait_share": waiting,
    }  # fmt: skip


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


def _step(run: _Run, batch: Batch, epoch: float) -> dict[str, float]:
    image, target, weight = (run.fabric.to_device(t) for t in batch)
    # Summed over processes and divided among them, because DDP averages gradients.
    total = cast(torch.Tensor, run.fabric.all_reduce(weight.sum(), reduce_op="mean"))
    outputs: BranchOutputs = run.model(image)
    terms = okdhp_losses(
        outputs, target, weight, labelled_total(total),
        heatmap=run.recipe.heatmap, distillation=run.recipe.distillation, epoch=epoch,
    )  # fmt: skip
    loss = torch.stack(list(terms.values())).sum()
    values = {name: float(term.detach()) for name, term in terms.items()}
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
    return values


def _validate_and_save(run: _Run, options: TrainingOptions, epoch: int) -> Row:
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        options.report("validate", done, len(run.val), "")

    scores = {
        name: score.value
        for name, score in evaluate(
            run.val, run.recipe.input_spec(), run.recipe.decoder_spec(),
            all_outputs(run.net, run.fabric.device), run.metric, progress=progress,
        ).items()
    }  # fmt: skip
    branch = max(run.recipe.network.deployable, key=lambda b: scores[f"branch{b}"])
    score = scores[f"branch{branch}"]
    improved = score > run.best_score
    run.best_score = max(score, run.best_score)
    facts = Facts(
        recipe=run.recipe, data=run.train.source, metric=run.metric,
        skeleton=SkeletonSpec.of(run.train.skeleton), epochs_done=epoch + 1, scores=scores,
        best_branch=branch, best_score=run.best_score, version=__version__,
    )  # fmt: skip
    if improved:
        checkpoint.save(options.out / BEST, facts, run.net, None)
    checkpoint.save(options.out / LAST, facts, run.net, run.optimiser)
    return {f"val/{name}": value for name, value in scores.items()}


def all_outputs(
    net: PoseNet, device: torch.device
) -> Callable[[NDArray[np.uint8]], dict[str, Heatmaps]]:
    """A predict function that gives every branch's last heatmaps and the ensemble."""

    def predict(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        with _evaluating(net), torch.inference_mode():
            outputs: BranchOutputs = net(torch.from_numpy(images_BHWC).to(device))
        named = {f"branch{i}": outputs.last(i) for i in range(len(outputs.branches))}
        named["ensemble"] = outputs.ensemble
        return {name: h.float().cpu().numpy() for name, h in named.items()}

    return predict


class _evaluating:
    """The network in eval mode for a while."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __enter__(self) -> None:
        self._training = self._net.training
        self._net.eval()

    def __exit__(self, *_: object) -> None:
        self._net.train(self._training)
