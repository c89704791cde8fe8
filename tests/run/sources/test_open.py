import functools
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run.sources.open import check_source, count_images, open_source
from okdhp_edge.system.redact import redact_address
from tests.helpers.made_data import picture


def _video(path, frames=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), i * 10, np.uint8))
    writer.release()
    return path


def _all(source):
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_a_video_gives_every_frame_with_its_time(tmp_path):
    source = open_source(str(_video(tmp_path / "v.mp4")))
    frames = _all(source)
    assert len(frames) == 12
    assert source.fps == 25
    assert frames[5].seconds == pytest.approx(0.2)
    assert not source.live


def test_a_folder_gives_its_pictures_in_order(tmp_path):
    for name in ("b.png", "a.jpg"):
        picture(tmp_path / name, (30 if name[0] == "a" else 40, 20))
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(str(tmp_path))
    assert [f.image.shape[1] for f in _all(source)] == [30, 40]
    assert not source.continuous


def test_synthetic_frames_are_counted():
    source = open_source("synthetic:7")
    assert len(_all(source)) == 7
    assert not source.live


def test_synthetic_frames_at_a_rate_come_when_they_are_due():
    source = open_source("synthetic:21@100")
    started = time.perf_counter()
    frames = _all(source)
    assert 0.19 < time.perf_counter() - started < 2
    assert source.live and source.fps == 100
    assert len(frames) == 21
    assert (frames[0].image != frames[20].image).any()


def test_passing_over_frames_is_counted_and_ends(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        picture(tmp_path / name)
    for source in (open_source(str(_video(tmp_path / "v.mp4", 4))), open_source(str(tmp_path))):
        assert source.read().number == 0
        assert source.skip() and source.skip()
        assert source.read().number == 3
        assert not source.skip()


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])  # Matroska announces no number of frames
def test_a_video_behind_an_address_is_a_file(tmp_path, name):
    _video(tmp_path / name)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/{name}")
        assert not source.live
        assert len(_all(source)) == 12
        server.shutdown()


def test_pictures_tell_their_names(tmp_path):
    picture(tmp_path / "a.png")
    assert [f.name for f in _all(open_source(str(tmp_path)))] == ["a.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: str(d / "gone.mp4"), "does not exist"),
        (lambda d: str(_text(d / "v.mp4")), "cannot be opened"),
        (lambda d: str(d), "no images in"),
        (lambda _: "webcam:97", "webcam 97 cannot be opened.*--source webcam:1"),
        (lambda _: "/dev/video97", "cannot be opened"),
        (lambda _: "synthetic@0", "invalid frame rate 0"),
        (lambda _: "http://127.0.0.1:9/cam", "http://127.0.0.1:9/cam cannot be opened"),
    ],
    ids=["missing", "no video", "empty folder", "no camera", "no device", "no rate", "no server"],
)
def test_sources_that_cannot_be_opened_say_why(tmp_path, make, message):
    with pytest.raises(SourceError, match=message):
        open_source(make(tmp_path))


def test_a_truncated_picture_is_named(tmp_path):
    _text(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match=r"a\.jpg cannot be decoded"):
        open_source(str(tmp_path / "a.jpg")).read()


def _text(path):
    path.write_bytes(b"this is text, whatever its name says")
    return path


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pw@host/s", "rtsp://host/s"),
        ("http://user:pw@host:80/s", "http://host:80/s"),
        ("rtsp://user:p@ss@host/s", "rtsp://host/s"),
        ("rtsp://user:pa/ss@host/s", "rtsp://host/s"),
        ("rtsp://user@host/s", "rtsp://host/s"),
        ("http://host/s?password=geheim&x=1", "http://host/s"),
        ("http://host/s?x=1&auth_token=abc#t", "http://host/s"),
        ("http://host:8080/a.mp4?pw=abc", "http://host:8080/a.mp4"),
        ("http://host/s#password=abc", "http://host/s"),
        ("rtsp://host:554/user=admin_password=abc_channel=1.sdp", "rtsp://host:554/***"),
        ("rtsp://host/live;p=abc/x", "rtsp://host/***"),
        ("tcp://u:pw@host:9", "tcp://host:9"),
        ("rtsp:/u:pw@host/x", "rtsp://host/x"),
        ("u:pw@host/x", "***@host/x"),
        ("video.mp4", "video.mp4"),
        ("a@b.mp4", "a@b.mp4"),
        ("C:/clips/x.mp4", "C:/clips/x.mp4"),
    ],
)
def test_passwords_stay_out_of_names(address, shown):
    assert redact_address(address) == shown


_SECRET = "5ecret"  # noqa: S105
_SLOTS = (
    "rtsp://u:{}@127.0.0.1:9/x", "http://127.0.0.1:9/a.mp4?pw={}", "tcp://u:{}@127.0.0.1:9",
    "http://127.0.0.1:9/user=admin_password={}_channel=1", "rtsp:/u:{}@127.0.0.1/x",
    "rtsp://127.0.0.1:9/x#password={}", "gst:rtspsrc location=rtsp://u:{}@h user-pw={} ! appsink",
    "http://127.0.0.1:9/x?credentials={}&access={}", "rtmp://127.0.0.1:9/x?p={}&psw={}",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("slot", _SLOTS)
def test_no_secret_of_an_address_is_printed(slot, tmp_path):
    """Through the command line, where FFmpeg's own lines would show it."""
    command = [sys.executable, "-m", "okdhp_edge", "run", "--source", slot.replace("{}", _SECRET),
               "--model", "lite", "--backend", "openvino", "--threads", "1", "--report",
               str(tmp_path / "r.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert _SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["stdin:0x0", "stdin:99999x99999"])
def test_frames_of_no_or_absurd_size_are_refused(text):
    with pytest.raises(SourceError, match="cannot be read; give the frame size"):
        open_source(text)


def test_what_cannot_be_there_is_refused_before_anything_is_opened(tmp_path, monkeypatch):
    for text in ("synthetic:5", "stdin:8x8", "http://camera/stream", str(tmp_path)):
        check_source(text)
    with pytest.raises(SourceError, match=r"gone.mp4 does not exist.*--help"):
        check_source(str(tmp_path / "gone.mp4"))
    monkeypatch.setattr("sys.platform", "linux")
    if not Path("/dev/video77").exists():
        with pytest.raises(SourceError, match="webcam 77 cannot be opened"):
            check_source("webcam:77")


def test_still_images_are_counted_and_a_stream_has_no_number(tmp_path):
    for name in ("a.jpg", "b.PNG", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    image, video = str(tmp_path / "a.jpg"), tmp_path / "video.mp4"
    assert count_images([image]) == 1
    assert count_images([str(tmp_path), image]) == 3
    video.write_bytes(b"")
    for stream in (str(video), "webcam", "synthetic:3", str(tmp_path / "gone.jpg")):
        assert count_images([image, stream]) is None
