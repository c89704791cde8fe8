"""Videos, segments and parts of a batch, and the command."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
from typer.testing import CliRunner

from okdhp_edge.batch import join
from okdhp_edge.batch.plan import Segment
from okdhp_edge.batch.table import FrameRecord, make_table, read_metadata, to_parquet
from okdhp_edge.batch.worker import BatchOptions
from okdhp_edge.cli.main import app
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14
from tests.conftest import REPOSITORY


def make_video(path: Path, frames: int, model: Path) -> Path:
    """A drawn person on video, as `run` saves it."""
    done = run("run", "--source", f"synthetic:{frames}", "--model", model, "--backend",
               "onnxruntime", "--precision", "fp32", "--no-window", "--save", path)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return path


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def make_options(model, folder, **changes):
    """For the tiny model and one person."""
    return BatchOptions(
        out=str(folder / "out"), model=str(model), backend="onnxruntime", threads=1, key="k",
        **{"cores": 1, "people": "one", "precision": "fp32"} | changes,
    )  # fmt: skip


def write_photo_video(path, times):
    """A person in a photo, past whom the camera moves."""
    photo = cv2.imread(str(REPOSITORY / "docs" / "person.jpg"))
    photo = cv2.resize(photo, (360, round(360 * photo.shape[0] / photo.shape[1]) // 2 * 2))
    shifts = np.linspace(0, 40, len(times)).round().astype(int)
    write_video(path, times, [photo[:, shift : shift + 320] for shift in shifts])


def make_long_video(path, model):
    """Half a minute in sixty frames."""
    saved = run("run", "--source", "synthetic:60@2", "--model", model, "--backend",
                "onnxruntime", "--precision", "fp32", "--no-window", "--save", path)  # fmt: skip
    assert saved.exit_code == 0, saved.stderr
    return path


def write_video(path, times, images, codec="mpeg4"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.gop_size = 12
        stream.height, stream.width, _ = images[0].shape
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        for seconds, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def pose(x: float, identity: int) -> Pose:
    xy = np.full((14, 2), x, np.float32) + np.linspace(0, 40, 28).reshape(14, 2)
    return Pose(LSP14, xy.astype(np.float32), np.full(14, 0.9, np.float32), identity)


def make_part_file(segment: Segment, times: list[float], people, numbers=None) -> bytes:
    records = [FrameRecord(t, "", people(t)) for t in times]
    table = make_table("v.mp4", list(enumerate(records)), LSP14)
    return to_parquet(table, {"times": times, "numbers": numbers or list(range(len(times)))})


def join_whole(segments, parts):
    frames = sum(
        join.count_own_frames(segment, read_metadata(part))
        for segment, part in zip(segments, parts, strict=True)
    )
    read = map(join.read_part, segments, parts)
    return pa.concat_tables(join.join_parts(read, has_ids=True)), frames
