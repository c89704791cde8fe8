"""`okdhp-edge run`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge.cli.opening import open_chosen
from okdhp_edge.cli.show import emit, guarded, progress, say, table
from okdhp_edge.errors import OutputError

if TYPE_CHECKING:
    from okdhp_edge.run.report import RunReport
    from okdhp_edge.run.sink import Sink
    from okdhp_edge.run.source import Source


@guarded
def run(
    source: Annotated[
        str, typer.Option(help="webcam[:N], a video, picture or folder, synthetic[:FRAMES].")
    ] = "webcam",
    model: Annotated[
        str | None, typer.Option(help="Name or path. Default: the newest export, else `lite`.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, openvino, onnxruntime, tensorrt or pytorch.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    engine: Annotated[
        Path | None, typer.Option(help="A TensorRT engine, in place of building one.")
    ] = None,
    trust_engine: Annotated[
        bool, typer.Option("--trust-engine", help="Load it though nobody vouches: it is code.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Annotated video, .mp4 or .avi.")] = None,
    json_lines: Annotated[
        Path | None, typer.Option("--json", help="Poses, one JSON object a frame.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="The report as JSON.")
    ] = None,
    window: Annotated[
        bool | None, typer.Option(help="Show a window. Default: where there is a display.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Find a person's joints in every frame and report speed honestly. Ctrl-C ends it well."""
    import cv2

    from okdhp_edge.run.loop import run_loop
    from okdhp_edge.run.source import open_source

    loaded, asked = open_chosen(
        model, backend, precision, threads, engine=engine, trust_engine=trust_engine
    )
    with loaded:
        if threads:
            cv2.setNumThreads(threads)
        stream = open_source(source)
        sinks = _sinks(stream, save, json_lines, window)
        drawing = save is not None or len(sinks) > (json_lines is not None)
        say(f"source {stream.name}; Ctrl-C ends")
        with progress() as bars:
            result = run_loop(
                stream, loaded, sinks, draw=drawing, precision_asked=asked, max_frames=max_frames,
                progress=lambda done: bars("frames", done, max(done, max_frames or 0), ""),
            )  # fmt: skip
    show_report(result)
    if save:
        say(f"annotated video: {save}")
    if report_file:
        from okdhp_edge.card import write_text

        write_text(report_file, json.dumps(result.to_dict(), indent=2) + "\n")
    emit(result.to_dict())


def _sinks(
    stream: "Source", save: Path | None, json_lines: Path | None, window: bool | None
) -> "list[Sink]":
    from okdhp_edge.run.sink import JsonSink, VideoSink, WindowSink, window_possible

    sinks: list[Sink] = []
    if json_lines:
        sinks.append(JsonSink(json_lines))
    if save:
        sinks.append(VideoSink(save, stream.fps or 30.0))
    possible = window_possible()
    if window and not possible:
        raise OutputError(
            "no window can be opened here (no display, or OpenCV without windows)",
            "pip install opencv-python in place of opencv-python-headless, or use --save",
        )
    if possible and window is not False:
        sinks.append(WindowSink("okdhp-edge"))
    return sinks


def show_report(result: "RunReport") -> None:
    """The stage table and the facts a number needs."""
    stages = [(name, s) for name, s in result.stages.items()]
    if result.frame_age:
        stages.append(("frame age", result.frame_age))
    table(
        f"latency in ms over {stages[0][1].n if stages else 0} frames "
        f"({result.warmup} warm-up frames left out)",
        ("stage", "mean", "p50", "p90", "p99", "max"),
        [(n, *(f"{v:.2f}" for v in (s.mean, s.p50, s.p90, s.p99, s.max))) for n, s in stages],
    )
    ran = result.backend
    say(f"{result.fps:.1f} FPS; {result.frames} frames, a person in {result.found}, "
        f"{result.dropped} dropped")  # fmt: skip
    say(f"ran on {ran.backend} {ran.version}, {ran.device}, {ran.threads or 'default'} threads")
    say(f"precision asked {result.precision_asked}, ran {ran.precision}")
