"""What commands say to people and to logs."""

import errno
import json
import os
import subprocess
import sys

import pytest
import typer

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


def _command(*words, **options):
    command = [sys.executable, "-m", "okdhp_edge", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", [("data", "check", "--data", "synthetic:4"), ("--help",)])
def test_a_full_disk_behind_stdout_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = _command(*words, stdout=full)
    assert done.returncode == 1
    assert "No space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_wants_no_result():
    code = "import os; os.close(1); from okdhp_edge.cli.main import app; app(['data', 'check'])"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                          check=False)  # fmt: skip
    assert "Traceback" not in done.stderr


def test_a_working_folder_that_is_gone_is_one_line(tmp_path):
    code = (
        "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['okdhp-edge', 'data', 'check']; "
        "from okdhp_edge.cli.main import main; main()"
    )
    (tmp_path / "gone").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "gone",
                          stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: No such file or directory; check stdout and the work")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0,
                    reason="rights are taken away from root alone: run as root")  # fmt: skip
@pytest.mark.parametrize(
    "words",
    [("data", "show", "--data", "synthetic:4"), ("bench", "--model", "lite", "--out", "b"),
     ("run", "--source", "synthetic:5", "--model", "lite", "--report", "r.html"),
     ("run", "--source", "synthetic:5", "--model", "lite", "--save", "v.mp4"),
     ("eval", "--data", "synthetic:9", "--split", "all", "--model", "lite", "--record", "r.json"),
     ("data", "relabel", "--data", "synthetic:9", "--model", "lite"),
     ("train", "--data", "synthetic:20", "--epochs", "1", "--workers", "0")],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_a_folder_without_rights_is_one_line(tmp_path, words):
    tmp_path.chmod(0o555)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner",
            "--inh-caps=-dac_override,-dac_read_search,-fowner"]  # fmt: skip
    command = [*drop, sys.executable, "-m", "okdhp_edge", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert done.returncode == 1, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: cannot write")]
    assert len(errors) == 1
    assert not list(tmp_path.iterdir())


def test_shared_memory_without_rights_is_one_line(capsys):
    @console.handle_errors
    def make_semaphore():
        raise PermissionError(errno.EACCES, "Permission denied")  # as multiprocessing.Lock() does

    with pytest.raises(typer.Exit):
        make_semaphore()
    assert "Permission denied; worker processes need shared memory" in capsys.readouterr().err
