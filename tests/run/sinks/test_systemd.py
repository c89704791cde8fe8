"""What systemd hears of a run."""

import socket

import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.run.sinks.systemd import Watchdog, WatchdogSink
from tests.helpers.fakes import ScriptedSource
from tests.helpers.running import run_on


@pytest.fixture
def systemd(tmp_path):
    """Its end of the socket, and the environment it gives to a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.setblocking(False)
        yield there, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}


def _heard(there):
    found = []
    while True:
        try:
            found.append(there.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_is_ready_with_the_first_frame_and_alive_often_in_the_time(systemd):
    there, environment = systemd
    watchdog = Watchdog(1, environment)
    assert _heard(there) == []
    heard = []
    for frame in range(70):
        watchdog.mark_frame_done(0, frame / 10)
        heard += _heard(there)
    assert heard == ["READY=1\nWATCHDOG=1", *["WATCHDOG=1"] * (len(heard) - 1)]
    # Of the four seconds before it is given up nearly all are left when frames stop.
    assert len(heard) > 20
    watchdog.end()
    watchdog.end()
    assert _heard(there) == ["STOPPING=1"]


def test_a_source_that_stands_still_lets_the_service_be_given_up(systemd):
    there, environment = systemd
    watchdog = Watchdog(2, environment)
    for second in range(0, 20, 2):
        watchdog.mark_frame_done(0, float(second))
    assert _heard(there) == []
    watchdog.mark_frame_done(1, 20.0)
    assert _heard(there) == ["READY=1\nWATCHDOG=1"]
    for second in range(22, 40, 2):
        watchdog.mark_frame_done(1, float(second))
    assert _heard(there) == []


def test_a_run_that_a_person_pauses_is_alive(systemd):
    there, environment = systemd
    watchdog = Watchdog(1, environment)
    watchdog.mark_paused(0.0)
    assert _heard(there) == []  # not ready yet
    watchdog.mark_frame_done(0, 1.0)
    for second in range(2, 8):
        watchdog.mark_paused(float(second))
    assert _heard(there) == ["READY=1\nWATCHDOG=1", *["WATCHDOG=1"] * 6]


def test_a_run_tells_its_beginning_and_its_end(systemd):
    there, environment = systemd
    run_on([ScriptedSource(5)], sinks=[WatchdogSink(Watchdog(1, environment), 0)])
    assert _heard(there) == ["READY=1\nWATCHDOG=1", "STOPPING=1"]


def test_no_service_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="which systemd sets"):
        Watchdog(1, {})
    with pytest.raises(OutputError, match="cannot be reached"):
        Watchdog(1, {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_systemd_that_goes_away_ends_no_run(systemd, tmp_path):
    there, environment = systemd
    watchdog = Watchdog(1, environment)
    there.close()
    (tmp_path / "notify").unlink()
    watchdog.mark_frame_done(0, 0.0)
    watchdog.end()
