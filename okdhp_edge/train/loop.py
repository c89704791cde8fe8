"""The training loop: epochs, validation of every branch, the best branch kept."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric

from okdhp_edge import __version__
from okdhp_edge.artifacts.card import SkeletonSpec
from okdhp_edge.artifacts.model_store import BEST_CHECKPOINT_NAME, SHIPPED_WEIGHTS_NAME, mark_newest
from okdhp_edge.errors import OkdhpError
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.checkpoint import CheckpointInfo
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import lock_folder, wrap_write_errors
from okdhp_edge.system.progress import Report, counter
from okdhp_edge.train.dataset import Batch, EpochBatches, build_loader, iterate_batches
from okdhp_edge.train.metrics_logger import (
    AGREEMENT,
    ENSEMBLE_GAIN,
    GRADIENT_RATIO,
    MetricsLogger,
    Row,
)
from okdhp_edge.train.processes import read_process_layout
from okdhp_edge.train.schedule import compute_learning_rate
from okdhp_edge.train.setup import (
    LAST,
    Run,
    TrainingOptions,
    calibrate,
    get_batch_type,
    make_training_set,
    prepare,
    resume,
)
from okdhp_edge.train.step import StepResult, Uncast
from okdhp_edge.train.validate import INT8_NAME, validate

# The two extra backward passes, from the loss to the heatmaps alone, cost little but not nothing.
_MEASURE_INTERVAL_STEPS = 10
_SEEDS_PER_PROCESS = 1_000_003


def train(recipe: Recipe, data: str, options: TrainingOptions) -> Path:
    """Train as the recipe says; returns the best checkpoint.

    Args:
        recipe: what to train.
        data: KIND:PATH.
        options: where, on what, resumed or not.

    Raises:
        OkdhpError: data, recipe or place cannot be used; the loss is no longer finite.
    """
    # Of several processes the first one holds the folder.
    first = read_process_layout().rank == 0
    with lock_folder(options.out) if first else nullcontext():
        return _train(recipe, data, options)


def _train(recipe: Recipe, data: str, options: TrainingOptions) -> Path:
    run = prepare(recipe, data, options)
    last = options.out / LAST
    if options.resume and _is_everywhere(run, last):
        resume(run, last)
    elif run.fabric.is_global_zero:
        with wrap_write_errors(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
    metrics_logger = (
        MetricsLogger(options.out, run.epochs_done) if run.fabric.is_global_zero else None
    )
    dataset = make_training_set(run)
    batches = EpochBatches(
        len(dataset), recipe.optimizer.batch_size, recipe.seed,
        run.fabric.global_rank, run.fabric.world_size,
    )  # fmt: skip
    loader = build_loader(dataset, batches, options.workers, get_batch_type(recipe))
    if metrics_logger and not recipe.optimizer.epochs:
        _validate_and_checkpoint(run, options, -1, {"epoch": 0.0}, metrics_logger)
    ended = run.epochs_done > 0 and _should_stop_early(run, options, run.epochs_done - 1)
    first = recipe.optimizer.epochs if run.fabric.broadcast(ended) else run.epochs_done
    for epoch in range(first, recipe.optimizer.epochs):
        batches.epoch = epoch
        if run.quantization and epoch == run.quantization.table.start_epoch:
            calibrate(run, run.quantization, cast(Any, loader))
        row = _train_epoch(run, cast(Any, loader), len(batches), epoch, options.report)
        if metrics_logger:
            _validate_and_checkpoint(run, options, epoch, row, metrics_logger)
        run.fabric.barrier()
        if run.fabric.broadcast(_should_stop_early(run, options, epoch)):
            break
    if metrics_logger:
        metrics_logger.close()
        if (options.out / BEST_CHECKPOINT_NAME).is_file():
            checkpoint.save_half(
                options.out / BEST_CHECKPOINT_NAME, options.out / SHIPPED_WEIGHTS_NAME
            )
    return options.out / BEST_CHECKPOINT_NAME


def _is_everywhere(run: Run, last: Path) -> bool:
    """Whether each process finds the checkpoint.

    Raises:
        OkdhpError: some do, on disks of their own; they would go on from other weights.
    """
    here = run.fabric.to_device(torch.tensor(float(last.is_file())))
    found = round(float(cast(torch.Tensor, run.fabric.all_reduce(here, reduce_op="sum"))))
    if 0 < found < run.fabric.world_size:
        raise OkdhpError(
            f"{found} of {run.fabric.world_size} processes find {last}",
            "copy it to every node, or train into a folder that they share",
        )
    return found > 0


def _remove_earlier_weights(out: Path, *, begins: bool) -> None:
    """Those of an earlier run are no result of this one; until its first checkpoint they stay, so
    that the earlier one can be resumed."""
    names = ((LAST,) if begins else ()) + (BEST_CHECKPOINT_NAME, SHIPPED_WEIGHTS_NAME)
    with wrap_write_errors(out):
        for name in names:
            (out / name).unlink(missing_ok=True)


def _should_stop_early(run: Run, options: TrainingOptions, epoch: int) -> bool:
    """Whether the recipe's patience is at its end."""
    patience, best = run.recipe.optimizer.patience, options.out / BEST_CHECKPOINT_NAME
    if patience is None or not run.fabric.is_global_zero or not best.is_file():
        return False
    return epoch + 1 - checkpoint.read_info(best).epochs_done >= patience


def _train_epoch(run: Run, loader: Any, steps: int, epoch: int, report: Report) -> Row:
    run.model.train()
    # Anything random inside the network restarts here, so that a resumed epoch is the same; each
    # process draws for its own share of the batch.
    torch.manual_seed(run.recipe.seed + epoch + _SEEDS_PER_PROCESS * run.fabric.global_rank)
    seen: dict[str, list[float]] = {}
    waited, started, images = 0.0, time.perf_counter(), 0
    lr = 0.0
    for step, (batch, wait) in enumerate(_timed(loader)):
        waited += wait
        lr = _set_rate(run, epoch * steps + step, steps)
        values = _step(
            run, batch, epoch + step / steps, measure=step % _MEASURE_INTERVAL_STEPS == 0
        )
        for name, value in values.items():
            seen.setdefault(name, []).append(value)
        images += len(batch.image) // run.recipe.augmentation.views * run.fabric.world_size
        report(f"epoch {epoch + 1}", step + 1, steps, f"loss {_sum_losses(values):.3f}")
    seconds = time.perf_counter() - started
    speed, waiting = images / seconds, waited / seconds
    report(f"epoch {epoch + 1}", steps, steps, f"{speed:.0f} img/s, {waiting:.1%} data wait")
    measured = {k: float(np.mean(v)) for k, v in seen.items()} | {"data_wait_share": waiting}
    averaged = _average_over_processes(run.fabric, measured)
    return {"epoch": float(epoch + 1), "lr": lr, "images_per_s": speed} | averaged


def _average_over_processes(fabric: Fabric, row: Row) -> Row:
    """Each process measures its own share of the batches."""
    if fabric.world_size == 1:
        return row
    values = torch.tensor(list(row.values()), device=fabric.device)
    averaged = cast(torch.Tensor, fabric.all_reduce(values, reduce_op="mean"))
    return dict(zip(row, averaged.tolist(), strict=True))


def _sum_losses(values: dict[str, float]) -> float:
    return sum(value for name, value in values.items() if name.startswith("loss/"))


def _timed(loader: Any) -> Iterator[tuple[Batch, float]]:
    """Batches, each with the seconds the optimizer had to wait for it."""
    iterator = iterate_batches(loader)
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - asked


def _set_rate(run: Run, step: int, steps_per_epoch: int) -> float:
    rate = compute_learning_rate(run.recipe.optimizer, step, steps_per_epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _step(run: Run, batch: Batch, epoch: float, *, measure: bool) -> dict[str, float]:
    """One optimisation step; returns the loss terms, and the gradient ratio where measured."""
    batch = type(batch)(*(run.fabric.to_device(column) for column in batch))
    result: StepResult = run.model(Uncast(batch), epoch, measure=measure)
    loss = torch.stack(list(result.terms.values())).sum()
    values = {f"loss/{name}": float(term.detach()) for name, term in result.terms.items()}
    if not np.isfinite(sum(values.values())):
        raise OkdhpError(
            f"the loss became NaN or infinite in epoch {int(epoch) + 1} ({values})",
            "lower optimizer.lr or distillation.kd_weight",
        )
    run.optimizer.zero_grad()
    run.fabric.backward(loss)
    clip = run.recipe.optimizer.clip_norm
    if clip is not None:
        norm = run.fabric.clip_gradients(
            run.model, run.optimizer, max_norm=clip, error_if_nonfinite=False
        )
        if norm is not None and not bool(torch.isfinite(norm)):
            raise OkdhpError(
                f"the gradient became NaN or infinite in epoch {int(epoch) + 1}",
                "lower optimizer.lr or distillation.kd_weight",
            )
    run.optimizer.step()
    run.method.after_step(run.net)
    if run.average is not None:
        run.average.update_parameters(run.net)
    if result.gradient_ratio is not None:
        values[GRADIENT_RATIO] = float(result.gradient_ratio)
    return values


def _validate_and_checkpoint(
    run: Run, options: TrainingOptions, epoch: int, row: Row, metrics_logger: MetricsLogger
) -> None:
    """Validate, log metrics, keep the best checkpoint and the last.

    Metrics are written first: a resumed run cuts off a row too many, but one that is missing would
    stay so.
    """
    recipe = run.recipe
    found = validate(
        run.evaluated_net, run.val, recipe.input_spec(), recipe.decoder_spec(), run.metric,
        counter(options.report, "validate", len(run.val)), run.get_int8_branch(epoch),
    )  # fmt: skip
    branch, score = _choose_branch(recipe, found.scores)
    if run.best_score == -math.inf:
        _remove_earlier_weights(options.out, begins=epoch <= 0)
    improved = score > run.best_score
    run.best_score = max(score, run.best_score)
    facts = CheckpointInfo(
        recipe=recipe, data=run.data, samples=len(run.train), val_data=run.val_data,
        metric=run.metric,
        skeleton=SkeletonSpec.of(run.train.skeleton), epochs_done=epoch + 1, scores=found.scores,
        best_branch=branch, best_score=run.best_score, version=__version__,
    )  # fmt: skip
    row |= {f"val/{name}": value for name, value in found.scores.items()}
    if len(recipe.network.branches) > 1:
        row |= {AGREEMENT: found.agreement, ENSEMBLE_GAIN: found.ensemble_gain}
    metrics_logger.add(row)
    if improved:
        checkpoint.save(
            options.out / BEST_CHECKPOINT_NAME,
            facts,
            run.evaluated_net,
            extra_modules=run.extra_modules,
        )
        mark_newest(options.out / BEST_CHECKPOINT_NAME)
    checkpoint.save(options.out / LAST, facts, run.net, run.optimizer, run.resumable_modules)


def _choose_branch(recipe: Recipe, scores: dict[str, float]) -> tuple[int, float]:
    """The branch to deploy and its score, which is that of INT8 where the recipe trains for it."""
    if recipe.quantization is not None:
        # Before INT8 begins there is nothing to deploy.
        return recipe.quantization.branch, scores.get(INT8_NAME, float("-inf"))
    branch = max(recipe.deployable, key=lambda b: scores[f"branch{b}"])
    return branch, scores[f"branch{branch}"]
