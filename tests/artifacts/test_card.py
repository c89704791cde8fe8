import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from okdhp_edge.artifacts.card import (
    InputSpec,
    compute_sha256,
    find_model_folder,
    make_metadata,
    read_card,
    write_card,
)
from okdhp_edge.errors import ModelError, OutputError
from okdhp_edge.system.files import lock_folder, stage_folder, write_text
from tests.helpers.fakes import fake_card


def _model(folder):
    (folder / "model.onnx").write_bytes(b"weights")
    card = fake_card(files={"model.onnx": compute_sha256(folder / "model.onnx")})
    write_card(card, folder)
    return card


def test_a_card_comes_back_as_it_was_written(tmp_path):
    assert _model(tmp_path) == read_card(tmp_path)


def test_a_changed_file_is_noticed(tmp_path):
    _model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(ModelError, match="sha256 does not match"):
        read_card(tmp_path)


def test_a_missing_file_is_noticed(tmp_path):
    _model(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelError, match="is missing"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"surprise": 1}, {"input": {"width": 64}}, {"precision": "int4"}],
    ids=["unknown key", "missing field", "bad value"],
)
def test_a_card_that_is_not_ours_is_refused(tmp_path, change):
    _model(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match="not a valid model card"):
        read_card(tmp_path)


def test_an_onnx_without_card_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no card\.json next to"):
        find_model_folder(tmp_path / "model.onnx")


def test_the_onnx_metadata_repeat_the_card():
    facts = make_metadata(fake_card())
    assert json.loads(facts["okdhp_edge.input"])["width"] == 64
    assert json.loads(facts["okdhp_edge.skeleton"])["joints"][0] == "right_ankle"


def test_the_border_is_what_the_network_sees_as_zero():
    assert fake_card().input.border == (127, 127, 127)


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with stage_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(RuntimeError), stage_folder(target) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    with (
        pytest.raises(OutputError, match="No space left on device.*free space"),
        stage_folder(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("1")
    real = Path.rename

    def refuse(path, to):
        if to == target and not path.name.endswith("-old"):
            raise OSError("no space")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError), stage_folder(target) as folder:
        (folder / "new").write_text("2")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (target / "old").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 10**6}, {"batch": 0}, {"files": {}},
        {"model_file": "../model.onnx"}, {"model_file": "/etc/passwd"},
        {"files": {"../secret": "0" * 64}}, {"files": {"a/b": "0" * 64}},
    ],
)  # fmt: skip
def test_a_card_that_leads_elsewhere_or_asks_for_too_much_is_refused(tmp_path, change):
    _model(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError) as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [10**9, 8192])
def test_a_card_of_absurd_size_is_refused(tmp_path, side):
    _model(tmp_path)
    path = tmp_path / "card.json"
    content = json.loads(path.read_text())
    content["input"]["width"] = side
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="input.width"):
        read_card(tmp_path)


def test_other_users_can_read_what_was_staged(tmp_path):
    with stage_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        for place in (folder, folder / "sub"):
            (place / "weights").write_bytes(b"w")
            (place / "weights").chmod(0o600)
    mask = os.umask(0)
    os.umask(mask)
    for path in (tmp_path / "out").rglob("*"):
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert path.stat().st_mode & 0o777 == wanted


def test_content_is_on_the_disk_before_a_name_points_to_it(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append("sync") or sync(fd))
    monkeypatch.setattr(Path, "replace", lambda a, b: events.append("rename") or rename(a, b))
    write_text(tmp_path / "x.json", "{}")
    assert events == ["sync", "rename", "sync"]


def test_a_folder_is_one_processes_at_a_time(tmp_path):
    with lock_folder(tmp_path / "m"):
        code = (
            "from pathlib import Path; from okdhp_edge.system.files import lock_folder\n"
            f"with lock_folder(Path({str(tmp_path / 'm')!r})): print('in')"
        )
        run = [sys.executable, "-c", code]
        second = subprocess.run(run, capture_output=True, text=True, check=False)
        assert "is being written by another process" in second.stderr
    third = subprocess.run(run, capture_output=True, text=True, check=False)
    assert third.stdout.strip() == "in"


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    code = (
        "import os; from pathlib import Path; from okdhp_edge.system.files import lock_folder\n"
        f"with lock_folder(Path({str(tmp_path / 'm')!r})): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with lock_folder(tmp_path / "m"):
        pass


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", [float("nan"), 0, 0]), ("std", [float("inf"), 1, 1]), ("mean", [1e300, 0, 0]),
     ("box_padding", float("inf"))],
)  # fmt: skip
def test_an_input_of_no_numbers_is_refused(exported, key, value):
    spec = read_card(exported).input.model_dump()
    with pytest.raises(ValidationError):
        InputSpec.model_validate(spec | {key: value})
