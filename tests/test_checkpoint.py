import pytest
import torch

from okdhp_edge import checkpoint
from okdhp_edge.errors import ModelError, OutputError


def test_facts_and_weights_come_back(trained):
    facts = checkpoint.read_facts(trained)
    assert facts.recipe.name == "tiny"
    assert trained.with_suffix(".json").is_file()


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_checkpoint_that_cannot_be_used_says_why(trained, tmp_path, damage):
    path = tmp_path / "x.safetensors"
    if damage == "truncated":
        path.write_bytes(trained.read_bytes()[:100])
    if damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    expected = {"missing": "does not exist", "truncated": "damaged", "foreign": "not a checkpoint"}
    with pytest.raises(ModelError, match=expected[damage]):
        checkpoint.read_facts(path)


def test_a_failed_write_leaves_the_old_checkpoint(trained, tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save(path, checkpoint.read_facts(trained), torch.nn.Linear(1, 1), None)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]
