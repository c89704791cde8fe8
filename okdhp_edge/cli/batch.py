"""`okdhp-edge batch`."""

import json
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from okdhp_edge.backends.registry import REGISTRY
from okdhp_edge.cli import CLUSTER_HELP, MODEL_HELP
from okdhp_edge.cli.console import (
    format_command_line,
    handle_errors,
    print_json,
    progress,
    say,
    table,
)
from okdhp_edge.system.hardware import count_usable_cores

# Not imported here: that is what its processes begin with.
_WORKER = "okdhp_edge.batch.worker"
_MAX_NAMED_FILES, _AUTO = 5, "auto"

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from okdhp_edge.backends.selection import LoadedModel
    from okdhp_edge.batch.plan import WorkerPlan
    from okdhp_edge.batch.summary import BatchSummary
    from okdhp_edge.system.executors import Executor
    from okdhp_edge.system.progress import Report

    Loaded = tuple[Path, LoadedModel]

Sources = Annotated[
    list[str],
    typer.Argument(help="Videos, folders, globs, or .txt files of paths; local or s3://, gs://."),
]
Out = Annotated[str, typer.Option(help="Folder for the Parquet files, local or a URL.")]
Model = Annotated[str | None, typer.Option(help=MODEL_HELP)]
BackendName = Annotated[str, typer.Option(help=f"auto, {', '.join(REGISTRY)}.")]
Precision = Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.")]
PeopleCount = Annotated[
    Literal["auto", "one", "many"],
    typer.Option(help="one: the nearest person; many: all people; auto: many if a detector fits."),
]
Detector = Annotated[
    str | None, typer.Option(help="person (shipped), another detector, an ONNX file, or none.")
]
Smooth = Annotated[bool, typer.Option("--smooth", help="Filter joints over time (One-Euro).")]
Stride = Annotated[int, typer.Option(min=1, help="Process every n-th frame.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes. Default: one per core, or per source if there are fewer."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU cores per worker. Default: their share of all cores; 1 with --cluster."
    ),
]
SegmentSeconds = Annotated[
    float | None,
    typer.Option(min=10, help="Cut long videos into segments of this length, processed at once."),
]
Cluster = Annotated[str | None, typer.Option(help=CLUSTER_HELP)]
JsonProgress = Annotated[
    bool, typer.Option("--json-progress", help="Print progress as JSON lines on stderr.")
]


@handle_errors
def batch(
    sources: Sources,
    out: Out,
    model: Model = None,
    backend: BackendName = "auto",
    precision: Precision = "auto",
    people: PeopleCount = "auto",
    detector: Detector = None,
    smooth: Smooth = False,
    stride: Stride = 1,
    workers: Workers = None,
    threads: Threads = None,
    segment_seconds: SegmentSeconds = None,
    cluster: Cluster = None,
    json_progress: JsonProgress = False,
) -> None:
    """Estimate poses in an archive of videos and images; each becomes one Parquet file.

    A stopped batch resumes where it left off. Sources that fail are listed in failed.json,
    and the exit code is 3.
    """
    from okdhp_edge.batch.plan import plan_workers
    from okdhp_edge.batch.sources import find_sources

    found = find_sources(sources)
    _name_skipped(found.skipped)
    cores = threads or (1 if cluster else None)
    length_s = segment_seconds if stride == 1 else None  # only then videos are cut
    plan = plan_workers(found.sources, workers, cores, length_s, count_usable_cores())
    backend, precision = _continue_with(out, model, backend, precision)
    loading, executor = _start(
        partial(_load, model, backend, precision, plan.threads),
        partial(_make_executor, plan, cluster),
        is_timed=backend == _AUTO or plan.threads is None,
    )
    from okdhp_edge.batch.driver import Batch, make_key
    from okdhp_edge.batch.worker import BatchOptions
    from okdhp_edge.inference.open_detector import choose_detector_backend, identify_detector
    from okdhp_edge.run.assemble import TrackingConfig

    with _make_shared_folder() as counts, closing(executor), progress() as report:
        path, loaded = loading.result()
        name, card = loaded.backend.name, loaded.backend.card
        who = TrackingConfig(mode=people, detector=detector).resolve(card)
        finder = choose_detector_backend(str(who.detector), name, plan.cores, say)
        choices = {"people": who.mode, "detector": identify_detector(str(who.detector)),
                   "detector_backend": finder, "smooth": smooth, "stride": stride}  # fmt: skip
        started = time.perf_counter()
        options = BatchOptions(
            out=_locate(out), model=str(path.resolve()), backend=name, precision=loaded.precision,
            threads=loaded.backend.threads or plan.cores, cores=plan.cores,
            key=make_key(path, name, loaded.precision, choices), people=who.mode,
            detector=_make_absolute(str(who.detector)), detector_backend=finder,
            smooth=smooth, stride=stride, progress=None if cluster else counts,
        )  # fmt: skip
        work = Batch(options, card, segment_s=segment_seconds, command=format_command_line(),
                     warn=say)  # fmt: skip
        shown = _print_json_lines() if json_progress else report
        summary = work.run(found.sources, executor, shown)
    _show(summary, len(found.sources), time.perf_counter() - started, out)


def _continue_with(out: str, model: str | None, backend: str, precision: str) -> tuple[str, str]:
    """Runtime and precision as asked for, or those of the results that are there, which a timing of
    today might not choose."""
    is_new = "://" not in out and not Path(out).expanduser().exists()
    if is_new or (backend, precision) != (_AUTO, _AUTO):
        return backend, precision
    from okdhp_edge.artifacts import model_store
    from okdhp_edge.artifacts.card import read_card
    from okdhp_edge.backends.selection import choose_model
    from okdhp_edge.batch.driver import read_earlier_choice

    cards = model_store.list_cards(choose_model(model))
    earlier = read_earlier_choice(_locate(out), read_card(cards[0].parent).name) if cards else None
    if earlier is None:
        return backend, precision
    say(f"continuing in {earlier.backend}, {earlier.precision}, as the results in {out}")
    return earlier


@contextmanager
def _make_shared_folder() -> "Iterator[str]":
    """A temporary folder for workers; SIGTERM removes it as Ctrl-C does."""
    with _take_sigterm_for_ctrl_c(), TemporaryDirectory(prefix="okdhp-edge-batch-") as folder:
        yield folder


@contextmanager
def _take_sigterm_for_ctrl_c() -> "Iterator[None]":
    """A service manager or a cluster's scheduler stops a batch as a person does, so that workers
    end and nothing stays in the temporary folder."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _name_skipped(skipped: "Mapping[str, Sequence[str]]") -> None:
    for suffix, files in skipped.items():
        names = ", ".join(Path(file).name for file in files[:_MAX_NAMED_FILES])
        more = ", ..." if len(files) > _MAX_NAMED_FILES else ""
        say(f"skipped: {len(files)} files of kind {suffix}: {names}{more}")


def _make_executor(plan: "WorkerPlan", cluster: str | None) -> "Executor":
    """One piece of work needs no worker: starting one takes a second."""
    from okdhp_edge.system.executors import SerialExecutor, make_executor

    if plan.is_one_piece and not cluster:
        return SerialExecutor()
    return make_executor(cluster, plan.workers, plan.cores, preload=_WORKER)


def _start(
    load: "Callable[[], Loaded]", make: "Callable[[], Executor]", *, is_timed: bool
) -> "tuple[Future[Loaded], Executor]":
    """Side by side: workers import for a second, and Ray takes several to start. Where candidates
    are timed nothing else runs meanwhile."""
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(load)
        if is_timed:
            loading.exception()
        return loading, make()


def _load(model: str | None, backend: str, precision: str, threads: int | None) -> "Loaded":
    """The model's folder, and what runs of it."""
    from okdhp_edge.backends.selection import choose_model, load_backend

    path = choose_model(model)
    loaded = load_backend(str(path), backend, precision, threads, say, tune_threads=True)
    loaded.backend.close()  # the workers have their own
    return path, loaded


def _locate(out: str) -> str:
    """An absolute path: workers elsewhere have another working directory."""
    return out if "://" in out else str(Path(out).expanduser().resolve())


def _make_absolute(detector: str) -> str:
    """A file's path for workers that run elsewhere; a name stays as it is."""
    path = Path(detector)
    return str(path.resolve()) if path.is_file() else detector


def _print_json_lines() -> "Report":
    """Progress as JSON lines, with seconds so far and to go."""
    started = time.monotonic()

    def report(stage: str, done: int, total: int, note: str) -> None:
        seconds = time.monotonic() - started
        left = round(seconds * (total - done) / done, 1) if done and total else None
        record = {"stage": stage, "done": done, "total": total, "note": note,
                  "seconds": round(seconds, 1), "eta_s": left}  # fmt: skip
        sys.stderr.write(json.dumps(record) + "\n")

    return report


def _show(summary: "BatchSummary", sources: int, seconds: float, out: str) -> None:
    rate = summary.frames / seconds if seconds else 0.0
    headings = ("done", "skipped", "failed", "video", "frames", "FPS", "persons", "limited by")
    row = (
        str(summary.done), str(summary.skipped), str(len(summary.failed)),
        f"{summary.video_s / 3600:.2f} h", str(summary.frames), f"{rate:.1f}",
        str(summary.persons), summary.limit or "-",
    )  # fmt: skip
    table(f"{sources} sources", headings, [row])
    if summary.frames:
        rates = ", ".join(f"{n / seconds:.1f}" for n in summary.frames_per_worker.values() if n)
        say(f"FPS by worker: {rates}")
    for url, error in list(summary.failed.items())[:5]:
        say(f"failed: {url}: {error}")
    say(f"results: {out}")
    print_json({"out": out, "done": summary.done, "skipped": summary.skipped,
          "failed": summary.failed, "frames": summary.frames, "persons": summary.persons,
          "video_s": round(summary.video_s, 3), "seconds": round(seconds, 3),
          "work_s": round(summary.work_s, 3), "cpu_s": round(summary.cpu_s, 3),
          "busy_s": {what: round(spent, 3) for what, spent in summary.busy_s.items()},
          "limit": summary.limit})  # fmt: skip
    if summary.failed:
        raise typer.Exit(3)
