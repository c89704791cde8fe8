"""One optimisation step of OKDHP: ours beside the same step as the released code writes it.

    python benchmarks/speed/training_step.py [--device cuda]

Both train the 4-stack hourglass with three branches, 256 channels, 256x256 crops, 16 joints, same
batch, Adam. "Released" is our network with the released form of the FAU (dense 3x3, 5x5 and 7x7),
in NCHW float32, with losses that loop over joints in Python. "Ours" is the step of `train
--precision bf16-mixed` with the depthwise FAU. In between the changes are made one after the other;
"without FAU" shows what that costs. Steps are interleaved in one process and medians compared. Then
images per second and peak memory by number of branches, each in a process of its own.
"""

import json
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.network.build import build_network, count_macs
from okdhp_edge.pose.skeleton import MPII16
from okdhp_edge.recipe.recipe import Recipe, read_recipe
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.gaussian_targets import gaussian_targets
from okdhp_edge.train.methods import build_method
from okdhp_edge.train.schedule import build_optimizer
from okdhp_edge.train.step import TrainingStep, Uncast

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "training_step.json"
SIDE = 256
Step = Callable[[], float]


def recipe_with(branches: int, aggregation: str) -> Recipe:
    """The published 4-stack recipe with another number of branches or FAU."""
    recipe = read_recipe(HERE.parents[1] / "recipes" / "paper" / "hg4-mpii.toml")
    changed = {"branches": (2,) * branches, "aggregation": aggregation}
    return recipe.model_copy(update={"network": recipe.network.model_copy(update=changed)})


def made_batch(size: int, device: str) -> Batch:
    """Random crops with all joints labelled."""
    joints = len(MPII16)
    return Batch(
        image=torch.randint(0, 256, (size, SIDE, SIDE, 3), dtype=torch.uint8, device=device),
        xy=torch.rand(size, joints, 2, device=device) * (SIDE // 4 - 1),
        weight=torch.ones(size, joints, device=device),
        absent=torch.zeros(size, joints, device=device),
        labelled=torch.ones(size, dtype=torch.bool, device=device),
        heatmap_from_frame=torch.eye(3, device=device)[:2].repeat(size, 1, 1),
        mirrored=torch.zeros(size, dtype=torch.bool, device=device),
        large=torch.zeros(size, 0, dtype=torch.uint8, device=device),
    )


def our_step(
    batch: Batch, device: str, *, branches: int = 3, aggregation: str = "depthwise",
    channels_last: bool = True, bfloat16: bool = True,
) -> Step:  # fmt: skip
    """The step of `okdhp-edge train --precision bf16-mixed`, or with parts of it switched off."""
    recipe = recipe_with(branches, aggregation)
    net = build_network(recipe.network, len(MPII16)).to(device)
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method = build_method(recipe, MPII16).to(device)
    model = TrainingStep(net, method).train()
    optimizer = build_optimizer(model, recipe.optimizer)

    def step() -> float:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
            result = model(Uncast(batch), 90.0, measure=False)
        loss = torch.stack(list(result.terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def released_step(batch: Batch, device: str) -> Step:
    """Dense FAU, NCHW float32, losses joint by joint."""
    recipe = recipe_with(3, "released")
    net = build_network(recipe.network, len(MPII16)).to(device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=2.5e-4)

    def step() -> float:
        target = gaussian_targets(batch.xy, (SIDE // 4, SIDE // 4), 2.0)
        outputs = net(batch.image)
        stacks = outputs.supervised()
        loss = joint_by_joint_mse(outputs.ensemble, target, batch.weight)
        for heatmaps in stacks:
            loss = loss + joint_by_joint_mse(heatmaps, target, batch.weight)
            loss = loss + 2.0 * joint_by_joint_kl(heatmaps, outputs.ensemble, batch.weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def joint_by_joint_mse(heatmaps: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Half the mean squared error of each joint in turn."""
    total = heatmaps.new_zeros(())
    for joint in range(heatmaps.shape[1]):
        w = weight[:, joint, None]
        predicted, true = heatmaps[:, joint].flatten(1), target[:, joint].flatten(1)
        total = total + 0.5 * F.mse_loss(predicted * w, true * w)
    return total / heatmaps.shape[1]


def joint_by_joint_kl(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """KL over pixels of each joint in turn."""
    batch, joints, height, width = student.shape
    total = student.new_zeros(())
    for joint in range(joints):
        w = weight[:, joint, None]
        mine = F.log_softmax(student[:, joint].flatten(1) * w, dim=1)
        theirs = F.softmax(teacher[:, joint].flatten(1) * w, dim=1)
        total = total + F.kl_div(mine, theirs, reduction="sum") / batch
    return total / (height * width)


def time_interleaved(steps: dict[str, Step], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each step, taken in turn after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_branches(branches: int, size: int, rounds: int, device: str) -> dict[str, Any]:
    """Speed and peak memory of one network; run in a fresh process."""
    batch = made_batch(size, device)
    before = _peak(device)
    step = our_step(batch, device, branches=branches)
    seconds = time_interleaved({"step": step}, rounds, device)["step"]
    net = build_network(recipe_with(branches, "depthwise").network, len(MPII16)).eval()
    macs = count_macs(net, torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8))
    fau = count_macs(net.aggregation.mixer, torch.zeros(1, 256, SIDE // 4, SIDE // 4))
    return {
        "branches": branches, "images_per_s": size / seconds,
        "peak_memory_mib": (_peak(device) - before) / 2**20,
        "forward_gmacs": macs / 1e9, "fau_share_of_macs": fau / macs,
    }  # fmt: skip


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Of this program alone: getrusage would count what its parent held when it was started.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    batch: Annotated[int, typer.Option(help="Crops in a step.")] = 4,
    rounds: Annotated[int, typer.Option(help="Measured steps of each.")] = 5,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
) -> None:
    """Measure a step of each kind."""
    crops = made_batch(batch, device)
    plain: dict[str, Any] = {"channels_last": False, "bfloat16": False}
    steps = {
        "released": released_step(crops, device),
        "vectorised losses": our_step(crops, device, aggregation="released", **plain),
        "+ depthwise FAU": our_step(crops, device, **plain),
        "+ channels last": our_step(crops, device, bfloat16=False),
        "+ bfloat16 (ours)": our_step(crops, device),
        "ours without FAU": our_step(crops, device, aggregation="mean"),
    }
    seconds = time_interleaved(steps, rounds, device)
    del steps
    fresh = multiprocessing.get_context("spawn")
    by_branches = []
    for branches in (1, 2, 3, 4):
        with fresh.Pool(1) as pool:
            by_branches.append(pool.apply(measure_branches, (branches, batch, rounds, device)))
    result = {
        "command": f"python {' '.join(sys.argv)}", "machine": describe_machine(),
        "batch": batch, "rounds": rounds, "seconds_per_step": seconds,
        "speedup": seconds["released"] / seconds["+ bfloat16 (ours)"],
        "fau_share_of_time": 1 - seconds["ours without FAU"] / seconds["+ bfloat16 (ours)"],
        "by_branches": by_branches,
    }  # fmt: skip
    write_text(out, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
