"""The record of a run: metrics.csv, TensorBoard events and curves.png."""

import csv
import io
from pathlib import Path

from okdhp_edge.card import write_text

Row = dict[str, float]


class Journal:
    """Rows of numbers, one per epoch, written to the run's folder.

    Args:
        folder: the model's folder.
        epochs_done: rows of later epochs (from a run that went on after its last checkpoint) go.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._csv = folder / "metrics.csv"
        self._plot = folder / "curves.png"
        self._rows = _read(self._csv)[:epochs_done]
        self._events = SummaryWriter(str(folder / "events"), purge_step=epochs_done)

    def add(self, row: Row) -> None:
        """Record one epoch everywhere."""
        self._rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row))
        writer.writeheader()
        writer.writerows({k: r.get(k, "") for k in row} for r in self._rows)
        write_text(self._csv, text.getvalue())
        for name, value in row.items():
            if name != "epoch":
                self._events.add_scalar(name, value, int(row["epoch"]))
        self._events.flush()
        self._draw()

    def close(self) -> None:
        """Finish the event file."""
        self._events.close()

    def _draw(self) -> None:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        mpl.rcParams["svg.hashsalt"] = "okdhp-edge"
        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        epochs = [r["epoch"] for r in self._rows]
        for name in self._rows[-1]:
            axis = (
                losses if name.startswith("loss/") else scores if name.startswith("val/") else None
            )
            if axis is not None:
                values = [r.get(name, float("nan")) for r in self._rows]
                axis.plot(epochs, values, marker=".", label=name.split("/", 1)[1])
        losses.set(xlabel="epoch", title="training loss terms", yscale="log")
        scores.set(xlabel="epoch", title="validation metric, points")
        for axis in (losses, scores):
            axis.grid(alpha=0.3)
            axis.legend()
        figure.savefig(self._plot, dpi=110)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
