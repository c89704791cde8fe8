"""What killed processes leave is cleared by the next one."""

import os
import subprocess
import sys

import pytest

from okdhp_edge.system.files import staged_folder

KILLED_WHILE_WRITING = """
import os
from pathlib import Path
from okdhp_edge.system.files import staged_folder
with staged_folder(Path({target!r})) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""
KILLED_BETWEEN_RENAMES = """
import os
from pathlib import Path
from okdhp_edge.system.files import staged_folder
rename = Path.rename
def once(self, target):
    rename(self, target)
    os.kill(os.getpid(), 9)
with staged_folder(Path({target!r})) as folder:
    (folder / "new").write_text("new")
    Path.rename = once
"""


def _killed(code, target):
    run = [sys.executable, "-c", code.format(target=str(target))]
    assert subprocess.run(run, check=False).returncode == -9


@pytest.mark.parametrize("code", [KILLED_WHILE_WRITING, KILLED_BETWEEN_RENAMES])
def test_the_old_result_is_there_and_nothing_beside_it(tmp_path, code):
    target = tmp_path / "int8"
    target.mkdir()
    (target / "old").write_text("old")
    _killed(code, target)
    assert len(list(tmp_path.iterdir())) > 1 or not target.exists()
    with pytest.raises(RuntimeError), staged_folder(target):
        # What the killed one left is put right before anything else is done.
        assert (target / "old").read_text() == "old"
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["int8"]
    assert [p.name for p in target.iterdir()] == ["old"]


def test_a_folder_of_a_process_that_lives_is_left_alone(tmp_path):
    theirs = tmp_path / f".int8-{os.getppid()}-abc"
    other = tmp_path / ".int8-of-mine"
    for folder in (theirs, other):
        folder.mkdir()
    with staged_folder(tmp_path / "int8") as folder:
        (folder / "x").write_text("x")
    assert theirs.is_dir() and other.is_dir()
