"""The options of `okdhp-edge run`, in the order of its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from okdhp_edge.cli import MODEL_HELP

_INPUT, _PEOPLE, _MODEL = "Input", "People", "Model and runtime"
_OUTPUT, _WEB = "Output", "In a browser"

Source = Annotated[
    list[str] | None,
    typer.Option(
        help="webcam[:N], a video, picture or folder, an rtsp:// or http:// address, "
        "stdin:WxH[@FPS] (BGR), gst:PIPELINE, screen[:X,Y,W,H][@FPS], synthetic[:FRAMES][@FPS]. "
        "Several times for several. Default: webcam.",
        rich_help_panel=_INPUT,
    ),
]
Size = Annotated[str | None, typer.Option(help="WxH to ask of a webcam.", rich_help_panel=_INPUT)]
Fps = Annotated[
    float | None, typer.Option(min=1, help="Rate to ask of a webcam.", rich_help_panel=_INPUT)
]
Policy = Annotated[
    Literal["auto", "live", "every"],
    typer.Option(
        help="live: the newest frame, others dropped and counted; every: all of them; auto: live "
        "for cameras.",
        rich_help_panel=_INPUT,
    ),
]
Stride = Annotated[
    int, typer.Option(min=1, help="Look at every n-th frame only.", rich_help_panel=_INPUT)
]
MaxFps = Annotated[
    float | None,
    typer.Option(min=0.1, help="Look at no more frames a second.", rich_help_panel=_INPUT),
]
MaxFrames = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many.", rich_help_panel=_INPUT)
]
PeopleCount = Annotated[
    Literal["one", "many"],
    typer.Option(
        help="one: followed by the joints; many: found by --detector.", rich_help_panel=_PEOPLE
    ),
]
Detector = Annotated[
    Path | None,
    typer.Option(
        help="ONNX file of a person detector (YOLOX or YOLOv8 layout, or what a .toml beside it "
        "describes).",
        rich_help_panel=_PEOPLE,
    ),
]
DetectEvery = Annotated[
    int,
    typer.Option(min=1, help="Frames from one detection to the next.", rich_help_panel=_PEOPLE),
]
Smooth = Annotated[
    bool,
    typer.Option(
        "--smooth", help="Steady the joints (One-Euro filter); not for metrics.",
        rich_help_panel=_PEOPLE,
    ),
]  # fmt: skip
Threshold = Annotated[
    float,
    typer.Option(min=0, max=1, help="Score from which a joint is drawn.", rich_help_panel=_PEOPLE),
]
Model = Annotated[
    str | None,
    typer.Option(help=MODEL_HELP, rich_help_panel=_MODEL),
]
BackendName = Annotated[
    str,
    typer.Option(help="auto, openvino, onnxruntime, tensorrt or pytorch.", rich_help_panel=_MODEL),
]
Precision = Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.", rich_help_panel=_MODEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU threads. Default: a few numbers are timed here.", rich_help_panel=_MODEL
    ),
]
Engine = Annotated[
    Path | None,
    typer.Option(help="A TensorRT engine, in place of building one.", rich_help_panel=_MODEL),
]
TrustEngine = Annotated[
    bool,
    typer.Option(
        "--trust-engine", help="Load it though nobody vouches: it is code.",
        rich_help_panel=_MODEL,
    ),
]  # fmt: skip
Save = Annotated[
    Path | None, typer.Option(help="Annotated video, .mp4 or .avi.", rich_help_panel=_OUTPUT)
]
JsonLines = Annotated[
    Path | None,
    typer.Option("--json", help="Poses, one JSON object a frame.", rich_help_panel=_OUTPUT),
]
Coco = Annotated[
    Path | None,
    typer.Option(help="Poses as COCO results, for evaluation.", rich_help_panel=_OUTPUT),
]
Csv = Annotated[
    Path | None, typer.Option(help="Poses, a row for each person.", rich_help_panel=_OUTPUT)
]
Report = Annotated[
    Path | None,
    typer.Option(
        help="The report: .json with raw times, or .html to look at.", rich_help_panel=_OUTPUT
    ),
]
Window = Annotated[
    bool | None,
    typer.Option(help="Show a window. Default: where there is a display.", rich_help_panel=_OUTPUT),
]
Watchdog = Annotated[
    bool,
    typer.Option(
        "--watchdog", help="Tell systemd that frames come (Type=notify, WatchdogSec=).",
        rich_help_panel=_OUTPUT,
    ),
]  # fmt: skip
Web = Annotated[
    str | None,
    typer.Option(
        help="[HOST:]PORT of a page with picture, numbers and controls, /metrics and /healthz. "
        "This machine alone unless a host is given.",
        rich_help_panel=_WEB,
    ),
]
WebToken = Annotated[
    str | None,
    typer.Option(
        help="What other hosts must know. Default: made up, and said.", rich_help_panel=_WEB
    ),
]
