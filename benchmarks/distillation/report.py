"""Tables and plot of what `benchmarks/distillation/study.py` recorded.

    python benchmarks/distillation/report.py

Reads `benchmarks/results/distillation*.json`, writes `distillation.png` beside it and the tables
between the markers of `benchmarks/README.md`. A row's gain is over the `supervised` row of its
study with the same seeds; its interval is a 95 % bootstrap over the persons of the report split,
paired, the seeds averaged per person.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from study import read_recorded_recipe, unpacked

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.evaluation.paired import Gain, Hits, compute_gain
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import write_text

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
PLOT = RESULTS / "distillation.png"
STUDIES, README = HERE / "studies", HERE.parent / "README.md"
BASELINE = "supervised"
MARKERS = "<!-- distillation: begin -->", "<!-- distillation: end -->"
# A training step is a forward and two backward passes; a teacher's targets take one forward pass.
STEP_PASSES = 3

Run = dict[str, Any]


class Line(NamedTuple):
    """A row of the table: all seeds of one row of a study."""

    name: str
    title: str
    runs: list[Run]
    gain: Gain | None
    cost: float

    @property
    def mean(self) -> float:
        return float(np.mean([r["value"] for r in self.runs]))


def in_order(study: Path, runs: list[Run]) -> list[Run]:
    """As the study's file lists its rows; rows that it no longer has are left out."""
    rows = tomllib.loads(study.read_text(encoding="utf-8"))["rows"]
    return [run for row in rows for run in runs if run["row"] == row]


def lines_of(runs: list[Run], everything: list[Run]) -> list[Line]:
    """The rows of one study, in the order of its file."""
    by_row: dict[str, list[Run]] = {}
    for run in runs:
        by_row.setdefault(run["row"], []).append(run)
    base = by_row.get(BASELINE, [])
    reference = cost_of(base[0], everything) if base else float("nan")
    return [
        Line(
            name, found[0]["title"], found,
            gain_over(found, base) if name != BASELINE else None,
            cost_of(found[0], everything) / reference,
        )
        for name, found in by_row.items()
    ]  # fmt: skip


def gain_over(runs: list[Run], others: list[Run]) -> Gain | None:
    """Paired by person and seed; None without a seed in common."""
    seeds = {r["seed"] for r in runs} & {r["seed"] for r in others}
    if not seeds:
        return None
    mine, theirs = (
        np.mean([unpacked(r["right"]) for r in side if r["seed"] in seeds], axis=0)
        for side in (runs, others)
    )
    counted = unpacked(runs[0]["counted"])
    return compute_gain(Hits(mine, counted), Hits(theirs, counted))


def cost_of(run: Run, everything: list[Run]) -> float:
    """Multiply-accumulates of the whole training, teachers and warm starts included; NaN where a
    foreign teacher takes part, whose own are not known here."""
    recipe = Recipe.model_validate(read_recorded_recipe(run))
    epochs = recipe.optimizer.epochs
    if ".onnx" in json.dumps(run["recipe"]["distillation"]):
        return float("nan")
    passes = epochs * STEP_PASSES * recipe.augmentation.views * run["forward_macs"]
    for teacher in named_in(run["recipe"]["distillation"], everything):
        passes += cost_of(teacher, everything) + epochs * teacher["forward_macs"]
    for start in named_in(run["recipe"].get("start"), everything):
        passes += cost_of(start, everything)
    return float(passes)


def named_in(table: Any, everything: list[Run]) -> list[Run]:
    """Runs whose checkpoints a part of a recipe builds on."""
    paths = dict.fromkeys(re.findall(r"RUNS/([^/]+)/([^/]+)/", json.dumps(table)))
    return [next(r for r in everything if (r["study"], r["row"]) == path) for path in paths]


def table(lines: list[Line], best: str) -> Iterator[str]:
    """Markdown lines."""
    yield (
        f"| | seeds | val | PCK@0.2 | each seed | over supervised | `{best}` over it | ensemble "
        "| branches agree | gradient ratio | training cost |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    winner = next((line for line in lines if line.name == best), None)
    for line in lines:
        behind = gain_over(winner.runs, line.runs) if winner and line is not winner else None
        several = len(line.runs[0]["outputs"]) > 2
        yield "| " + " | ".join([
            line.title, str(len(line.runs)), f"{np.mean([r['val'] for r in line.runs]):.1f}",
            f"{line.mean:.1f}",
            ", ".join(f"{r['value']:.1f}" for r in line.runs),
            str(line.gain or "-"), str(behind or "-"),
            f"{np.mean([r['outputs']['ensemble'] for r in line.runs]):.1f}" if several else "-",
            measured(line, "agreement"), measured(line, "gradient_ratio"),
            "-" if np.isnan(line.cost) else f"{line.cost:.1f}x",
        ]) + " |"  # fmt: skip


def measured(line: Line, what: str) -> str:
    """Mean over seeds of a quantity of the last epoch."""
    values = [v for r in line.runs for k, v in r["last_epoch"].items() if what in k]
    return f"{np.mean(values):.2f}" if values else "-"


def draw(studies: dict[str, list[Line]]) -> None:
    """Gains with intervals, one panel a study."""
    rows = [max(1, len(students(lines))) for lines in studies.values()]
    figure = Figure(figsize=(10, 1.2 * len(rows) + 0.32 * sum(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows, sharex=True)[:, 0]
    for axis, (title, lines) in zip(panels, studies.items(), strict=True):
        shown = students(lines)[::-1]
        for place, line in enumerate(shown):
            assert line.gain is not None
            colour = (
                "tab:green" if line.gain.low > 0 else "tab:red" if line.gain.high < 0 else "grey"
            )
            spread = [[line.gain.value - line.gain.low], [line.gain.high - line.gain.value]]
            axis.errorbar(line.gain.value, place, xerr=spread, fmt="o", color=colour, capsize=3)
        names = [f"{line.title} ({len(line.runs)})" for line in shown]
        axis.set_yticks(range(len(shown)), names, fontsize=8)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(title, fontsize=10)
    panels[-1].set_xlabel("PCK@0.2 points over the supervised baseline (seeds), 95 % interval")
    figure.savefig(PLOT, dpi=110)


def students(lines: list[Line]) -> list[Line]:
    """What can be compared with the baseline: teachers see more, so they are left out."""

    def read_input_spec(line: Line) -> InputSpec:
        return Recipe.model_validate(read_recorded_recipe(line.runs[0])).input_spec()

    baseline = next((read_input_spec(line) for line in lines if line.name == BASELINE), None)
    return [line for line in lines if line.gain is not None and read_input_spec(line) == baseline]


def main() -> None:
    """Write the plot and the tables."""
    files = sorted(RESULTS.glob("distillation*.json"))
    runs = [run for file in files for run in json.loads(file.read_text(encoding="utf-8"))["runs"]]
    studies = {
        path.stem: lines_of(in_order(path, [r for r in runs if r["study"] == path.stem]), runs)
        for path in sorted(STUDIES.glob("*.toml"))
    }
    studies = {name: lines for name, lines in studies.items() if lines}
    draw(studies)
    text = ""
    for name, lines in studies.items():
        persons = lines[0].runs[0]["persons"]
        text += f"\n### {name} ({persons} persons of `{lines[0].runs[0]['report']}`)\n\n"
        text += "\n".join(table(lines, "okdhp")) + "\n"
    before, rest = README.read_text(encoding="utf-8").split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    write_text(README, before + MARKERS[0] + "\n" + text + "\n" + MARKERS[1] + after)


if __name__ == "__main__":
    main()
