import csv
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.run.sinks.records import CocoSink, CsvSink, JsonSink
from tests.conftest import REPOSITORY
from tests.helpers.running import frame_result

POSE = Pose(LSP14, np.ones((14, 2), np.float32), np.full(14, 0.5, np.float32), id=3)
KINDS = [JsonSink, CocoSink, lambda path: CsvSink(path, LSP14)]
NAMES = ["json", "coco", "csv"]


def _written(sink, path):
    sink.write(frame_result(0), None)
    sink.write(frame_result(1, [POSE, POSE]), None)
    sink.write(frame_result(2, [POSE], name="000000000785.jpg"), None)
    sink.close(success=True)
    sink.close(success=False)  # what a run does that has already closed it
    return path.read_text()


def test_poses_are_one_object_a_line(tmp_path):
    text = _written(JsonSink(tmp_path / "p"), tmp_path / "p")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [len(line["people"]) for line in lines] == [0, 2, 1]
    assert lines[1]["seconds"] == pytest.approx(1 / 30, abs=1e-6)
    assert lines[1]["people"][0]["joints"]["neck"] == [1.0, 1.0, 0.5]
    assert lines[1]["people"][0]["id"] == 3
    assert lines[2]["image"] == "000000000785.jpg"


def test_coco_results_are_what_its_evaluation_reads(tmp_path):
    results = json.loads(_written(CocoSink(tmp_path / "p"), tmp_path / "p"))
    assert [r["image_id"] for r in results] == [1, 1, 785]
    assert {r["category_id"] for r in results} == {1}
    assert results[0]["keypoints"] == [1.0, 1.0, 0.5] * 14
    assert results[0]["score"] == 0.5


def test_rows_have_every_joint(tmp_path):
    text = _written(CsvSink(tmp_path / "p", LSP14), tmp_path / "p")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["frame"] for row in rows] == ["1", "1", "2"]
    assert rows[0]["id"] == "3" and rows[2]["image"] == "000000000785.jpg"
    assert float(rows[0]["left_wrist_x"]) == 1 and float(rows[0]["left_wrist_score"]) == 0.5
    assert len(rows[0]) == 5 + 3 * 14


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=NAMES)
def test_nobody_is_a_whole_file_too(tmp_path, kind, name):
    sink = kind(tmp_path / "p")
    sink.write(frame_result(0), None)
    sink.close(success=True)
    text = (tmp_path / "p").read_text()
    assert (json.loads(text) == []) if name == "coco" else len(text.splitlines()) == 1


def _whole(text, name):
    """What was written, parsed: people in it."""
    if name == "coco":
        return len(json.loads(text))
    if name == "csv":
        return len(list(csv.DictReader(text.splitlines())))
    return sum(len(json.loads(line)["people"]) for line in text.splitlines())


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=NAMES)
def test_a_failed_run_keeps_what_it_wrote(tmp_path, kind, name):
    sink = kind(tmp_path / "p")
    sink.write(frame_result(0, [POSE]), None)
    sink.close(success=False)
    assert _whole((tmp_path / "p").read_text(), name) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=NAMES)
def test_a_run_that_is_killed_leaves_whole_records(tmp_path, kind, name):
    sink = kind(tmp_path / "p")
    for number in range(5):
        sink.write(frame_result(number, [POSE] * number), None)
        # What a process that died now would have left.
        assert _whole((tmp_path / "p").read_text(), name) == sum(range(number + 1))


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=NAMES)
def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path, kind, name):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    sink = kind(pipe)
    for number in range(3):
        sink.write(frame_result(number, [POSE]), None)
    sink.close(success=True)
    reader.join()
    assert _whole(read[0], name) == 3
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    sink = JsonSink(tmp_path / "link")
    sink.write(frame_result(0), None)
    sink.close(success=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text()


def test_minus_is_stdout(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sink = JsonSink(Path("-"))
    sink.write(frame_result(0, [POSE]), None)
    sink.close(success=True)
    assert _whole(capfd.readouterr().out, "json") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_place_that_does_not_exist_is_said_before_the_run(tmp_path, kind):
    with pytest.raises(OutputError, match="does not exist"):
        kind(tmp_path / "gone" / "p")


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)), ids=NAMES)
@pytest.mark.parametrize("records", [0, 2])
def test_a_disk_that_fills_up_within_a_record_leaves_whole_ones(tmp_path, kind, name, records):
    sink = kind(tmp_path / "p")
    for number in range(records):
        sink.write(frame_result(number, [POSE]), None)
    sink._file = _FillingUp(sink._file)
    with pytest.raises(OutputError, match="No space left"):
        sink.write(frame_result(records, [POSE]), None)
    sink.close(success=False)
    assert _whole((tmp_path / "p").read_text(), name) == records


class _FillingUp:
    """Takes half of what is written to it once, and nothing longer than a bracket after."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        if len(data) <= 4:
            return self._file.write(data)
        if self._file.write is None or getattr(self, "full", False):
            raise OSError(28, "No space left on device")
        self.full = True
        return self._file.write(data[: len(data) // 2])


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_full_disk_while_writing_poses_is_one_line(kind):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")

    def write():
        kind(Path("/dev/full")).write(frame_result(0, [POSE]), None)

    with pytest.raises(OutputError, match="No space left") as caught:
        write()
    assert "\n" not in str(caught.value)


def test_frames_without_names_are_not_remembered(tmp_path):
    sink = CocoSink(tmp_path / "p")
    for number in range(50):
        sink.write(frame_result(number), None)
    assert not sink._names
    sink.close(success=True)


@pytest.mark.parametrize(
    ("name", "image_id"),
    [("000000000785.jpg", 785), ("COCO_val2014_000000397133.jpg", 397133), ("day1.jpg", 7)],
)
def test_an_image_is_called_by_its_number_as_coco_does(tmp_path, name, image_id):
    sink = CocoSink(tmp_path / "p")
    sink.write(frame_result(7, [POSE], name=name), None)
    sink.close(success=True)
    assert json.loads((tmp_path / "p").read_text())[0]["image_id"] == image_id


def test_a_list_that_is_appended_to_a_file_is_whole(tmp_path):
    """`--coco - >> file`: what is written goes to the end, wherever one seeks."""
    code = (
        "import numpy as np; from pathlib import Path; from okdhp_edge.run.sinks.records import *;"
        "from tests.helpers.running import frame_result;"
        "from tests.run.sinks.test_records import POSE;"
        "sink = CocoSink(Path('-')); [sink.write(frame_result(n, [POSE]), None) for n in range(3)];"
        "sink.close(success=True)"
    )
    with (tmp_path / "list").open("ab") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, cwd=REPOSITORY)
    assert len(json.loads((tmp_path / "list").read_text())) == 3


def test_two_images_of_one_number_are_refused(tmp_path):
    """`2.jpg`, and `cover.jpg` as the frame of that number."""
    sink = CocoSink(tmp_path / "p")
    sink.write(frame_result(1, [POSE], name="2.jpg"), None)
    with pytest.raises(OutputError, match=r"2\.jpg and cover\.jpg both have number 2"):
        sink.write(frame_result(2, [POSE], name="cover.jpg"), None)
    sink.close(success=False)
    assert len(json.loads((tmp_path / "p").read_text())) == 1
