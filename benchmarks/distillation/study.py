"""Every distillation method at an equal schedule: train, evaluate, compare.

    python benchmarks/distillation/study.py run mobilepose-ce --data lspet:PATH
    python benchmarks/distillation/report.py

`run` goes through the rows of `benchmarks/distillation/studies/NAME.toml`: each is a change to the
study's base recipe, trained with its number of seeds into `runs/distillation/NAME/ROW/SEED/`. It
may be stopped at any time: runs that `benchmarks/results/distillation.json` has are left alone, a
broken-off one goes on after its last epoch. The branch and the epoch are chosen on `val`; what is
recorded comes from the study's report split, on which nothing was chosen. The plot and the tables
of `benchmarks/README.md` come from `report.py`."""

import base64
import csv
import fcntl
import json
import time
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer

from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset, list_kinds
from okdhp_edge.evaluation.evaluate import predict_joints
from okdhp_edge.evaluation.paired import THRESHOLD, count_hits
from okdhp_edge.network.build import build_network, count_macs
from okdhp_edge.network.config import AnyNetworkConfig
from okdhp_edge.recipe.distillation import OkdhpTable, TeacherTable
from okdhp_edge.recipe.recipe import Recipe, merged, read_recipe_content, rename_old_keys
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.train.loop import train
from okdhp_edge.train.open_teacher import load_checkpoint
from okdhp_edge.train.setup import LAST, TrainingOptions
from okdhp_edge.train.validate import make_predictor

HERE = Path(__file__).parent
STUDIES = HERE / "studies"
RESULT = HERE.parent / "results" / "distillation.json"
app = typer.Typer(add_completion=False, help=__doc__)


class Row(NamedTuple):
    """One line of a study."""

    name: str
    title: str
    seeds: int
    changes: dict[str, Any]


class Study(NamedTuple):
    """A base recipe, changes to it, and where they are evaluated."""

    name: str
    title: str
    base: dict[str, Any]
    report_split: str
    rows: list[Row]


def read_study(name: str) -> Study:
    """A file of `studies/`."""
    content = tomllib.loads((STUDIES / f"{name}.toml").read_text(encoding="utf-8"))
    base = read_recipe_content(HERE.parents[1] / content["base"])
    rows = [
        Row(key, row.pop("title"), row.pop("seeds", 1), row) for key, row in content["rows"].items()
    ]
    return Study(
        name, content["title"], merged(base, content.get("all", {})), content["report"], rows
    )


def recipe_of(study: Study, row: Row, seed: int, runs: Path) -> Recipe:
    """The recipe of one run. `{runs}/STUDY/ROW/{seed}` in it leads to another run's checkpoint."""
    content = merged(study.base, row.changes) | {"seed": seed, "name": f"{study.name}-{row.name}"}
    text = json.dumps(content).replace("{runs}", str(runs)).replace("{seed}", str(seed))
    return Recipe.model_validate(json.loads(text))


@app.callback()
def _commands() -> None:
    """Keeps `run` a command of its own, however many there are."""


@app.command()
def run(
    study_name: str,
    data: Annotated[str, typer.Option(help="KIND:PATH")],
    rows: Annotated[str, typer.Option(help="Comma-separated; empty: all.")] = "",
    seeds: Annotated[int, typer.Option(help="At most this many; 0: what the study says.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where checkpoints go.")] = Path("runs/distillation"),
    val_data: Annotated[str | None, typer.Option(help="KIND:PATH@SPLIT to choose on.")] = None,
    report_data: Annotated[str | None, typer.Option(help="KIND:PATH that is reported on.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    workers: Annotated[int, typer.Option(min=0)] = 0,
    result: Annotated[Path, typer.Option(help="JSON to add to.")] = RESULT,
) -> None:
    """Train and evaluate what is not recorded yet."""
    study = read_study(study_name)
    wanted = [r for r in study.rows if not rows or r.name in rows.split(",")]
    report = load(report_data or data, study.report_split)
    for seed, row in _order(wanted, seeds):
        recipe = recipe_of(study, row, seed, runs)
        named = recipe_of(study, row, seed, Path("RUNS"))
        recorded = named.model_dump(mode="json", exclude_defaults=True)
        known = [r for r in _read(result) if _is(r, study, row, seed)]
        # Runs of before this was recorded have no such key.
        same_data = [r for r in known if r.get("data", list_kinds(data)) == list_kinds(data)]
        if len(same_data) < len(known):
            raise SystemExit(f"{row.name} is recorded on {known[0]['data']}: use another --result")
        if any(read_recorded_recipe(r) == recorded for r in known):
            continue
        out = runs / study.name / row.name / str(seed)
        print(f"{time.strftime('%H:%M:%S')} {study.name} {row.name} seed {seed}", flush=True)
        started = time.perf_counter()
        resumed = (out / LAST).is_file()
        best = train(recipe, data, TrainingOptions(
            out=out, resume=True, workers=workers, val_data=val_data, device=device,
            precision=precision,
        ))  # fmt: skip
        seconds = None if resumed else time.perf_counter() - started
        found = _evaluated_report(best, report) | {
            "study": study.name, "row": row.name, "title": row.title, "seed": seed,
            "report": study.report_split, "seconds": seconds, "data": list_kinds(data),
            "last_epoch": _last_row(out / "metrics.csv"), "recipe": recorded,
        }  # fmt: skip
        _keep(result, found, study, row, seed)
        print(f"  val {found['val']:.2f}  report {found['value']:.2f}", flush=True)


def _order(rows: list[Row], most: int) -> Iterator[tuple[int, Row]]:
    """Seed by seed, so that a study that is stopped early has compared all rows."""
    for seed in range(max((row.seeds for row in rows), default=0)):
        yield from ((seed, r) for r in rows if seed < r.seeds and (not most or seed < most))


def _evaluated_report(checkpoint: Path, report: PoseDataset) -> dict[str, Any]:
    net, facts = load_checkpoint(checkpoint)
    recipe = facts.recipe
    report = report.with_skeleton(facts.skeleton.skeleton())
    joints = predict_joints(
        report, recipe.input_spec(), recipe.decoder_spec(), make_predictor(net, torch.device("cpu"))
    )
    found = {name: count_hits(report, xy) for name, xy in joints.items()}
    scores = {name: each.pck for name, each in found.items()}
    right, counted = found[f"branch{facts.best_branch}"]
    return {
        "metric": f"pck@{THRESHOLD}", "value": scores[f"branch{facts.best_branch}"],
        "outputs": scores, "best_branch": facts.best_branch, "val": facts.best_score,
        "persons": int((counted > 0).sum()),
        # By person, so that intervals of differences can be drawn without the weights.
        "right": packed(right), "counted": packed(counted),
        "forward_macs": _macs(recipe),
    }  # fmt: skip


def packed(counts: np.ndarray) -> str:
    """Small counts as text: bytes, zlib, base64."""
    return base64.b64encode(zlib.compress(counts.astype(np.uint8).tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """What `packed` packed, as float64."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).astype(np.float64)


def _macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the forward pass that trains one crop, a peer's included."""
    macs = _forward(recipe.network, recipe.input.size)
    table = recipe.distillation
    if isinstance(table, OkdhpTable) and table.peer_size:
        alone = {"branches": recipe.network.branches[:1], "aggregation": "mean"}
        macs += _forward(recipe.network.model_copy(update=alone), table.peer_size)
    return macs


def _forward(network: AnyNetworkConfig, size: tuple[int, int]) -> int:
    net = build_network(network, 14, load_encoder=False).eval()
    return count_macs(net, torch.zeros(1, *size[::-1], net.channels, dtype=torch.uint8))


def _last_row(path: Path) -> dict[str, float]:
    names, *_, last = path.read_text(encoding="utf-8").splitlines()
    (values,) = csv.reader([last])
    (keys,) = csv.reader([names])
    return {k: float(v) for k, v in zip(keys, values, strict=True) if v}


def read_recorded_recipe(run: dict[str, Any]) -> dict[str, Any]:
    """A recorded recipe by the keys of today; how a teacher is fed stands in its own file now."""
    recipe = rename_old_keys(run["recipe"])
    table = recipe.get("distillation", {})
    if teacher := table.get("teacher"):
        kept = {key: value for key, value in teacher.items() if key in TeacherTable.model_fields}
        recipe = recipe | {"distillation": table | {"teacher": kept}}
    return recipe


def _is(result: dict[str, Any], study: Study, row: Row, seed: int) -> bool:
    return (result["study"], result["row"], result["seed"]) == (study.name, row.name, seed)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    results: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return results


def _keep(path: Path, result: dict[str, Any], study: Study, row: Row, seed: int) -> None:
    with path.with_suffix(".lock").open("w") as lock:
        # Several processes may work at different rows of one study.
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [r for r in _read(path) if not _is(r, study, row, seed)]
        runs = sorted([*others, result], key=lambda r: (r["study"], r["row"], r["seed"]))
        content = {
            "command": "python benchmarks/distillation/study.py run STUDY --data lspet:PATH",
            "machine": describe_machine(), "runs": runs,
        }  # fmt: skip
        write_text(path, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    app()
