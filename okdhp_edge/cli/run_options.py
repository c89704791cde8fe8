"""The options of `okdhp-edge run`, in the order of its help."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from okdhp_edge.backends.registry import REGISTRY
from okdhp_edge.cli import MODEL_HELP

_input = partial(typer.Option, rich_help_panel="Input")
_people = partial(typer.Option, rich_help_panel="People")
_model = partial(typer.Option, rich_help_panel="Model and runtime")
_output = partial(typer.Option, rich_help_panel="Output")
_web = partial(typer.Option, rich_help_panel="In a browser")

Source = Annotated[
    list[str] | None,
    _input(
        help="webcam[:N], a video, image or folder, an rtsp:// or http:// URL, "
        "stdin:WxH\\[@FPS] (BGR), gst:PIPELINE, screen[:X,Y,W,H]\\[@FPS], "
        "synthetic[:FRAMES]\\[@FPS]. Repeatable. Default: webcam."
    ),
]
Size = Annotated[str | None, _input(help="Webcam resolution to request, WxH.")]
Fps = Annotated[float | None, _input(min=1, help="Webcam frame rate to request.")]
Policy = Annotated[
    Literal["auto", "live", "every"],
    _input(
        help="live: newest frame only, others are dropped and counted; every: all frames; auto: "
        "live for cameras."
    ),
]
Stride = Annotated[int, _input(min=1, help="Process every n-th frame only.")]
MaxFps = Annotated[float | None, _input(min=0.1, help="Maximum frames processed per second.")]
MaxFrames = Annotated[int | None, _input(min=1, help="Stop after N frames.")]
PeopleCount = Annotated[
    Literal["auto", "one", "many"],
    _people(help="one: the nearest person; many: all people; auto: many if a detector fits."),
]
Detector = Annotated[
    str | None,
    _people(
        help="person (shipped, the default for models of people), another detector of this "
        "project, an ONNX file (YOLOX or YOLOv8 output layout, or as described by a .toml file "
        "next to it), or none."
    ),
]
MaxPeople = Annotated[
    int, _people(min=1, help="Estimate the N nearest people of a frame; others are counted.")
]
DetectEvery = Annotated[int, _people(min=1, help="Run the detector every N frames.")]
Smooth = Annotated[
    bool,
    _people("--smooth", help="Smooth the joints (One-Euro filter); not for metrics."),
]  # fmt: skip
Threshold = Annotated[float, _people(min=0, max=1, help="Minimum score of a drawn joint.")]
Model = Annotated[str | None, _model(help=MODEL_HELP)]
BackendName = Annotated[str, _model(help=f"auto, {', '.join(REGISTRY)}.")]
Precision = Annotated[str, _model(help="auto, int8, fp32 or bf16.")]
Threads = Annotated[
    int | None,
    _model(
        min=1, help="CPU threads. Default: the fastest of several counts, timed and remembered."
    ),
]
Retime = Annotated[
    bool,
    _model("--retime", help="Time runtimes and threads again, ignoring remembered results."),
]  # fmt: skip
Engine = Annotated[Path | None, _model(help="TensorRT engine to load instead of building one.")]
TrustEngine = Annotated[
    bool,
    _model("--trust-engine", help="Load an engine without a matching sidecar; engines are code."),
]  # fmt: skip
Save = Annotated[
    Path | None,
    _output(help="Annotated video (.mp4, .mkv, .mov, .avi), image, or folder of images."),
]
JsonLines = Annotated[Path | None, _output("--json", help="Poses, one JSON object per frame.")]
Coco = Annotated[Path | None, _output(help="Poses as COCO results, for evaluation.")]
Csv = Annotated[Path | None, _output(help="Poses, one row per person.")]
Write = Annotated[
    list[str] | None,
    _output(help="Additional output as KIND:FILE; repeatable."),
]
Report = Annotated[
    Path | None,
    _output(help="Report file: .json with raw times, or .html."),
]
Window = Annotated[bool | None, _output(help="Show a window. Default: if there is a display.")]
Watchdog = Annotated[
    bool,
    _output("--watchdog", help="Notify the systemd watchdog (Type=notify, WatchdogSec=)."),
]  # fmt: skip
Web = Annotated[
    str | None,
    _web(
        help="[HOST:]PORT of a page with live image, statistics and controls, /metrics and "
        "/healthz. Local only unless a host is given."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print the timings of all runtimes and thread counts."),
]
WebToken = Annotated[
    str | None,
    _web(help="Access token for other hosts. Default: generated and printed."),
]
