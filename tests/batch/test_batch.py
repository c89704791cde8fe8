"""An archive to Parquet: nothing lost, nothing twice, whatever ends."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")
import pyarrow.parquet as pq

from okdhp_edge.batch.sources import find_sources
from okdhp_edge.batch.storage import Storage, find_file_system
from okdhp_edge.batch.table import read_metadata
from okdhp_edge.errors import SourceError
from tests.conftest import REPOSITORY
from tests.helpers.archives import make_video, run, write_photo_video


def batch(archive, exported, *more):
    return run("batch", archive, "--out", "out", "--model", exported, "--backend", "onnxruntime",
               "--precision", "fp32", "--workers", 1, *more)  # fmt: skip


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


def test_what_is_done_is_skipped_and_what_changed_is_done_again(archive, exported):
    batch(archive, exported)
    (archive / "broken.mp4").unlink()
    again = json.loads(batch(archive, exported).stdout.splitlines()[-1])
    assert (again["done"], again["skipped"], again["failed"]) == (0, 2, {})
    assert not Path("out/failed.json").exists()
    make_video(archive / "b.mp4", 30, exported)
    done = batch(archive, exported)
    assert "b.mp4: it changed since its result was made" in done.stderr.replace("\n", " ")
    changed = json.loads(done.stdout.splitlines()[-1])
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
    while time.monotonic() < deadline and not list(Path().glob("out/*.parquet")):
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
    while driver.poll() is None and not list(Path("out").rglob(".parts/*/*/*.parquet")):
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


def test_sigterm_stops_a_batch_within_its_segments_and_leaves_nothing(tmp_path, monkeypatch):
    """As a service manager stops it; copies of remote videos lie in the same folder."""
    monkeypatch.chdir(tmp_path)
    Path("temporary").mkdir()
    write_photo_video(Path("long.mp4"), np.arange(3000) / 4)
    shutil.copy("long.mp4", "other.mp4")
    words = ["batch", "long.mp4", "other.mp4", "--out", "out", "--model", "lite", "--backend",
             "onnxruntime", "--workers", "2", "--threads", "1"]  # fmt: skip
    driver = subprocess.Popen(
        [sys.executable, "-m", "okdhp_edge", *words], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
    )  # fmt: skip
    while driver.poll() is None and not list(Path("temporary").glob("okdhp-edge-batch-*/*")):
        time.sleep(0.005)
    driver.terminate()
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert not list(Path("temporary").glob("*okdhp*"))
    assert not list(Path("out").glob("*.parquet"))


def test_two_batches_do_not_write_one_folder(archive, exported):
    with Storage("out").lock():
        done = batch(archive, exported)
    assert done.exit_code == 1
    assert "out is being written by another process" in done.stderr


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


def test_a_folder_with_results_keeps_its_runtime(archive, exported):
    batch(archive, exported)
    words = ("batch", archive, "--out", "out", "--model", exported, "--workers", 1)
    again = run(*words)
    assert again.exit_code == 3, again.stderr  # one source fails each time
    assert "continuing in onnxruntime, fp32" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["skipped"] == 2


def test_names_with_double_colons_are_files(tmp_path):
    (tmp_path / "cam::1.txt").write_text("here")
    fs, path = find_file_system(str(tmp_path / "cam::1.txt"), SourceError)
    assert fs.cat_file(path) == b"here"
