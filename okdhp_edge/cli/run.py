"""`okdhp-edge run`."""

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from okdhp_edge.cli import run_options as option
from okdhp_edge.cli.console import handle_errors, print_json, progress, say
from okdhp_edge.cli.run_page import listen_for_viewers, serve_page
from okdhp_edge.cli.show_report import show_report
from okdhp_edge.errors import OkdhpError, OutputError, SourceError
from okdhp_edge.system.allocator import limit_arenas, return_freed_memory

if TYPE_CHECKING:
    from okdhp_edge.backends.selection import Selection
    from okdhp_edge.run.assemble import Outputs, TrackingConfig
    from okdhp_edge.run.controls import Controls
    from okdhp_edge.run.loop import SourceRun
    from okdhp_edge.run.pipeline import Pipeline
    from okdhp_edge.run.report import RunReport
    from okdhp_edge.run.sources.camera import CameraSettings

_MIN_FRAMES_TO_JUDGE = 30
"""Minimum number of frames before a run's latency is compared with the remembered one."""


_LIVE = {"live": True, "every": False}
_DEFAULT_SOURCES = ("webcam",)
_STDOUT_FILES = ("/dev/stdout", "/dev/fd/1")


def _say_if(wanted: bool) -> "Callable[[str], None]":
    return say if wanted else lambda _: None


@handle_errors
def run(
    source: option.Source = None,
    size: option.Size = None,
    fps: option.Fps = None,
    policy: option.Policy = "auto",
    stride: option.Stride = 1,
    max_fps: option.MaxFps = None,
    max_frames: option.MaxFrames = None,
    people: option.PeopleCount = "auto",
    detector: option.Detector = None,
    detect_every: option.DetectEvery = 15,
    max_people: option.MaxPeople = 20,
    smooth: option.Smooth = False,
    threshold: option.Threshold = 0.3,
    model: option.Model = None,
    backend: option.BackendName = "auto",
    precision: option.Precision = "auto",
    threads: option.Threads = None,
    engine: option.Engine = None,
    trust_engine: option.TrustEngine = False,
    save: option.Save = None,
    json_lines: option.JsonLines = None,
    coco: option.Coco = None,
    csv: option.Csv = None,
    write: option.Write = None,
    report: option.Report = None,
    window: option.Window = None,
    watchdog: option.Watchdog = False,
    web: option.Web = None,
    web_token: option.WebToken = None,
    retime: option.Retime = False,
    verbose: option.Verbose = False,
) -> None:
    """Estimate poses in every frame and report latency. Ctrl-C stops cleanly."""
    from okdhp_edge.backends.selection import load_backend
    from okdhp_edge.run import assemble as assembly
    from okdhp_edge.run.controls import Controls
    from okdhp_edge.run.reader import FramePolicy

    limit_arenas()
    who = assembly.TrackingConfig(mode=people, detector=detector, every=detect_every,
                                  max_people=max_people, smooth=smooth)  # fmt: skip
    pace = FramePolicy(live=_LIVE.get(policy), stride=stride, max_fps=max_fps)
    outputs = _make_outputs(write, window, watchdog, save=save, json=json_lines, coco=coco, csv=csv)
    controls = Controls(threshold)
    camera = _parse_camera_settings(size, fps, wanted := source or _DEFAULT_SOURCES)
    images = _check(report, wanted, outputs)
    with ExitStack() as closing:
        loaded, _, selection = load_backend(
            model, backend, precision, threads, say, engine=engine, trust_engine=trust_engine,
            retime=retime, images=images, detail=_say_if(verbose), tune_threads=True)  # fmt: skip
        who = who.resolve(closing.enter_context(loaded).card)
        sources = assembly.open_sources(wanted, camera, closing)
        pipeline = assembly.assemble(sources, loaded, who, pace, controls, closing, say=say)
        site = listen_for_viewers(web, web_token, closing)
        feeds = assembly.make_source_runs(sources, outputs, loaded.card, pace, controls, closing)
        serve_page(site, pipeline, feeds, controls, (model, selection), closing)
        results, failure = _run_with_progress(pipeline, feeds, controls, selection, max_frames, who,
                                              precision)  # fmt: skip
    _tell(results, report, outputs, failure)


def _check_selection(selection: "Selection", results: "Sequence[RunReport]", people: str) -> None:
    """Only with one person per frame: several crops take longer than the single one measured."""
    for result in results:
        infer = result.stages.get("infer")
        # While no one is in view, most frames are passed over.
        judged = people == "one" and 2 * result.frames_with_people > result.frames
        if judged and infer is not None and infer.n >= _MIN_FRAMES_TO_JUDGE:
            selection.check_against(infer.p50, say)


def _report_files(results: "Sequence[RunReport]", outputs: "Outputs") -> None:
    for place, result in enumerate(results):
        for kind, path in outputs.get_files(place if len(results) > 1 else None).items():
            seen = result.frames or kind != "save"  # a video needs at least one frame
            say(f"wrote {path}" if seen else f"no frames received: {path} was not written")


def _make_outputs(
    written: Sequence[str] | None, window: bool | None, watchdog: bool, **named: Path | None
) -> "Outputs":
    """With files by kind, from the named options and `--write KIND:FILE`."""
    from okdhp_edge.run.assemble import Outputs
    from okdhp_edge.run.sinks.registry import SINKS

    files = {kind: _resolve_output(path) for kind, path in named.items() if path is not None}
    for text in written or ():
        kind, _, path = text.partition(":")
        if kind not in SINKS or not path:
            raise OutputError(
                f"unknown output '{text}'", f"use KIND:FILE with one of {', '.join(SINKS)}"
            )
        if kind in files:
            raise OutputError(f"two outputs of kind {kind}", "give one file for each kind")
        files[kind] = _resolve_output(Path(path))
    return Outputs(files, window, watchdog)


def _resolve_output(path: Path) -> Path:
    """Standard output has several names; a shell does not expand `~` after `=` or `:`."""
    from okdhp_edge.run.sinks.records import STDOUT_PATH

    return Path(STDOUT_PATH) if str(path) in _STDOUT_FILES else path.expanduser()


def _parse_camera_settings(
    size: str | None, fps: float | None, sources: Sequence[str]
) -> "CameraSettings":
    from okdhp_edge.run.sources.camera import CameraSettings
    from okdhp_edge.run.sources.open import is_webcam

    match = re.fullmatch(r"(\d+)x(\d+)", size or "")
    if size and not match:
        raise SourceError(f"invalid size '{size}'", "use --size WIDTHxHEIGHT")
    if (size or fps) and not any(map(is_webcam, sources)):
        raise SourceError("--size and --fps are requests to a webcam, and no source is one",
                          "leave them out; --max-fps limits any source")  # fmt: skip
    return CameraSettings((int(match[1]), int(match[2])) if match else None, fps)


def _check(path: Path | None, sources: Sequence[str], outputs: "Outputs") -> int | None:
    """Check sources and outputs before a model is loaded and timed; returns the number of still
    images to be read, None where there is a stream."""
    from okdhp_edge.run.sinks.base import check_writable
    from okdhp_edge.run.sinks.records import STDOUT_PATH
    from okdhp_edge.run.sources.open import check_source, count_images
    from okdhp_edge.system.outputs import check_outputs

    for source in sources:
        check_source(source)
    if path and path.suffix not in (".json", ".html"):
        raise OutputError(f"unsupported report format: {path}", "use .json or .html")
    if path:
        check_writable(path)
    named = {"--report": path}
    for i in range(len(sources)):
        files = outputs.get_files(i if len(sources) > 1 else None)
        named |= {f"--{kind} of source {i}": file for kind, file in files.items()}
    streams = [name for name, file in named.items() if str(file) == STDOUT_PATH]
    if len(streams) > 1:
        raise OutputError(
            f"{' and '.join(streams)} would share stdout", "write all but one to files"
        )
    for file in named.values():
        if file is None or file == path or str(file) == STDOUT_PATH:
            continue
        # What is there is left alone until the run begins.
        if not file.exists():
            check_writable(file)
        elif file.is_file() and not os.access(file, os.W_OK):
            raise OutputError(f"{file} cannot be written", "check its permissions")
    read = [p for p in (Path(text).expanduser() for text in sources) if p.is_file() or p.is_dir()]
    check_outputs(named, read)
    return count_images(sources)


def _run_with_progress(
    pipeline: "Pipeline",
    feeds: "Sequence[SourceRun]",
    controls: "Controls",
    selection: "Selection",
    max_frames: int | None,
    who: "TrackingConfig",
    precision: str,
) -> "tuple[list[RunReport], OkdhpError | None]":
    """Run with a progress bar; returns a report per source and the error that ended it, if any."""
    import cv2

    from okdhp_edge.inference.open_detector import NO_DETECTOR
    from okdhp_edge.run.loop import run_loop
    from okdhp_edge.run.report import build_report
    from okdhp_edge.system.hardware import read_sensors

    return_freed_memory()
    cv2.setNumThreads(pipeline.backend.describe().threads or 1)
    before = read_sensors()
    say(f"source {', '.join(feed.source.name for feed in feeds)}; press Ctrl-C to stop")
    failure = None
    with progress() as bars:
        try:
            run_loop(
                pipeline, feeds, controls, max_frames=max_frames,
                progress=lambda done: bars("frames", done, max_frames or 0, ""),
            )  # fmt: skip
        except OkdhpError as error:
            failure = error
    measured = (before, read_sensors())
    if pipeline.switches and controls.current:  # by a viewer
        precision = controls.current.precision
    if failure and not any(feed.stats.frames for feed in feeds):
        raise failure
    results = [
        build_report(feed.source, reader, feed.stats, pipeline.backend, precision, measured,
                  switches=pipeline.switches, selection=selection,
                  detector=None if str(who.detector) == NO_DETECTOR else str(who.detector),
                  left_out=left_out, paused_s=pipeline.paused_s)
        for feed, reader, left_out in zip(feeds, pipeline.readers, pipeline.left_out, strict=True)
    ]  # fmt: skip
    # Of several choices the times are mixed, and in still images each person is searched for.
    if not pipeline.switches and all(feed.source.continuous for feed in feeds):
        _check_selection(selection, results, who.mode)
    if most := max(pipeline.left_out):
        say(f"more than {who.max_people} people in a frame: the nearest were estimated, up to "
            f"{most} left out; raise --max-people")  # fmt: skip
    return results, failure


def _tell(
    results: "Sequence[RunReport]",
    report: Path | None,
    outputs: "Outputs",
    failure: "OkdhpError | None",
) -> None:
    """Print and write what was measured, up to the failure that ended the run, if one did."""
    from okdhp_edge.run.sinks.records import STDOUT_PATH

    if results:
        _write_report(results, report)
        # A document is followed by nothing; JSON lines may be by one more.
        documents = (outputs.files.get(kind) for kind in ("coco", "csv"))
        if Path(STDOUT_PATH) not in documents:
            print_json(_unwrap_single([result.to_dict() for result in results]))
    _report_files(results, outputs)
    if failure is not None:
        raise failure


def _write_report(results: "Sequence[RunReport]", report: Path | None) -> None:
    from okdhp_edge.report.pages import render_report_page
    from okdhp_edge.system.files import write_text

    for result in results:
        show_report(result)
    if report and report.suffix == ".html":
        full = [result.with_samples() | {"label": result.source} for result in results]
        write_text(report, render_report_page(full, []))
    elif report:
        write_text(report, json.dumps(_unwrap_single([r.with_samples() for r in results])) + "\n")
    if report:
        say(f"report: {report}")


def _unwrap_single(records: list[dict[str, object]]) -> dict[str, object]:
    return records[0] if len(records) == 1 else {"sources": records}
