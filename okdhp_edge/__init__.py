"""2D human pose estimation from training to edge devices.

The pipeline, one sub-package per stage; stages meet only in files on disk:

    recipe.toml --train--> best.safetensors --export--> model.onnx + card.json
        --quantize--> int8/<profile>/ + card.json --run / bench--> poses + report

`train` distils several branches online from their own ensemble (OKDHP, ICCV 2021), `export` keeps
only the best branch, `quantize` converts it to INT8 and verifies its accuracy, `run` is the
real-time loop. This module imports nothing heavy; each stage imports its own dependencies.

In Python:

    import okdhp_edge
    model = okdhp_edge.load("lite")
    poses = model("image.jpg")
    for frame, poses in okdhp_edge.stream("webcam"):
        ...
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from okdhp_edge.api import PoseModel, Result, load, stream

__all__ = ["PoseModel", "Result", "__version__", "load", "stream"]

# A image of few bytes may claim any size; so many pixels are read and drawn within a gigabyte.
# OpenCV reads this when it is loaded; who has larger images sets it higher.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))
# FFmpeg's own lines show addresses with their passwords; 16 brings its errors back.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The names of `api`, imported when they are asked for."""
    if name in ("load", "stream", "PoseModel", "Result"):
        from okdhp_edge import api

        return getattr(api, name)
    raise AttributeError(f"module 'okdhp_edge' has no attribute '{name}'")
