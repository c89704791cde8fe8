"""The record of a run: metrics.csv, TensorBoard events and curves.png."""

import csv
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from okdhp_edge.errors import DataError
from okdhp_edge.system.files import wrap_write_errors, write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, float]

_TEACHING_PREFIX = "teaching/"
# TensorBoard's thread that writes events.
_WRITER_THREAD_NAME = "_AsyncWriterThread"
# Norm of the teacher's gradient at the heatmaps over the labels'; share of joints that all branches
# put in one place; points of the ensemble above the best branch.
GRADIENT_RATIO = _TEACHING_PREFIX + "gradient_ratio"
AGREEMENT = _TEACHING_PREFIX + "agreement"
ENSEMBLE_GAIN = _TEACHING_PREFIX + "ensemble_gain"


class MetricsLogger:
    """Rows of numbers, one per epoch, written to the run's folder.

    Args:
        folder: the model's folder.
        epochs_done: rows of later epochs (from a run that went on after its last checkpoint) go.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._csv = folder / "metrics.csv"
        self._plot = folder / "curves.png"
        self._rows = [row for row in _read(self._csv) if float(row["epoch"]) <= epochs_done]
        self._folder = folder / "events"
        self._hook = threading.excepthook
        threading.excepthook = self._handle_thread_error
        with wrap_write_errors(self._folder):
            self._events = SummaryWriter(str(self._folder), purge_step=epochs_done + 1)

    def add(self, row: Row) -> None:
        """Record one epoch everywhere."""
        self._rows.append(row)
        text = io.StringIO()
        names = list(dict.fromkeys(name for r in self._rows for name in r))
        writer = csv.DictWriter(text, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: r.get(k, "") for k in names} for r in self._rows)
        write_text(self._csv, text.getvalue())
        with wrap_write_errors(self._folder):
            for name, value in row.items():
                if name != "epoch":
                    self._events.add_scalar(name, value, int(row["epoch"]))
            self._events.flush()
        self._draw()

    def close(self) -> None:
        """Finish the event file."""
        threading.excepthook = self._hook
        with wrap_write_errors(self._folder):
            self._events.close()

    def _handle_thread_error(self, args: threading.ExceptHookArgs) -> None:
        """A disk that is full is told where rows are added, not by the writer's thread as well."""
        if type(args.thread).__name__ != _WRITER_THREAD_NAME or not issubclass(
            args.exc_type, OSError
        ):
            self._hook(args)

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 4), layout="constrained")
        losses, scores, teaching = figure.subplots(1, 3)
        self._draw_curves(losses, "loss/")
        self._draw_curves(scores, "val/")
        self._draw_curves(teaching, _TEACHING_PREFIX)
        losses.set(xlabel="epoch", title="training loss terms", yscale="log")
        scores.set(xlabel="epoch", title="validation metric, points")
        teaching.set(xlabel="epoch", title="contribution of the teacher")
        image = io.BytesIO()
        figure.savefig(image, dpi=110, format="png")
        write_bytes(self._plot, image.getvalue())

    def _draw_curves(self, axis: "Axes", prefix: str) -> None:
        epochs = [r["epoch"] for r in self._rows]
        for name in sorted({n for row in self._rows for n in row if n.startswith(prefix)}):
            values = [r.get(name, float("nan")) for r in self._rows]
            axis.plot(epochs, values, marker=".", label=name.removeprefix(prefix))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a training log ({str(error)[:80]})", "move it away and resume"
        ) from error
