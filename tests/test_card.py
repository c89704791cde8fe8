import json
from pathlib import Path

import pytest

from okdhp_edge.card import (
    metadata_of,
    model_folder,
    read_card,
    sha256_of,
    staged_folder,
    write_card,
)
from okdhp_edge.errors import ModelError, OutputError
from tests.helpers.fakes import fake_card


def _model(folder):
    (folder / "model.onnx").write_bytes(b"weights")
    card = fake_card(files={"model.onnx": sha256_of(folder / "model.onnx")})
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
    with pytest.raises(ModelError, match=r"no card\.json beside it"):
        model_folder(tmp_path / "model.onnx")


def test_the_onnx_metadata_repeat_the_card():
    facts = metadata_of(fake_card())
    assert json.loads(facts["okdhp_edge.input"])["width"] == 64
    assert json.loads(facts["okdhp_edge.skeleton"])["joints"][0] == "right_ankle"


def test_the_border_is_what_the_network_sees_as_zero():
    assert fake_card().input.border == (127, 127, 127)


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with staged_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(RuntimeError), staged_folder(target) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    with (
        pytest.raises(OutputError, match="No space left on device.*free space"),
        staged_folder(tmp_path / "out"),
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
    with pytest.raises(OutputError), staged_folder(target) as folder:
        (folder / "new").write_text("2")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (target / "old").is_file()
