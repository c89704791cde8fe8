import json
import os
import shutil
from pathlib import Path

import pytest

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import compute_sha256
from okdhp_edge.errors import ModelError


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _touch(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (1e9 - age, 1e9 - age))


def test_the_newest_checkpoint_is_the_default(workplace):
    with pytest.raises(ModelError, match="okdhp-edge train"):
        model_store.find_default_checkpoint()
    _touch(workplace / "models/a/best.safetensors", age=10)
    _touch(workplace / "models/b/best.safetensors", age=99)
    assert model_store.find_default_checkpoint().parent.name == "a"


def test_what_was_written_last_is_the_default_though_the_clock_was_set_back(workplace):
    _touch(workplace / "models/a/fp32/card.json", age=10)
    _touch(workplace / "models/b/fp32/card.json", age=99)
    assert model_store.find_default_model().name == "a"
    model_store.mark_newest(model_store.MODELS / "b/fp32/card.json")
    assert model_store.find_default_model().name == "b"
    times = [path.stat().st_mtime for path in workplace.glob("models/*/fp32/card.json")]
    assert max(times) - min(times) < 1


def test_without_an_export_the_shipped_model_runs(workplace):
    assert model_store.find_default_model().name == "lite"
    _touch(workplace / "models/mine/fp32/card.json", age=5)
    assert model_store.find_default_model().name == "mine"


def test_a_detector_is_not_what_runs_by_default(workplace, int8_detector):
    shutil.copytree(int8_detector.parent / "fp32", workplace / "models/people/fp32")
    assert model_store.find_default_model().name == "lite"


def test_artefacts_are_found_by_backend_and_precision(quantized):
    model = quantized.parent
    assert model_store.find_artifact(model, "openvino", "int8") == model / "int8/openvino"
    assert model_store.find_artifact(model, "openvino", "bf16") == model / "fp32"
    assert model_store.list_precisions(model, "openvino") == ["int8", "fp32"]
    assert model_store.list_precisions(model, "pytorch") == ["fp32"]
    with pytest.raises(ModelError, match="export --int8"):
        model_store.find_artifact(model, "pytorch", "int8")


def test_an_artefact_named_directly_is_what_its_card_says(quantized, workplace):
    moved = shutil.copytree(quantized / "openvino", workplace / "pose")
    assert model_store.list_precisions(moved, "openvino") == ["int8"]
    assert not model_store.list_precisions(moved, "onnxruntime")  # which reads no IR
    assert model_store.find_artifact(moved / "model.xml", "openvino", "int8") == moved
    with pytest.raises(ModelError, match="is int8, not fp32"):
        model_store.find_artifact(moved, "openvino", "fp32")
    with pytest.raises(ModelError, match="is fp32, not int8"):
        model_store.find_artifact(quantized.parent / "fp32", "openvino", "int8")


def test_int8_of_an_older_export_is_not_run(quantized, workplace):
    # A short path: of a long message the middle is left out.
    model = shutil.copytree(quantized.parent, Path("m"))
    fp32 = model / "fp32"
    with (fp32 / "model.onnx").open("ab") as file:
        file.write(b"trained further")
    card = json.loads((fp32 / "card.json").read_text())
    card["files"]["model.onnx"] = compute_sha256(fp32 / "model.onnx")
    (fp32 / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="quantized from an older export"):
        model_store.find_artifact(model, "openvino", "int8")
    assert model_store.find_artifact(model, "openvino", "fp32") == fp32
    shutil.rmtree(fp32)  # as on a device
    assert model_store.find_artifact(model, "openvino", "int8") == model / "int8/openvino"


def test_models_are_found_by_path_or_name(workplace):
    _touch(workplace / "models/m/fp32/card.json", age=0)
    assert model_store.resolve_model("m") == model_store.MODELS / "m"
    assert model_store.resolve_model(str(workplace / "models/m")) == workplace / "models/m"
    with pytest.raises(ModelError, match="no model 'nobody'"):
        model_store.resolve_model("nobody")


def test_a_folder_of_a_models_name_without_a_model_does_not_hide_the_shipped_one(workplace):
    (workplace / "person").mkdir()
    (workplace / "person" / "notes.txt").write_text("")
    assert model_store.resolve_model("person") == model_store.find_shipped_folder("person")
    (workplace / "mine").mkdir()
    assert model_store.resolve_model("mine").name == "mine"  # whoever reads it says what it lacks


def test_a_card_in_a_models_own_folder_is_found_there(workplace):
    _touch(workplace / "models/m/card.json", age=0)
    assert model_store.find_default_model() == model_store.MODELS / "m"


def test_a_copy_of_a_shipped_model_is_no_export(workplace):
    shipped = model_store.find_shipped_folder("lite")
    shutil.copytree(shipped / "int8", workplace / "models" / "lite" / "int8")
    assert model_store.find_default_model() == shipped


def test_an_own_model_of_a_shipped_name_is_the_newest_export(workplace, quantized):
    shutil.copytree(quantized, workplace / "models" / "lite" / "int8")
    assert model_store.find_default_model() == model_store.MODELS / "lite"
