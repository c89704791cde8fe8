"""The entry point."""

import os
import subprocess
import sys
from pathlib import Path

from okdhp_edge.cli.main import expand_home


def test_a_tilde_after_an_equals_sign_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    words = ["run", "--report=~/run.html", "--write=csv:~/x.csv", "--name=~", "a=~/b", "--web"]
    expanded = ["run", f"--report={Path('/home/ada/run.html')}", *words[2:]]
    assert expand_home(words) == expanded


def test_every_commands_output_may_lie_in_the_home_folder(tmp_path):
    command = [sys.executable, "-m", "okdhp_edge", "data", "show", "--data", "synthetic:4"]
    done = subprocess.run(
        [*command, "--out=~/sheet.png"], env=os.environ | {"HOME": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sheet.png").is_file()
