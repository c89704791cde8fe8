"""A camera on the network that disconnects, talks rubbish and comes back."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run.sources import camera
from okdhp_edge.run.sources.camera import (
    CameraSettings,
    CameraSource,
    open_gstreamer,
    open_webcam,
)
from okdhp_edge.run.sources.network import open_network_camera


class _Camera:
    """MJPEG over HTTP; `script` says what each connection gives: frames, rubbish or nothing."""

    def __init__(self, script):
        self.connections = 0
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                what = script[min(outer.connections, len(script) - 1)]
                outer.connections += 1
                if what == "refuse":
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
                self.end_headers()
                for _ in range(what if isinstance(what, int) else 30):
                    body = jpeg if isinstance(what, int) else b"\x00rubbish" * 40
                    head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + body + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.005)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://user:secret@127.0.0.1:{self.server.server_port}/stream.mjpg"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_camera_that_goes_and_talks_rubbish_is_brought_back():
    with _Camera([20, "refuse", "rubbish", 20, 20]) as served:
        source = open_network_camera(served.url)
        frames = [source.read() for _ in range(30)]
        source.close()
    assert all(f.image.shape == (48, 64, 3) for f in frames)
    assert [f.number for f in frames] == list(range(30))
    assert source.facts["reconnects"] >= 1
    assert source.live
    assert source.facts["granted"]["width"] == 64
    seconds = [f.seconds for f in frames]
    assert seconds == sorted(seconds) and seconds[0] == 0


def test_a_password_is_not_shown():
    with _Camera([20]) as served:
        source = open_network_camera(served.url)
        source.close()
    assert "secret" not in source.name
    assert source.name.startswith("http://127.0.0.1")


def test_a_camera_that_stays_away_ends_the_run_with_an_error(monkeypatch):
    with _Camera([20, "refuse"]) as served:
        source = open_network_camera(served.url)
        source._patience_s = 3.0
        with pytest.raises(SourceError, match="did not recover within 3 s"):
            for _ in range(40):
                source.read()
        source.close()
    assert served.connections >= 3


def test_waiting_for_a_camera_can_be_called_off():
    with _Camera([20, "refuse"]) as served:
        source = open_network_camera(served.url)
        threading.Timer(0.5, source.stop).start()
        started = time.monotonic()
        while source.read() is not None:
            pass
        assert time.monotonic() - started < 10
        source.close()


class _Capture:
    """What OpenCV gives for a device: its settings are wishes, in order."""

    def __init__(self):
        self.asked = []

    def isOpened(self):  # noqa: N802
        return True

    def set(self, what, value):
        self.asked.append((what, value))

    def get(self, what):
        answers = {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
                   cv2.CAP_PROP_FPS: 30.0,
                   cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV"))}  # fmt: skip
        return answers.get(what, 0.0)

    def read(self):
        return False, None

    def release(self):
        pass


def test_a_webcam_is_asked_for_compressed_frames_before_the_size_and_tells_what_it_grants(
    monkeypatch,
):
    capture = _Capture()
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda *_: capture)
    source = open_webcam(0, CameraSettings((1280, 720), 60.0))
    asked = [what for what, _ in capture.asked]
    assert asked.index(cv2.CAP_PROP_FOURCC) < asked.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert (cv2.CAP_PROP_FRAME_HEIGHT, 720) in capture.asked
    assert (cv2.CAP_PROP_FPS, 60.0) in capture.asked
    expected = {"width": 640, "height": 480, "fps": 30.0, "fourcc": "YUYV"}
    assert source.facts["granted"] == expected
    with pytest.raises(SourceError, match="webcam 0 delivers no frames"):
        source.read()


def test_a_decoder_that_throws_is_a_frame_that_did_not_come(monkeypatch):
    class Throwing(_Capture):
        reads = 0

        def read(self):
            self.reads += 1
            if self.reads == 2:
                raise cv2.error("broken stream")
            return True, np.zeros((4, 4, 3), np.uint8)

    source = CameraSource("c", Throwing, lambda: "look")
    assert source.read().number == 0
    assert source.read().number == 1
    assert source.facts["reconnects"] == 1


def test_gstreamer_is_asked_of_opencv_or_the_way_round_is_told():
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match=r"without GStreamer; pipe it in: gst-launch-1.0 .*stdin"):
        open_gstreamer("videotestsrc")


class _Answers(BaseHTTPRequestHandler):
    status = 401

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "rejects this user and password"), (404, "has no such path")]
)
def test_a_camera_that_refuses_says_so(monkeypatch, status, remedy):
    monkeypatch.setattr(_Answers, "status", status)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(SourceError, match=remedy):
            open_network_camera(f"http://u:p@127.0.0.1:{server.server_port}/live")
    finally:
        server.shutdown()


def test_a_hash_in_a_password_is_explained():
    with pytest.raises(SourceError, match="write # in a user or password as %23"):
        open_network_camera("rtsp://u:p#w@127.0.0.1:9/live")


def test_a_stream_whose_shape_changes_gives_each_frame_in_its_own(real_data):
    """What a camera does whose picture is turned: half of the frames were squashed before."""
    stream = (real_data / "strangers" / "res_aspect.ts").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(stream)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = open_network_camera(f"http://127.0.0.1:{server.server_port}/live")
        shapes = [source.read().image.shape for _ in range(58)]
        source.close()
    finally:
        server.shutdown()
    assert shapes[0] == (360, 640, 3) and shapes[-1] == (640, 360, 3)
    assert 25 <= shapes.count((640, 360, 3)) <= 31
