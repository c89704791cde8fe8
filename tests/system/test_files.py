"""What killed processes leave is cleared by the next one."""

import os
import subprocess
import sys
import threading

import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.system.files import (
    MANIFEST,
    add_to_manifest,
    copy_listed,
    create_file,
    lock_folder,
    stage_folder,
    write_text,
)

KILLED_WHILE_WRITING = """
import os
from pathlib import Path
from okdhp_edge.system.files import stage_folder
with stage_folder(Path({target!r})) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""
KILLED_BETWEEN_RENAMES = """
import os
from pathlib import Path
from okdhp_edge.system.files import stage_folder
rename = Path.rename
def once(self, target):
    rename(self, target)
    os.kill(os.getpid(), 9)
with stage_folder(Path({target!r})) as folder:
    (folder / "new").write_text("new")
    Path.rename = once
"""


def test_a_link_is_followed_and_stays_one(tmp_path):
    (tmp_path / "target.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "target.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "target.json").read_text() == "new"


def test_a_pipe_is_written_into_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = threading.Thread(
        target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True
    )
    read: list[str] = []
    reading.start()
    write_text(tmp_path / "pipe", "poses")
    reading.join(10)
    assert read == ["poses"]
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path, "a folder")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(RuntimeError), create_file(tmp_path / "f") as file:
        file.write(b"half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


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
    with pytest.raises(RuntimeError), stage_folder(target):
        # What the killed one left is put right before anything else is done.
        assert (target / "old").read_text() == "old"
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["int8"]
    assert [p.name for p in target.iterdir()] == ["old"]


def test_a_folder_of_a_process_that_lives_is_left_alone(tmp_path):
    theirs = tmp_path / f".int8.okdhp-edge-{os.getppid()}-abc"
    others = [tmp_path / ".int8-of-mine", tmp_path / ".int8-2019-old", tmp_path / ".int8-7-x"]
    for folder in (theirs, *others):
        folder.mkdir()
    with stage_folder(tmp_path / "int8") as folder:
        (folder / "x").write_text("x")
    assert theirs.is_dir() and all(folder.is_dir() for folder in others)


def _write(target, **files):
    with stage_folder(target) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def _read(target):
    return {p.name: p.read_text() for p in target.iterdir() if p.name != MANIFEST}


def test_only_what_is_on_the_list_is_removed(tmp_path):
    target = tmp_path / "int8"
    _write(target, a="1", b="1")
    (target / "mine").write_text("mine")
    (target / "notes").mkdir()
    (target / "notes" / "deep").write_text("mine")
    _write(target, a="2", c="2")
    assert (target / "notes" / "deep").read_text() == "mine"
    (target / "notes" / "deep").unlink()
    (target / "notes").rmdir()
    assert _read(target) == {"a": "2", "c": "2", "mine": "mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["int8"]


def test_what_is_added_later_is_replaced_like_the_rest(tmp_path):
    target = tmp_path / "int8"
    _write(target, a="1")
    (target / "engine").write_text("built of 1")
    (target / "mine").write_text("mine")
    add_to_manifest(target, [target / "engine"])
    _write(target, a="2")
    assert _read(target) == {"a": "2", "mine": "mine"}


def test_only_what_is_on_the_list_is_carried_over(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("kept/a", "kept/deep/b", "other/c", "kept/mine"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text(name)
    listed = [tmp_path / "old" / name for name in ("kept/a", "kept/deep/b", "other/c", "kept/gone")]
    add_to_manifest(tmp_path / "old", listed)
    copy_listed(tmp_path / "old", "kept", tmp_path / "new")
    copied = {p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("*.*")}
    copied |= {p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("?")}
    assert copied == {"kept/a", "kept/deep/b"}


def test_a_file_of_somebody_else_is_not_written_over(tmp_path):
    target = tmp_path / "int8"
    target.mkdir()
    (target / "a").write_text("mine")
    with pytest.raises(OutputError, match=r"int8/a was not written by this program"):
        _write(target, a="new")
    assert _read(target) == {"a": "mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["int8"]


def test_a_link_or_file_in_the_place_is_left_alone(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        with pytest.raises(OutputError, match="not a separate folder"):
            _write(tmp_path / name, a="new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "mine"


LOCKED = """
import sys
from pathlib import Path
from okdhp_edge.system.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("in")
"""


def _lock_in_child(folder, **environment):
    run = [sys.executable, "-c", LOCKED, str(folder)]
    return subprocess.run(run, capture_output=True, text=True, check=False,
                          env=os.environ | environment)  # fmt: skip


def test_two_writers_exclude_each_other_wherever_their_temporary_folders_are(tmp_path):
    with lock_folder(tmp_path / "model"):
        (tmp_path / "tmp").mkdir()
        child = _lock_in_child(tmp_path / "model", TMPDIR=str(tmp_path / "tmp"))
        assert "is being written by another process" in child.stderr
    assert _lock_in_child(tmp_path / "model").stdout == "in\n"
    assert _lock_in_child(tmp_path / "other").stdout == "in\n"


def test_a_link_in_the_place_of_a_lock_is_refused(tmp_path):
    (tmp_path / "precious").write_text("years")
    (tmp_path / ".model.lock").symlink_to("precious")
    with pytest.raises(OutputError, match="is a link"), lock_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "precious").read_text() == "years"
