"""What commands say to people and to logs."""

import json
import os
import subprocess
import sys

import pytest

from okdhp_edge.cli import console


def test_a_log_gets_a_line_when_a_stage_ends_and_one_a_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress() as report:
        for second in range(200):
            now[0] = float(second)
            report("epoch 1", second, 150, "40 img/s") if second <= 150 else None
            report("frames", second, 0, "")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("epoch")] == [
        "epoch 1 60/150 40 img/s", "epoch 1 120/150 40 img/s", "epoch 1 150/150 40 img/s",
    ]  # fmt: skip
    assert [line for line in lines if line.startswith("frames")] == [
        "frames 60/?", "frames 120/?", "frames 180/?",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
@pytest.mark.parametrize("wanted", [False, True])
def test_the_json_line_is_for_programs_and_on_a_terminal_for_who_asks(wanted):
    import pty

    ours, theirs = pty.openpty()
    words = ["--json-summary"] * wanted + ["data", "check", "--data", "synthetic:4"]
    command = [sys.executable, "-m", "okdhp_edge", *words]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    try:
        said = os.read(ours, 1 << 16).decode()
    except OSError:  # nothing was written before the other end was closed
        said = ""
    os.close(ours)
    assert done.returncode == 0
    assert bool(said.strip()) == wanted
    if wanted:
        assert json.loads(said)["samples"] == 4
