"""One segment by one worker."""

from contextlib import ExitStack

import cv2
import fsspec
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")
import pyarrow.parquet as pq

from okdhp_edge.batch import worker
from okdhp_edge.batch.plan import Segment, plan_segments
from okdhp_edge.batch.sources import BatchSource
from okdhp_edge.batch.storage import Storage
from okdhp_edge.batch.table import read_metadata
from okdhp_edge.batch.worker import get_part_name, open_segment, process_segment
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import OutputError
from tests.helpers.archives import (
    make_long_video,
    make_options,
    make_video,
    write_photo_video,
    write_video,
)


@pytest.mark.parametrize("people", ["one", "many"])
def test_a_worker_of_one_core_gives_the_poses_of_one_with_more(tmp_path, people):
    write_photo_video(tmp_path / "v.mp4", np.arange(40) / 30)
    (segment,) = plan_segments(BatchSource(str(tmp_path / "v.mp4"), "v"), 0.0, None)
    tables = []
    for cores in (1, 2):
        options = make_options(
            "lite", tmp_path / str(cores), cores=cores, precision="int8", people=people,
            detector="person",
        )  # fmt: skip
        assert process_segment(options, segment).frames == 40
        tables.append(pq.read_table(tmp_path / str(cores) / "out" / "v.parquet"))
    assert tables[0].num_rows > 30
    assert tables[0].equals(tables[1])


def test_a_store_that_cannot_be_written_ends_the_batch_and_not_each_source(
    exported, tmp_path, monkeypatch
):
    video = make_video(tmp_path / "v.mp4", 5, exported)
    (segment,) = plan_segments(BatchSource(str(video), "v"), 0.0, None)
    options = make_options(exported, tmp_path)

    def refuse(self, name):
        raise OutputError("no space left", "free some")

    monkeypatch.setattr(Storage, "create", refuse)
    with pytest.raises(OutputError, match="no space left"):
        process_segment(options, segment)


def test_memory_that_does_not_suffice_ends_the_batch(exported, tmp_path, monkeypatch):
    video = make_video(tmp_path / "v.mp4", 5, exported)
    (segment,) = plan_segments(BatchSource(str(video), "v"), 0.0, None)

    def allocate(*_):
        raise MemoryError

    monkeypatch.setattr(worker, "open_segment", allocate)
    with pytest.raises(MemoryError):
        process_segment(make_options(exported, tmp_path), segment)


def test_an_error_that_is_not_foreseen_costs_its_source_alone(exported, tmp_path, monkeypatch):
    video = make_video(tmp_path / "v.mp4", 5, exported)
    (segment,) = plan_segments(BatchSource(str(video), "v"), 0.0, None)
    monkeypatch.setattr(worker, "open_segment", lambda *_: 1 / 0)
    result = process_segment(make_options(exported, tmp_path), segment)
    assert "v.mp4: ZeroDivisionError: division by zero" in result.error


def test_images_elsewhere_keep_their_names_and_numbers():
    files = fsspec.filesystem("memory")
    encoded = cv2.imencode(".png", np.full((32, 48, 3), 90, np.uint8))[1].tobytes()
    names = [f"photo [{i}].png" for i in range(4)]
    for name in names:
        files.pipe_file(f"/photos/{name}", encoded)
    source = BatchSource(
        "memory:///photos", "photos", tuple(f"memory:///photos/{n}" for n in names)
    )
    with ExitStack() as closing:
        opened = open_segment(Segment(source, 1, 2, 4), closing, 1)
        frames = [opened.read(), opened.read()]
        assert opened.read() is None
    assert [(f.name, f.number, f.seconds) for f in frames] == [
        (names[2], 2, 2.0),
        (names[3], 3, 3.0),
    ]


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_each_frame_of_a_video_is_in_one_segment(exported, tmp_path, container):
    path = tmp_path / f"long.{container}"
    if container == "ts":  # without an index, and with six seconds between key frames
        gray = np.full((48, 64, 3), 90, np.uint8)
        write_video(path, np.arange(60) / 2, [gray + i for i in range(60)], "libx264")
    else:
        make_long_video(path, exported)
    options = make_options(exported, tmp_path)
    times = []
    for segment in plan_segments(BatchSource(str(path), "long"), 30.0, 10.0):
        found = process_segment(options, segment)
        assert not found.error and found.frames == 20
        part = Storage(options.out).read(get_part_name(options, segment))
        times += [t for t in read_metadata(part)["times"] if t >= segment.start]
    reader = VideoReader(path)
    whole = [frame.seconds for frame in iter(reader.read, None)]
    reader.close()
    np.testing.assert_allclose(times, whole, atol=2e-3)


def test_a_video_whose_last_frame_stands_still_is_whole_in_segments(exported, tmp_path):
    """As in recordings of screens: parts of it have no frame of their own."""
    path = tmp_path / "slides.mp4"
    times = [*np.arange(0, 10, 0.1), 59.9]
    write_video(path, times, [np.full((48, 64, 3), 90, np.uint8)] * len(times))
    options = make_options(exported, tmp_path)
    plan = plan_segments(BatchSource(str(path), "slides"), 60.0, 10.0)
    assert len(plan) == 6
    assert [process_segment(options, segment).error for segment in plan] == [""] * 6
