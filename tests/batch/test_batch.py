"""An archive to Parquet: nothing lost, nothing twice, whatever ends."""

import errno
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import fsspec
import numpy as np
import psutil
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")
import pyarrow as pa
import pyarrow.parquet as pq

from okdhp_edge.batch import join, worker
from okdhp_edge.batch.plan import OVERLAP_S, Segment, plan_segments, plan_workers
from okdhp_edge.batch.progress import BatchProgress
from okdhp_edge.batch.sources import BatchSource, compute_fingerprint, find_sources
from okdhp_edge.batch.storage import Storage
from okdhp_edge.batch.table import FrameRecord, RowCollector, make_table, read_metadata, to_parquet
from okdhp_edge.batch.worker import BatchOptions, get_part_name, open_segment, process_segment
from okdhp_edge.cli.main import app
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import OutputError, SourceError
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


@pytest.fixture
def archive(tmp_path, exported, monkeypatch):
    """Two short videos, one broken, and other files; the tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", 40, exported)
    make_video(videos / "b.mp4", 25, exported)
    (videos / "broken.mp4").write_text("no video")
    (videos / "notes.doc").write_text("")
    return videos


def batch(archive, exported, *more):
    return run("batch", archive, "--out", "out", "--model", exported, "--backend", "onnxruntime",
               "--precision", "fp32", "--workers", 1, *more)  # fmt: skip


def make_options(model, folder, **changes):
    """For the tiny model and one person."""
    return BatchOptions(
        out=str(folder / "out"), model=str(model), backend="onnxruntime", threads=1, key="k",
        **{"cores": 1, "people": "one", "precision": "fp32"} | changes,
    )  # fmt: skip


def test_a_batch_lists_what_failed(archive, exported):
    done = batch(archive, exported)
    assert done.exit_code == 3, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["done"], summary["frames"]) == (2, 65)
    assert list(summary["failed"]) == [str(archive / "broken.mp4")]
    assert json.loads(Path("out/failed.json").read_text()) == summary["failed"]
    assert "1 files of kind .doc: notes.doc" in done.stderr
    metadata = read_metadata(Path("out/a.mp4.parquet").read_bytes())
    assert metadata["frames"] == 40 and metadata["card"]["name"] == "tiny"


def test_a_batch_gives_the_poses_of_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photo_video(Path("a.mp4"), np.arange(40) / 30)
    words = ("--model", "lite", "--backend", "onnxruntime")
    done = run("batch", "a.mp4", "--out", "out", *words)
    assert done.exit_code == 0, done.stderr
    run("run", "--source", "a.mp4", "--no-window", "--json", "a.jsonl", *words)
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    found = [(line["frame"], pose) for line in lines for pose in line["people"]]
    assert len(found) >= 40
    table = pq.read_table("out/a.mp4.parquet").to_pylist()
    assert [row["frame"] for row in table] == [frame for frame, _ in found]
    for row, (_, pose) in zip(table, found, strict=True):
        for joint, (x, y, score) in pose["joints"].items():
            values = [row[f"{joint}_{part}"] for part in ("x", "y", "score")]
            np.testing.assert_allclose(values, [x, y, score], atol=0.006)


def test_progress_counts_frames_with_the_time_to_go(archive, exported):
    (archive / "broken.mp4").unlink()
    done = batch(archive, exported, "--json-progress")
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {line["stage"] for line in lines} == {"frames"}
    counts = [line["done"] for line in lines]
    assert counts == sorted(counts) and counts[-1] == 65
    assert all(line["total"] == 65 for line in lines)
    assert lines[-1]["eta_s"] == 0 and "FPS" in lines[-1]["note"]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["limit"] in {"decoder", "network", "storage"}


def test_poses_of_a_long_video_become_columns_on_the_way():
    rows = RowCollector("v.mp4", LSP14)
    for number in range(1300):
        rows.add(number, FrameRecord(number / 30, "", [pose(0, 7)] if number % 2 else []))
        assert len(rows._frames) < 600
    table = rows.make_table()
    assert table["frame"].to_pylist() == list(range(1, 1300, 2))
    assert len(rows.times) == 1300 and table == rows.make_table()


def test_what_is_done_is_skipped_and_what_changed_is_done_again(archive, exported):
    batch(archive, exported)
    (archive / "broken.mp4").unlink()
    again = json.loads(batch(archive, exported).stdout.splitlines()[-1])
    assert (again["done"], again["skipped"], again["failed"]) == (0, 2, {})
    assert not Path("out/failed.json").exists()
    make_video(archive / "b.mp4", 30, exported)
    changed = json.loads(batch(archive, exported).stdout.splitlines()[-1])
    assert (changed["done"], changed["skipped"], changed["frames"]) == (1, 1, 30)


def test_a_source_of_the_same_name_does_not_replace_a_result(archive, exported, tmp_path):
    assert batch(archive / "a.mp4", exported).exit_code == 0
    before = Path("out/a.mp4.parquet").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(archive / "b.mp4", other / "a.mp4")
    assert batch(other, exported).exit_code == 0
    assert Path("out/a.mp4.parquet").read_bytes() == before
    both = {read_metadata(p.read_bytes())["source"] for p in Path("out").glob("*.parquet")}
    assert both == {str(archive / "a.mp4"), str(other / "a.mp4")}


def test_an_archive_that_grows_by_a_video_of_the_same_name_does_nothing_twice(archive, exported):
    (archive / "broken.mp4").unlink()
    batch(archive, exported)
    (archive / "later").mkdir()
    make_video(archive / "later" / "a.mp4", 12, exported)
    again = json.loads(batch(archive, exported).stdout.splitlines()[-1])
    assert (again["done"], again["skipped"], again["frames"]) == (1, 2, 12)
    sources = [read_metadata(p.read_bytes())["source"] for p in Path("out").glob("*.parquet")]
    assert len(sources) == len(set(sources)) == 3


def test_an_archive_that_moved_is_not_done_again(archive, exported):
    (archive / "broken.mp4").unlink()
    batch(archive, exported)
    again = json.loads(batch(archive.rename("moved"), exported).stdout.splitlines()[-1])
    assert (again["done"], again["skipped"]) == (0, 2)


def test_a_long_name_is_shortened(archive, exported):
    (archive / "a.mp4").rename(archive / f"{'n' * 240}.mp4")
    assert json.loads(batch(archive, exported).stdout.splitlines()[-1])["done"] == 2


def test_images_that_cannot_be_read_are_said_and_cost_no_others(
    archive, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr("okdhp_edge.batch.plan.MAX_IMAGES_PER_SEGMENT", 3)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        cv2.imwrite(str(images / f"{i}.png"), np.full((96, 128, 3), 90, np.uint8))
    (images / "3.png").write_bytes(b"broken")  # alone in its segment
    done = batch(images, exported)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 0, done.stderr
    assert (summary["done"], summary["frames"], summary["video_s"]) == (1, 3, 0)
    assert "left out" in done.stderr
    for i in range(3):
        (images / f"{i}.png").write_bytes(b"broken too")
    shutil.rmtree("out")
    failed = batch(images, exported)
    assert failed.exit_code == 3 and "none of the 4 images" in failed.stderr


def test_segments_that_cannot_be_made_are_said(archive, exported):
    done = batch(archive / "a.mp4", exported, "--stride", 2, "--segment-seconds", 10)
    assert "--segment-seconds has no effect with --stride" in done.stderr


def test_another_model_or_a_foreign_file_is_one_line(archive, exported):
    batch(archive, exported)
    other = batch(archive, exported, "--stride", 2)
    assert other.exit_code == 1 and "results of another model or other options" in other.stderr
    Path("out/a.mp4.parquet").write_text("foreign")
    foreign = batch(archive, exported)
    assert foreign.exit_code == 1 and "is not a result" in foreign.stderr


def test_a_folder_of_images_is_one_table(archive, exported, tmp_path):
    images = tmp_path / "images"
    run("run", "--source", archive / "b.mp4", "--model", exported, "--backend", "onnxruntime",
        "--precision", "fp32", "--no-window", "--save", images)  # fmt: skip
    if not images.is_dir():
        images.mkdir()
        for i in range(3):
            cv2.imwrite(str(images / f"{i}.png"), np.full((96, 128, 3), 90, np.uint8))
    found = find_sources([str(images)])
    assert [s.name for s in found.sources] == ["images"]
    assert len(found.sources[0].images) == len(list(images.iterdir()))


def test_a_killed_driver_continues_where_it_was(archive, exported):
    """SIGKILL at a random moment; then the same command ends what was begun."""
    words = [sys.executable, "-m", "okdhp_edge", "batch", str(archive), "--out", "out", "--model",
             str(exported), "--backend", "onnxruntime", "--precision", "fp32", "--workers", "1",
             "--segment-seconds", "10"]  # fmt: skip
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(Path().glob("out/.parts/*/*/*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for file in Path("out").glob("*.parquet"):
        pq.read_table(file)  # whole
    done = batch(archive, exported, "--segment-seconds", 10)
    assert done.exit_code == 3
    for name, frames in (("a", 40), ("b", 25)):
        table = pq.read_table(f"out/{name}.mp4.parquet")
        numbers = table["frame"].to_pylist()
        assert len(numbers) == len(set(numbers))
        assert read_metadata(Path(f"out/{name}.mp4.parquet").read_bytes())["frames"] == frames


@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_kill_between_segments_costs_no_frame_and_gives_none_twice(tmp_path, monkeypatch, victim):
    """A video in three segments; one process is ended by SIGKILL once the first is done."""
    monkeypatch.chdir(tmp_path)
    write_photo_video(Path("long.mp4"), np.arange(120) / 4)
    words = ["batch", "long.mp4", "--out", "out", "--model", "lite", "--backend", "onnxruntime",
             "--workers", "1", "--threads", "1", "--segment-seconds", "10"]  # fmt: skip
    whole = run(*words)
    assert whole.exit_code == 0, whole.stderr
    expected = pq.read_table("out/long.mp4.parquet")
    assert set(expected["frame"].to_pylist()) == set(range(120))
    assert set(expected["person"].to_pylist()) == {0}
    shutil.rmtree("out")

    driver = subprocess.Popen(
        [sys.executable, "-m", "okdhp_edge", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while driver.poll() is None and not list(Path("out").rglob("*.source")):
        time.sleep(0.005)
    assert driver.poll() is None
    if victim == "worker":
        for child in psutil.Process(driver.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        output, errors = driver.communicate(timeout=120)
        assert driver.returncode == 0, errors
        assert json.loads(output.splitlines()[-1])["failed"] == {}
    else:
        driver.kill()
        driver.communicate()
        again = run(*words)
        assert again.exit_code == 0, again.stderr
    assert pq.read_table("out/long.mp4.parquet").equals(expected)


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


def pose(x: float, identity: int) -> Pose:
    xy = np.full((14, 2), x, np.float32) + np.linspace(0, 40, 28).reshape(14, 2)
    return Pose(LSP14, xy.astype(np.float32), np.full(14, 0.9, np.float32), identity)


def make_part(segment: Segment, times: list[float], people, numbers=None) -> bytes:
    records = [FrameRecord(t, "", people(t)) for t in times]
    table = make_table("v.mp4", list(enumerate(records)), LSP14)
    return to_parquet(table, {"times": times, "numbers": numbers or list(range(len(times)))})


def join_whole(segments, parts):
    frames = sum(
        join.count_own_frames(segment, read_metadata(part))
        for segment, part in zip(segments, parts, strict=True)
    )
    return pa.concat_tables(join.join_parts(segments, iter(parts), has_ids=True)), frames


def test_ids_stay_whole_across_a_cut_and_each_frame_comes_once():
    source = BatchSource("v.mp4", "v")
    first, second = Segment(source, 0, 0.0, 5.0), Segment(source, 1, 5.0, None)
    # Two people; the second segment numbers them the other way round, and a third comes in.
    early = [i / 10 for i in range(50)]
    late = [round(5 - OVERLAP_S + i / 10, 4) for i in range(40)]
    parts = [
        make_part(first, early, lambda t: [pose(0, 0), pose(200, 1)]),
        make_part(second, late, lambda t: [pose(200, 0), pose(0, 1)]
                  + ([pose(500, 2)] if t > 6 else [])),
    ]  # fmt: skip
    table, frames = join_whole([first, second], parts)
    rows = table.to_pylist()
    assert frames == 50 + 20
    assert sorted({r["frame"] for r in rows}) == list(range(70))
    for row in rows:
        expected = {0: 0, 200: 1, 500: 2}[round(row["box_x"] / 100) * 100]
        assert row["person"] == expected


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
        part = Storage(options.out).read(get_part_name(options, segment))
        tables.append(pq.read_table(io.BytesIO(part)))
    assert tables[0].num_rows > 30
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize(
    ("asked", "cores", "expected"),
    [
        ((None, None, None), 4, (3, 1, 1)),
        ((None, None, 20.0), 4, (4, 1, 1)),
        ((None, 2, None), 4, (2, 2, 2)),
        ((2, None, None), 4, (2, 2, 2)),
        ((1, None, None), 4, (1, None, 4)),
        ((1, 1, None), 4, (1, 1, 1)),
        ((8, None, None), 4, (8, 1, 1)),
    ],
)
def test_cores_are_shared_among_no_more_workers_than_there_is_work(asked, cores, expected):
    sources = [BatchSource("a.mp4", "a"), BatchSource("f", "f", ("i.jpg",) * 501)]
    assert plan_workers(sources, *asked, cores) == expected


def test_segments_cover_a_video_once():
    source = BatchSource("v.mp4", "v")
    segments = plan_segments(source, 100.0, 30.0)
    assert [s.index for s in segments] == [0, 1, 2, 3]
    for a, b in itertools.pairwise(segments):
        assert a.end == b.start and b.begin == b.start - OVERLAP_S
    assert segments[0].begin == 0 and segments[-1].end is None
    assert len(plan_segments(source, 0.0, 30.0)) == len(plan_segments(source, 100.0, None)) == 1
    many = plan_segments(BatchSource("d", "d", tuple(map(str, range(1200)))), 0, None)
    assert [(s.start, s.end) for s in many] == [(0, 500), (500, 1000), (1000, 1200)]
    every_third = plan_segments(many[0].source, 0, None, stride=3)
    assert [(s.start, s.end) for s in every_third] == [(0, 498), (498, 996), (996, 1200)]


def test_people_of_different_images_are_never_one():
    source = BatchSource("d", "d", tuple(map(str, range(6))))
    segments = [Segment(source, 0, 0, 3), Segment(source, 1, 3, 6)]
    parts = [
        make_part(s, [s.start, s.start + 2], lambda t: [pose(0, int(t))], [s.start, s.start + 2])
        for s in segments
    ]
    table, frames = join_whole(segments, parts)
    assert frames == 4
    assert table["person"].to_pylist() == [0, 1, 2, 3]
    assert table["frame"].to_pylist() == [0, 2, 3, 5]


def test_sources_come_from_folders_globs_and_lists(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/y.MKV", "c/1.jpg", "c/2.png", "d.txt", "c/readme.md"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"1")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a/x.mp4\n\n{tmp_path}/c\n")
    found = find_sources([str(tmp_path / "list.txt"), str(tmp_path / "b" / "*")])
    assert [s.name for s in found.sources] == ["a__x.mp4", "b__x.mp4", "y.MKV", "c"]
    assert found.skipped == {".md": [f"{tmp_path}/c/readme.md"]}
    with pytest.raises(SourceError, match="does not exist"):
        find_sources([str(tmp_path / "gone")])
    with pytest.raises(SourceError, match="no video and no image"):
        find_sources([str(tmp_path / "c" / "readme.md")])
    with pytest.raises(SourceError, match=r"no file matches .*\*\.mov"):
        find_sources([str(tmp_path / "a" / "x.mp4"), str(tmp_path / "a" / "*.mov")])
    with pytest.raises(SourceError, match="cannot be reached"):
        find_sources(["nowhere://bucket/x.mp4"])


def test_a_name_with_brackets_is_a_file_and_no_pattern(tmp_path):
    video = tmp_path / "talk [dQw4w9WgXcQ].mp4"
    video.write_bytes(b"1")
    assert [s.url for s in find_sources([str(video)]).sources] == [str(video)]


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


def test_a_fingerprint_changes_with_an_image_of_the_same_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    source = BatchSource(str(tmp_path), "f", (str(tmp_path / "a.jpg"),))
    before = compute_fingerprint(source)
    (tmp_path / "a.jpg").write_bytes(b"two")
    assert compute_fingerprint(source) != before


def test_a_fingerprint_changes_with_the_file(tmp_path):
    file = tmp_path / "v.mp4"
    file.write_bytes(bytes(3 << 20))
    source = BatchSource(str(file), "v")
    first = compute_fingerprint(source)
    assert compute_fingerprint(source) == first
    content = bytearray(3 << 20)
    content[(3 << 20) // 2] = 1
    file.write_bytes(content)
    assert compute_fingerprint(source) != first


@pytest.mark.parametrize("place", ["local", "memory"])
def test_results_go_to_any_file_system(tmp_path, place):
    storage = Storage(str(tmp_path / "o") if place == "local" else f"memory://{tmp_path.name}")
    storage.write("a/b.parquet", b"12")
    assert storage.exists("a/b.parquet") and storage.read("a/b.parquet") == b"12"
    assert storage.list("a") == ["b.parquet"] and storage.list("gone") == ()
    storage.remove("a")
    assert not storage.exists("a/b.parquet")


def test_what_cannot_be_reached_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="cannot be reached"):
        Storage("nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Storage(str(tmp_path / "file")).write("a.parquet", b"")


def test_a_store_that_cannot_be_written_ends_the_batch_and_not_each_source(
    exported, tmp_path, monkeypatch
):
    video = make_video(tmp_path / "v.mp4", 5, exported)
    (segment,) = plan_segments(BatchSource(str(video), "v"), 0.0, None)
    options = make_options(exported, tmp_path)

    def refuse(self, name, content):
        raise OutputError("no space left", "free some")

    monkeypatch.setattr(Storage, "write", refuse)
    with pytest.raises(OutputError, match="no space left"):
        process_segment(options, segment)


def test_an_error_that_is_not_foreseen_costs_its_source_alone(exported, tmp_path, monkeypatch):
    video = make_video(tmp_path / "v.mp4", 5, exported)
    (segment,) = plan_segments(BatchSource(str(video), "v"), 0.0, None)
    monkeypatch.setattr(worker, "open_segment", lambda *_: 1 / 0)
    result = process_segment(make_options(exported, tmp_path), segment)
    assert "v.mp4: ZeroDivisionError: division by zero" in result.error


class _Plain(MemoryFileSystem):
    """A file system on which an upload appears before it is complete, as SFTP is."""

    protocol = "plain"
    store, pseudo_dirs, broken = {}, [""], False

    def put_file(self, lpath, rpath, **options):
        if self.broken:
            self.pipe_file(rpath, b"ha")
            raise OSError("connection lost")
        super().put_file(lpath, rpath, **options)


def test_an_upload_that_breaks_off_leaves_what_was_there(monkeypatch):
    fsspec.register_implementation("plain", _Plain, clobber=True)
    storage = Storage("plain://out")
    storage.write("a.parquet", b"first")
    storage.write("a.parquet", b"second")
    monkeypatch.setattr(_Plain, "broken", True)
    with pytest.raises(OutputError, match="connection lost"):
        storage.write("a.parquet", b"third")
    assert storage.read("a.parquet") == b"second"


def test_two_batches_do_not_write_one_folder(archive, exported):
    with Storage("out").lock():
        done = batch(archive, exported)
    assert done.exit_code == 1
    assert "out is being written by another process" in done.stderr


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_text("")

    def refuse(self, path, detail=True, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    with pytest.raises(SourceError, match="cannot be read .Permission denied"):
        find_sources([str(tmp_path)])


def test_progress_names_the_rate_of_each_worker(tmp_path):
    notes = []
    progress = BatchProgress(lambda *parts: notes.append(parts), 100, tmp_path)
    progress.update()
    (tmp_path / "1").write_text("30")
    (tmp_path / "2").write_text("20")
    progress.update()
    assert notes[0][:3] == ("frames", 0, 100) and notes[1][:3] == ("frames", 50, 100)
    assert re.fullmatch(r"\d+ FPS \(\d+ \+ \d+ by worker\)", notes[1][3])


def test_people_many_needs_a_detector(archive, exported):
    done = batch(archive, exported, "--people", "many")
    assert done.exit_code == 1 and "--detector" in done.stderr


@pytest.mark.slow
def test_ray_does_the_same_work(archive, exported):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install okdhp-edge[cluster]")
    (archive / "broken.mp4").unlink()
    done = batch(archive, exported, "--cluster", "local")
    assert done.exit_code == 0, done.stderr
    assert read_metadata(Path("out/a.mp4.parquet").read_bytes())["frames"] == 40
    # The tiny model finds nobody in the drawn videos, the shipped one somebody in a photo.
    Path("photos").mkdir()
    shutil.copy(REPOSITORY / "docs" / "person.jpg", "photos")
    done = run("batch", "photos", "--out", "poses", "--model", "lite", "--cluster", "local",
               "--workers", 1)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert pq.read_table("poses/photos.parquet").num_rows > 0


@pytest.mark.slow
def test_a_killed_ray_node_costs_the_segments_in_its_hands(archive, exported):
    """Two nodes of one worker each, one of which is ended by SIGKILL once results arrive."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install okdhp-edge[cluster]")
    from ray.cluster_utils import Cluster

    (archive / "broken.mp4").unlink()
    for index in range(10):
        shutil.copy(archive / "a.mp4", archive / f"a{index}.mp4")
    command = [sys.executable, "-m", "okdhp_edge", "batch", archive, "--model", exported,
               "--backend", "onnxruntime", "--precision", "fp32", "--json-progress"]  # fmt: skip
    command = [str(word) for word in command]
    subprocess.run([*command, "--out", "whole", "--workers", "1"], check=True, capture_output=True)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        doomed, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        driver = subprocess.Popen(
            [*command, "--out", "out", "--cluster", cluster.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while driver.poll() is None and not list(Path("out").rglob("*.parquet")):
            time.sleep(0.02)
        assert driver.poll() is None, driver.communicate()
        cluster.remove_node(doomed, allow_graceful=False)
        output, errors = driver.communicate(timeout=180)
    finally:
        cluster.shutdown()
    assert driver.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["done"] == 12
    names = sorted(path.name for path in Path("whole").glob("*.parquet"))
    assert len(names) == 12
    for name in names:
        assert pq.read_table(f"out/{name}").equals(pq.read_table(f"whole/{name}")), name
        whole = read_metadata(Path(f"whole/{name}").read_bytes())
        assert read_metadata(Path(f"out/{name}").read_bytes())["frames"] == whole["frames"]


@pytest.mark.parametrize("library", ["duckdb", "polars", "pandas"])
def test_the_result_is_read_as_the_page_shows(tmp_path, monkeypatch, library):
    """Of 30 frames the knee is bent in 15."""
    pytest.importorskip(library, reason=f"needs {library}: pip install okdhp-edge[test]")
    monkeypatch.chdir(tmp_path)
    hip, knee, ankle = (LSP14.joints.index(f"left_{joint}") for joint in ("hip", "knee", "ankle"))

    def person(bent: bool) -> Pose:
        xy = np.zeros((14, 2), np.float32)
        xy[hip], xy[knee], xy[ankle] = (0, 0), (0, 10), (9, 5) if bent else (1, 20)
        return Pose(LSP14, xy, np.full(14, 0.9, np.float32))

    frames = [(i, FrameRecord(i / 30, "", [person(i % 2 == 0)])) for i in range(30)]
    Path("poses").mkdir()
    Path("poses/v.parquet").write_bytes(to_parquet(make_table("v.mp4", frames, LSP14), {}))
    page = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
    if library == "duckdb":
        import duckdb

        (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
        assert duckdb.sql(query).fetchall() == [("v.mp4", 0.5)]
        return
    codes = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if library in c]
    printed = []
    exec(codes[0], {"print": printed.append})  # noqa: S102
    assert "v.mp4" in str(printed[0]) and "0.5" in str(printed[0])


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_each_frame_of_a_video_is_in_one_segment(exported, tmp_path, container):
    path = make_long_video(tmp_path / f"long.{container}", exported)
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


def test_hidden_files_of_a_folder_are_no_sources(tmp_path):
    for name in ("clip.mp4", "._clip.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert [s.url for s in find_sources([str(tmp_path)]).sources] == [str(tmp_path / "clip.mp4")]


def write_video(path, times, images):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, _ = images[0].shape
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        for seconds, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_video_whose_last_frame_stands_still_is_whole_in_segments(exported, tmp_path):
    """As in recordings of screens: parts of it have no frame of their own."""
    path = tmp_path / "slides.mp4"
    times = [*np.arange(0, 10, 0.1), 59.9]
    write_video(path, times, [np.full((48, 64, 3), 90, np.uint8)] * len(times))
    options = make_options(exported, tmp_path)
    plan = plan_segments(BatchSource(str(path), "slides"), 60.0, 10.0)
    assert len(plan) == 6
    assert [process_segment(options, segment).error for segment in plan] == [""] * 6
