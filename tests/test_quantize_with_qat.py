"""Training with quantization as the last trial."""

import shutil
from dataclasses import replace

import pytest

from okdhp_edge.artifacts.card import compute_sha256, read_card
from okdhp_edge.errors import DataError, GateError, ModelError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions
from okdhp_edge.quantize.search import accuracy_tuner
from okdhp_edge.quantize.search.plan import LEARNED_CALIBRATOR
from okdhp_edge.quantize_with_qat import make_qat_recipe, quantize_with_qat
from okdhp_edge.recipe.checkpoint import read_info
from tests.helpers.made_data import coco_file
from tests.helpers.tiny_models import DATA, tiny_recipe


@pytest.fixture
def copied(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "fp32")
    return tmp_path / "fp32"


def _options(**changes):
    return QuantizeOptions(data=DATA, max_drop=1.0, tune=False, **changes)


def _judged(monkeypatch, holds):
    """Artifacts of these calibrators pass the gate, all others fail it."""
    real = accuracy_tuner.verify

    def judge(folder, runtime, material):
        found = real(folder, runtime, material)
        good = read_card(folder).calibration.method in holds
        return found.model_copy(update={"value": material.float_metric - (0.0 if good else 9.0)})

    monkeypatch.setattr(accuracy_tuner, "verify", judge)


def test_what_ptq_cannot_save_is_trained_and_held_against_the_float_export(
    copied, trained, monkeypatch
):
    _judged(monkeypatch, {LEARNED_CALIBRATOR})
    out = quantize_with_qat(copied, trained, _options(profiles=["generic"]), epochs=1)
    card = read_card(out / "generic")
    assert out == copied.parent / "int8" and card.calibration.method == LEARNED_CALIBRATOR
    assert card.float_sha256 == compute_sha256(copied / "model.onnx") != card.parent_sha256
    trained_again = copied.parent / "qat-generic" / "fp32" / "model.onnx"
    assert card.parent_sha256 == compute_sha256(trained_again)


def test_where_ptq_holds_nothing_is_trained(copied, trained, monkeypatch):
    _judged(monkeypatch, {"moving-average"})
    out = quantize_with_qat(
        copied, trained, _options(profiles=["onnxruntime", "tensorrt"]), epochs=1
    )
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"onnxruntime", "tensorrt"}
    assert not list(copied.parent.glob("qat-*"))


def test_what_training_cannot_save_either_fails_the_gate(copied, trained, monkeypatch):
    _judged(monkeypatch, set())
    with pytest.raises(GateError, match="points below float"):
        quantize_with_qat(copied, trained, _options(profiles=["generic"]), epochs=1)
    assert not (copied.parent / "int8").exists()


def test_the_short_run_starts_from_the_checkpoint_at_a_tenth_of_the_rate(trained, exported):
    recipe = tiny_recipe(train_split="all", metric="ap")
    card = read_card(exported)
    made = make_qat_recipe(recipe, trained, card, "tensorrt", 3)
    assert made.optimizer.lr == pytest.approx(recipe.optimizer.lr / 10)
    assert (made.optimizer.epochs, made.start) == (3, str(trained))
    assert made.quantization.profile == "tensorrt"
    # Nothing of the gate's persons, and by what the gate measures.
    assert (made.train_split, made.metric) == ("train", card.metrics[0].metric)


@pytest.mark.parametrize("method", ["fpd", "okdhp"])
def test_the_short_run_needs_no_trained_teacher(trained, exported, method):
    table = {"method": method, "teacher": {"path": "gone.onnx"}}
    recipe = tiny_recipe(distillation=table)
    made = make_qat_recipe(recipe, trained, read_card(exported), "tensorrt", 3).distillation
    assert made.method == ("supervised" if method == "fpd" else "okdhp")
    assert getattr(made, "teacher", None) is None


def test_data_of_other_joints_cannot_train_for_the_gate(copied, trained, tmp_path):
    other = f"coco:{coco_file(tmp_path)}@all"
    with pytest.raises(ModelError, match="--qat needs data with the model's"):
        quantize_with_qat(copied, trained, QuantizeOptions(data=other), epochs=1)


def test_the_gates_persons_are_not_trained_on(copied, trained):
    options = replace(_options(), data=f"{DATA}@all")
    with pytest.raises(DataError, match="of the images that its accuracy is measured on"):
        quantize_with_qat(copied, trained, options, epochs=1)


def test_the_branch_that_was_exported_is_the_one_that_is_trained(trained, tmp_path, monkeypatch):
    _judged(monkeypatch, {LEARNED_CALIBRATOR})
    other = 1 - read_info(trained).best_branch
    fp32 = export_branch(trained, ExportOptions(
        out=tmp_path, branch=str(other), batch=None, box_padding=1.7,
    ))  # fmt: skip
    out = quantize_with_qat(fp32, trained, _options(profiles=["generic"]), epochs=1)
    again = read_card(tmp_path / "qat-generic" / "fp32")
    assert (again.branch, again.batch) == (other, None)
    assert again.input == read_card(fp32).input and again.input.box_padding == 1.7
    assert read_card(out / "generic").branch == other
