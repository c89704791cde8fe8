"""The page's server, over real sockets."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.request

import cv2
import numpy as np
import pytest

from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import OutputError
from okdhp_edge.pose.result import MIN_JOINT_SCORE
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.web.hub import Hub, _RecentFrame, _summarize
from okdhp_edge.run.web.server import WebServer, parse_address
from tests.helpers.fakes import FakeBackend, ScriptedSource
from tests.helpers.running import frame_result, run_on


def _ask(server, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=5)
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body)
    connection.request("GET" if body is None else "POST", path, body, headers)
    return connection.getresponse()


@pytest.fixture
def hub():
    return Hub(Controls(choices=(RuntimeChoice("fake", "int8"),)), ["cam"])


@pytest.fixture
def server(hub):
    with WebServer(hub, parse_address("0")) as served:
        yield served


def _show(hub, number, shade=50):
    drawn = np.full((96, 128, 3), shade, np.uint8)
    hub.channels[0].write(frame_result(number, image=np.zeros((96, 128, 3), np.uint8)), drawn)


@contextlib.contextmanager
def _watching(server, place=0):
    stream = urllib.request.urlopen(
        f"http://127.0.0.1:{server.address.port}/video/{place}", timeout=5
    )
    try:
        yield stream
    finally:
        stream.close()


def _jpeg(stream):
    length = 0
    while (line := stream.readline().strip()) or not length:
        if line.lower().startswith(b"content-length"):
            length = int(line.split(b":")[1])
    return cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)


def _wait_for(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(server):
    answer = _ask(server, "/")
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"EventSource" in answer.read()


def test_a_viewer_gets_the_newest_picture_and_counts_while_there(hub, server):
    with _watching(server) as stream:
        _wait_for(lambda: hub.viewers == 1)
        _show(hub, 1, 50)
        assert abs(int(_jpeg(stream).mean()) - 50) <= 2
        time.sleep(0.1)
        _show(hub, 2, 200)
        assert abs(int(_jpeg(stream).mean()) - 200) <= 2
    _wait_for(lambda: hub.viewers == 0)


def test_nothing_is_drawn_or_encoded_while_nobody_watches(hub, server):
    assert not hub.channels[0].wants_image
    _show(hub, 1)
    assert hub.channels[0].encode_latest(-1) is None


def test_a_new_viewer_is_not_shown_what_an_earlier_one_saw(hub):
    hub.viewers = 1
    drawn = np.zeros((48, 64, 3), np.uint8)
    hub.channels[0].write(frame_result(1, image=drawn.copy()), drawn)
    assert hub.channels[0].encode_latest(-1) is not None
    hub.viewers = 0
    hub.channels[0].write(frame_result(2, image=drawn), drawn)
    hub.viewers = 1
    assert hub.channels[0].encode_latest(-1) is None


def test_a_large_picture_is_made_smaller_once_for_all(hub):
    hub.viewers = 2
    drawn = np.zeros((1920, 1080, 3), np.uint8)
    hub.channels[0].write(frame_result(3, image=drawn.copy()), drawn)
    first, second = hub.channels[0].encode_latest(-1), hub.channels[0].encode_latest(-1)
    assert first[1] is second[1]
    assert cv2.imdecode(np.frombuffer(first[1], np.uint8), 1).shape[:2] == (720, 405)
    assert hub.channels[0].encode_latest(3) is None


def test_a_viewer_who_does_not_read_holds_nobody_up(hub, server):
    """Stalled: a few kilobytes of receive buffer, and never a read."""
    stalled = []
    for _ in range(2):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.connect(("127.0.0.1", server.address.port))
        one.sendall(b"GET /video/0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stalled.append(one)
    _wait_for(lambda: hub.viewers == 2)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    slowest = 0.0
    with _watching(server) as stream:
        for number in range(30):
            started = time.perf_counter()
            hub.channels[0].write(frame_result(number, image=noise[:1]), noise)
            slowest = max(slowest, time.perf_counter() - started)
            time.sleep(0.02)
        assert _jpeg(stream) is not None
    assert slowest < 0.05
    for one in stalled:
        one.close()


def test_events_tell_the_numbers(hub, server):
    answer = _ask(server, "/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    numbers = json.loads(answer.readline().removeprefix(b"data: "))
    assert numbers["sources"][0]["name"] == "cam"
    assert numbers["controls"]["choices"] == [["fake", "int8"]]


def test_controls_act(hub, server):
    assert _ask(server, "/control", {"paused": True}).status == 200
    assert hub.controls.paused
    told = json.loads(_ask(server, "/control", {"threshold": 0.6, "paused": False}).read())
    assert (told["threshold"], told["paused"]) == (0.6, False)
    assert hub.controls.threshold == 0.6
    backend = FakeBackend()
    hub.controls.open_choice = lambda _: backend
    switch = {"switch": {"backend": "fake", "precision": "int8"}}
    assert _ask(server, "/control", switch).status == 200
    _wait_for(lambda: hub.controls.take_loaded() is backend)
    assert hub.controls.current == RuntimeChoice("fake", "int8")


@pytest.mark.parametrize(
    "wishes",
    [{}, {"volume": 3}, {"threshold": 7}, {"threshold": "high"}, {"paused": "yes"}, [1], "x",
     {"switch": {"backend": "fake"}}, {"switch": {"backend": "fake", "precision": "fp64"}}],
)  # fmt: skip
def test_nonsense_is_refused_and_changes_nothing(hub, server, wishes):
    answer = _ask(server, "/control", wishes)
    assert answer.status == 400
    assert json.loads(answer.read())["error"]
    assert (hub.controls.paused, hub.controls.threshold) == (False, MIN_JOINT_SCORE)


def test_pages_of_others_cannot_steer(hub, server):
    sent = _ask(server, "/control", {"paused": True}, **{"Content-Type": "text/plain"})
    assert sent.status == 415
    assert _ask(server, "/events", Host="evil.example").status == 400
    assert not hub.controls.paused


def test_unknown_places_are_not_found(server):
    assert _ask(server, "/video/7").status == 404
    assert _ask(server, "/secret").status == 404


def test_metrics_are_prometheus_text(hub, server):
    from prometheus_client.parser import text_string_to_metric_families

    now = time.perf_counter_ns()
    for number in range(10):
        seen = frame_result(number, captured_ns=now)._replace(
            done_ns=now + 4_000_000, stages={"infer": 3_000_000}
        )
        hub.channels[0].write(seen, None)
        time.sleep(0.01)
    answer = _ask(server, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    assert {"okdhp_edge_fps", "okdhp_edge_dropped", "okdhp_edge_captured"} <= families.keys()
    ages = {s.labels["quantile"]: s.value for s in families["okdhp_edge_frame_age_seconds"].samples}
    assert ages == {"0.5": pytest.approx(0.004), "0.95": pytest.approx(0.004)}
    stage = families["okdhp_edge_stage_seconds"].samples[0]
    assert stage.labels == {"source": "cam", "stage": "infer"}
    assert stage.value == pytest.approx(0.003)
    assert 20 < families["okdhp_edge_fps"].samples[0].value < 110


def test_health_is_lost_when_frames_stop_and_not_when_somebody_pauses(hub, server, monkeypatch):
    assert _ask(server, "/healthz").status == 200
    _show(hub, 1)
    assert _ask(server, "/healthz").status == 200
    monkeypatch.setattr("okdhp_edge.run.web.hub._MAX_HEALTHY_AGE_S", 0.0)
    assert _ask(server, "/healthz").status == 503
    hub.controls.paused = True
    assert _ask(server, "/healthz").status == 200


def test_other_hosts_need_the_token(hub):
    address = parse_address("0.0.0.0:0")
    assert len(address.token) >= 16
    with WebServer(hub, address) as server:
        assert address.token in server.address.url
        assert _ask(server, "/").status == 401
        assert _ask(server, "/healthz").status == 200
        right = {"Authorization": f"Bearer {address.token}"}
        assert _ask(server, "/metrics", **right).status == 200
        page = _ask(server, f"/?token={address.token}")
        # Out of the address bar, where a screen shot or a log would keep it.
        assert (page.status, page.headers["Location"]) == (303, "./")
        cookie = page.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        for path in ("/", "/metrics"):
            assert _ask(server, path, Cookie=cookie.split(";")[0]).status == 200


def test_a_token_of_any_letters_opens_the_page_and_each_run_has_its_own_cookie(hub):
    cookies = []
    for token in ("пароль &#+", "another"):
        with WebServer(hub, parse_address("0", token)) as server:
            page = _ask(server, "/" + server.address.url.rpartition("/")[2])
            assert page.status == 303
            cookies.append(page.headers["Set-Cookie"].split(";")[0])
            assert _ask(server, "/", Cookie="; ".join(cookies)).status == 200
    assert len({cookie.split("=")[0] for cookie in cookies}) == 2


def test_wrong_tokens_wait_and_right_ones_never(hub):
    with WebServer(hub, parse_address("0", "right")) as server:
        wrong, right = ({"Authorization": f"Bearer {token}"} for token in ("wrong", "right"))
        for _ in range(3):
            assert _ask(server, "/metrics", **wrong).status in (401, 429)
            # Behind a proxy all clients have one address: nobody's guesses lock the others out.
            assert _ask(server, "/metrics", **right).status == 200
        assert _ask(server, "/metrics", **wrong).status == 429
        assert _ask(server, "/healthz").status == 200


@pytest.mark.parametrize("host", ["x/healthz?", "x/healthz#", "/healthz", "x:1/healthz"])
@pytest.mark.parametrize("path", ["/metrics", "/events", "/", "/video/0"])
def test_the_path_is_never_taken_from_the_host(hub, host, path):
    """starlette 0.40 builds the address out of the Host header, and the path out of that."""
    with WebServer(hub, parse_address("0", "right")) as server:
        assert _ask(server, path, Host=host).status in (400, 401)
        paused = _ask(server, "/control", {"paused": True}, Host=host)
        assert paused.status in (400, 401) and not hub.controls.paused


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-Fetch-Site": "cross-site"}, 403), ({"Origin": "http://evil.example"}, 403),
     ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "same-origin"}, 200), ({}, 200),
     ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200)],
)  # fmt: skip
def test_requests_of_other_sites_are_refused(server, headers, status):
    assert _ask(server, "/metrics", **headers).status == status


def test_a_page_of_the_same_origin_steers(hub, server):
    own = f"localhost:{server.address.port}"
    answer = _ask(server, "/control", {"paused": True}, Host=own, Origin=f"http://{own}")
    assert answer.status == 200 and hub.controls.paused


@pytest.mark.parametrize(
    "text", ['{"threshold": 1%s}' % ("0" * 400), '{"threshold": "\\ud800"}', '{"\\ud800": 1}',
             '{"switch": {"backend": "\\ud800", "precision": "int8"}}', '{"threshold": 1e999}'],
)  # fmt: skip
def test_extreme_values_are_bad_requests(server, text):
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=5)
    connection.request("POST", "/control", text, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 400


def _silent(server, count):
    clients = [socket.socket() for _ in range(count)]
    for client in clients:
        client.connect(("127.0.0.1", server.address.port))
    return clients


def test_silent_clients_beyond_the_limit_make_room_for_those_who_ask(hub, monkeypatch):
    monkeypatch.setattr("okdhp_edge.run.web.server.get_max_connections", lambda: 8)
    with WebServer(hub, parse_address("0")) as server:
        clients = _silent(server, 40)
        for _ in range(5):
            assert _ask(server, "/healthz").status == 200
        # Those who ask stay: a viewer is not closed for a newcomer.
        with _watching(server) as stream:
            _wait_for(lambda: hub.viewers == 1)
            clients += _silent(server, 40)
            _show(hub, 1)
            assert _jpeg(stream) is not None
        for client in clients:
            client.close()


def test_who_asks_nothing_in_time_is_closed(hub, monkeypatch):
    monkeypatch.setattr("okdhp_edge.run.web.connections._REQUEST_TIMEOUT_S", 0.2)
    with WebServer(hub, parse_address("0")) as server:
        (silent,), (half,) = _silent(server, 1), _silent(server, 1)
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        (again,) = _silent(server, 1)
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in again.recv(1000)
        again.sendall(b"G")  # of another request, of which no more comes
        for client in (silent, half, again):
            client.settimeout(3)
            with contextlib.suppress(ConnectionResetError):
                while client.recv(100):
                    pass
        assert _ask(server, "/healthz").status == 200


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("8080", "127.0.0.1", 8080), ("localhost:1", "localhost", 1), ("[::1]:80", "::1", 80),
     ("0.0.0.0:9", "0.0.0.0", 9)],  # noqa: S104
)  # fmt: skip
def test_addresses(text, host, port):
    found = parse_address(text)
    assert (found.host, found.port) == (host, port)
    assert (found.token is None) == (host in ("127.0.0.1", "localhost", "::1"))
    assert parse_address(text, "mine").token == "mine"  # noqa: S105


@pytest.mark.parametrize("text", ["", "host", "host:", "1:2:3", "70000", "a b:1:2"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(OutputError, match="invalid address"):
        parse_address(text)


def test_a_port_in_use_is_one_line(hub, server):
    with pytest.raises(OutputError, match="cannot listen on .*choose another port"):
        WebServer(hub, parse_address(str(server.address.port)))


def test_the_whole_run_is_told_and_can_be_watched():
    """A run with its server: what the page is told agrees with the report."""
    controls = Controls()
    hub = Hub(controls, ["scripted"])
    told = []

    class Source(ScriptedSource):
        def _next(self):
            time.sleep(0.005)
            return super()._next()

    def watch(server):
        with _watching(server) as stream:
            told.extend(_jpeg(stream) for _ in range(3))

    with WebServer(hub, parse_address("0")) as server:
        viewer = threading.Thread(target=watch, args=(server,))
        viewer.start()
        _wait_for(lambda: hub.viewers == 1)
        report = run_on([Source(150)], sinks=hub.channels, controls=controls)[0]
        viewer.join(5)
        summary = hub.get_numbers()["sources"][0]
    assert len(told) == 3 and told[0].shape == (96, 128, 3)
    assert summary["fps"] == pytest.approx(report.fps, rel=0.3)
    assert report.stages["draw"].n == 145


def test_an_empty_token_keeps_nobody_out_and_is_refused():
    for empty in ("", "  "):
        with pytest.raises(OutputError, match="--web-token is empty"):
            parse_address("0.0.0.0:0", empty)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused_before_it_is_read(server, announced):
    """An endless body: without a limit this would never be answered."""
    connection = socket.create_connection(("127.0.0.1", server.address.port), timeout=5)
    head = (
        "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + ("Content-Length: 1000000000" if announced else "Transfer-Encoding: chunked")
        + "\r\n\r\n"
    )
    connection.sendall(head.encode())
    if not announced:
        for _ in range(3):
            connection.sendall(b"400\r\n" + b" " * 0x400 + b"\r\n")
    assert b" 413 " in connection.recv(1000).splitlines()[0]
    connection.close()


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/gone", "/video/9"])
def test_every_answer_tells_browsers_to_be_careful(server, path):
    headers = _ask(server, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    if path == "/":
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_deep_nesting_is_a_bad_request(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=5)
    connection.request("POST", "/control", "[" * 900, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 400


def _summarize_frames(*ages_s):
    """Of frames so many seconds ago."""
    now = time.perf_counter_ns()
    return _summarize([_RecentFrame(now - round(age * 1e9), 10, {}, 3) for age in ages_s])


def test_a_slow_source_has_a_rate_and_one_that_ended_has_none():
    assert _summarize_frames(1.0, 0.5, 0.0)["fps"] == 2
    slow = _summarize_frames(12.0, 2.0)
    assert (slow["fps"], slow["people"]) == (0.1, 3)
    for ages in ((3601.0, 3600.0), (40.0, 30.0), (0.5,), ()):
        assert (_summarize_frames(*ages)["fps"], _summarize_frames(*ages)["people"]) == (0.0, 0)


def test_a_run_that_goes_on_after_a_pause_is_healthy(hub, monkeypatch):
    _show(hub, 1)
    monkeypatch.setattr("okdhp_edge.run.web.hub._MAX_HEALTHY_AGE_S", 0.3)
    hub.set_paused(True)
    time.sleep(0.4)
    hub.set_paused(False)
    assert hub.healthy


def test_a_body_that_never_comes_is_given_up(hub, server, monkeypatch):
    monkeypatch.setattr("okdhp_edge.run.web.server._MAX_BODY_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=10) as client:
        client.sendall(
            b"POST /control HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n"
        )
        assert b" 408 " in client.recv(4096)
