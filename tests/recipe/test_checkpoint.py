import pytest
import torch

from okdhp_edge.errors import ModelError, OutputError
from okdhp_edge.network.build import build_network
from okdhp_edge.recipe import checkpoint
from tests.helpers.tiny_models import tiny_recipe


def test_facts_and_weights_come_back(trained):
    facts = checkpoint.read_info(trained)
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
        checkpoint.read_info(path)


def test_a_failed_write_leaves_the_old_checkpoint(trained, tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save(path, checkpoint.read_info(trained), torch.nn.Linear(1, 1), None)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_what_is_no_checkpoint_is_not_called_a_damaged_one(tmp_path):
    foreign = tmp_path / "model.onnx"
    foreign.write_bytes(b"theirs")
    with pytest.raises(ModelError, match="not an okdhp-edge checkpoint"):
        checkpoint.read_info(foreign)
    with pytest.raises(ModelError, match="folder without a checkpoint"):
        checkpoint.read_info(tmp_path)


def test_half_precision_weights_do_not_tell_where_the_data_lay(trained, tmp_path):
    facts = checkpoint.read_info(trained)
    fpd = {"method": "fpd", "teacher": {"path": "/home/somebody/teacher.onnx"}}
    recipe = tiny_recipe(distillation=fpd, data="coco:/home/somebody/set.json",
                         corrections="/home/somebody/fixed.json",
                         start="/home/somebody/best.safetensors")  # fmt: skip
    there = facts.model_copy(update={"data": "coco:/home/somebody/set.json", "recipe": recipe})
    full = tmp_path / "full.safetensors"
    net = build_network(facts.recipe.network, len(facts.skeleton.joints), load_encoder=False)
    checkpoint.save(full, there, net)
    checkpoint.save_half(full, tmp_path / "half.safetensors")
    assert checkpoint.read_info(tmp_path / "half.safetensors").data == "coco"
    assert b"somebody" not in (tmp_path / "half.safetensors").read_bytes()


def test_weights_that_are_not_the_networks_are_one_line(trained, tmp_path):
    facts = checkpoint.read_info(trained)
    damaged = tmp_path / "best.safetensors"
    # A name in the header, one letter of it another.
    damaged.write_bytes(trained.read_bytes().replace(b"running_mean", b"runni~g_mean", 1))
    net = build_network(facts.recipe.network, len(facts.skeleton.joints), load_encoder=False)
    with pytest.raises(ModelError, match="do not match the network"):
        checkpoint.load_net(damaged, net)


def test_weights_that_are_no_numbers_are_refused(trained, tmp_path):
    facts = checkpoint.read_info(trained)
    net = build_network(facts.recipe.network, len(facts.skeleton.joints), load_encoder=False)
    checkpoint.load_net(trained, net)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    checkpoint.save(tmp_path / "nan.safetensors", facts, net)
    with pytest.raises(ModelError, match="NaN or infinite weights"):
        checkpoint.load_net(tmp_path / "nan.safetensors", net)
