"""Present benchmark results as a Markdown table and a Pareto plot."""

from collections.abc import Sequence
from pathlib import Path

from okdhp_edge.bench.measure import Row

HEADINGS = ("backend", "precision", "metric", "p50 ms", "p90 ms", "p99 ms", "FPS", "MB", "load ms")


def format_cells(row: Row) -> tuple[str, ...]:
    """One table row as text."""
    t = row.latency
    score = "-" if row.score is None else (
        f"{row.score.value:.1f} ({row.score.low:.1f}..{row.score.high:.1f})"
    )  # fmt: skip
    return (
        row.candidate.backend, row.candidate.precision, score, f"{t.p50:.2f}", f"{t.p90:.2f}",
        f"{t.p99:.2f}", f"{1e3 / t.mean:.0f}", f"{row.size_mb:.1f}", f"{row.load_ms:.0f}",
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """A GitHub table."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(format_cells(r) for r in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, score) points that none beats in both."""
    return [
        i
        for i, (latency, score) in enumerate(points)
        if not any(
            (other <= latency and better >= score) and (other < latency or better > score)
            for other, better in points
        )
    ]


def plot(rows: Sequence[Row], metric: str, path: Path) -> None:
    """Accuracy against median latency, the front joined by a line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    evaluated = [(row, row.score.value) for row in rows if row.score is not None]
    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    points = [(row.latency.p50, value) for row, value in evaluated]
    front = sorted((points[i] for i in find_pareto_front(points)), key=lambda p: p[0])
    axis.plot([p[0] for p in front], [p[1] for p in front], color="0.6", zorder=1)
    for row, value in evaluated:
        label = f"{row.candidate.backend} {row.candidate.precision}"
        axis.scatter(row.latency.p50, value, zorder=2, label=label)
    axis.set(xlabel="median latency, ms (batch 1, log scale)", ylabel=f"{metric}, points")
    axis.set(title="accuracy vs latency; the line is the Pareto front", xscale="log")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.legend(loc="best")
    axis.margins(x=0.25, y=0.2)
    axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
