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
        help="webcam[:N], a video, picture or folder, an rtsp:// or http:// address, "
        "stdin:WxH\\[@FPS] (BGR), gst:PIPELINE, screen[:X,Y,W,H]\\[@FPS], "
        "synthetic[:FRAMES]\\[@FPS]. Several times for several. Default: webcam."
    ),
]
Size = Annotated[str | None, _input(help="WxH to ask of a webcam.")]
Fps = Annotated[float | None, _input(min=1, help="Rate to ask of a webcam.")]
Policy = Annotated[
    Literal["auto", "live", "every"],
    _input(
        help="live: the newest frame, others dropped and counted; every: all of them; auto: live "
        "for cameras."
    ),
]
Stride = Annotated[int, _input(min=1, help="Look at every n-th frame only.")]
MaxFps = Annotated[float | None, _input(min=0.1, help="Look at no more frames a second.")]
MaxFrames = Annotated[int | None, _input(min=1, help="Stop after so many.")]
PeopleCount = Annotated[
    Literal["one", "many"],
    _people(help="one: followed by the joints; many: found by --detector."),
]
Detector = Annotated[
    Path | None,
    _people(
        help="ONNX file of a person detector (YOLOX or YOLOv8 layout, or what a .toml beside it "
        "describes)."
    ),
]
DetectEvery = Annotated[int, _people(min=1, help="Frames from one detection to the next.")]
Smooth = Annotated[
    bool,
    _people("--smooth", help="Steady the joints (One-Euro filter); not for metrics."),
]  # fmt: skip
Threshold = Annotated[float, _people(min=0, max=1, help="Score from which a joint is drawn.")]
Model = Annotated[str | None, _model(help=MODEL_HELP)]
BackendName = Annotated[str, _model(help=f"auto, {', '.join(REGISTRY)}.")]
Precision = Annotated[str, _model(help="auto, int8, fp32 or bf16.")]
Threads = Annotated[
    int | None,
    _model(
        min=1, help="CPU threads. Default: the fastest of a few numbers, timed once and remembered."
    ),
]
Retime = Annotated[
    bool,
    _model("--retime", help="Time runtimes and threads again, whatever is remembered."),
]  # fmt: skip
Engine = Annotated[Path | None, _model(help="A TensorRT engine, in place of building one.")]
TrustEngine = Annotated[
    bool,
    _model("--trust-engine", help="Load an engine that no sidecar vouches for: it is code."),
]  # fmt: skip
Save = Annotated[
    Path | None,
    _output(help="Annotated video (.mp4, .mkv, .mov, .avi), image, or folder of images."),
]
JsonLines = Annotated[Path | None, _output("--json", help="Poses, one JSON object a frame.")]
Coco = Annotated[Path | None, _output(help="Poses as COCO results, for evaluation.")]
Csv = Annotated[Path | None, _output(help="Poses, a row for each person.")]
Write = Annotated[
    list[str] | None,
    _output(help="KIND:FILE, a file of any kind of output; repeatable."),
]
Report = Annotated[
    Path | None,
    _output(help="The report: .json with raw times, or .html to look at."),
]
Window = Annotated[bool | None, _output(help="Show a window. Default: where there is a display.")]
Watchdog = Annotated[
    bool,
    _output("--watchdog", help="Tell systemd that frames come (Type=notify, WatchdogSec=)."),
]  # fmt: skip
Web = Annotated[
    str | None,
    _web(
        help="[HOST:]PORT of a page with picture, numbers and controls, /metrics and /healthz. "
        "This machine alone unless a host is given."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print what every runtime and number of threads took."),
]
WebToken = Annotated[
    str | None,
    _web(help="Access token for other hosts. Default: generated and printed."),
]
