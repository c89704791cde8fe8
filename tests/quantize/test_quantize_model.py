import shutil
from dataclasses import replace

import onnx
import pytest

from okdhp_edge.artifacts.card import compute_sha256, read_card, write_card
from okdhp_edge.backends.registry import list_profiles
from okdhp_edge.errors import DataError, GateError, ModelError
from okdhp_edge.quantize.graph.onnx_qdq import find_convolutions
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.quantize.search import accuracy_tuner
from tests.helpers.tiny_models import DATA


def test_every_profile_is_measured_beside_its_parent(quantized, exported):
    assert {p.name for p in quantized.iterdir() if p.is_dir()} == set(list_profiles())
    for profile in list_profiles():
        card = read_card(quantized / profile)
        assert (card.profile, card.precision) == (profile, "int8")
        assert card.parent_sha256 == compute_sha256(exported / "model.onnx")
        assert card.metrics[0].parent_value == read_card(exported).metrics[0].value
        assert card.calibration.samples == 96


def test_the_list_that_was_used_lies_beside_the_artifacts(quantized, exported, tmp_path):
    listing = quantized / "onnxruntime" / "calibration.txt"
    assert len(listing.read_text().split()) == 96
    shutil.copytree(exported, tmp_path / "fp32")
    again = quantize(
        tmp_path / "fp32",
        QuantizeOptions(
            data=DATA, calibration=str(listing), max_drop=100, profiles=["onnxruntime"]
        ),
    )
    first, second = (read_card(f / "onnxruntime") for f in (quantized, again))
    assert first.calibration == second.calibration
    assert first.files == second.files  # same list, same file


def test_profiles_that_stay_keep_the_list_that_they_were_made_from(quantized, exported, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported, folder / "fp32")
    shutil.copytree(quantized, folder / "int8")
    names = (quantized / "onnxruntime" / "calibration.txt").read_text().split()
    shorter = tmp_path / "shorter.txt"
    shorter.write_text("\n".join(names[:40]) + "\n")
    quantize(
        folder / "fp32",
        QuantizeOptions(
            data=DATA, calibration=str(shorter), max_drop=100, profiles=["onnxruntime"]
        ),
    )
    for profile, count in (("onnxruntime", 40), ("openvino", len(names))):
        listed = (folder / "int8" / profile / "calibration.txt").read_text().split()
        assert len(listed) == count
        assert read_card(folder / "int8" / profile).calibration.samples == count


def test_the_gate_refuses_with_both_numbers_and_leaves_nothing(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "fp32")
    real = accuracy_tuner.verify

    def worse(folder, runtime, inputs):
        found = real(folder, runtime, inputs)
        return found.model_copy(update={"value": inputs.float_metric - 1.5})

    monkeypatch.setattr(accuracy_tuner, "verify", worse)
    with pytest.raises(GateError, match=r"points below float .* \(limit 1\)"):
        quantize(tmp_path / "fp32", QuantizeOptions(data=DATA, max_drop=1.0, tune=False))
    assert [p.name for p in tmp_path.iterdir()] == ["fp32"]


def test_too_few_crops_are_refused(exported, tmp_path):
    listing = tmp_path / "few.txt"
    listing.write_text("# three\nsynthetic-1\nsynthetic-2\nsynthetic-3\n")
    with pytest.raises(DataError, match="only 3 samples to calibrate on"):
        quantize(exported, QuantizeOptions(data=DATA, calibration=str(listing)))


def test_an_unknown_profile_is_named(exported):
    with pytest.raises(ModelError, match="unknown profile 'rknn'"):
        quantize(exported, QuantizeOptions(data=DATA, profiles=["rknn"]))


def test_a_tampered_export_is_not_quantized(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "fp32")
    with (tmp_path / "fp32" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="sha256"):
        quantize(tmp_path / "fp32", QuantizeOptions(data=DATA))


def test_layers_kept_by_hand_have_float_weights(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "fp32")
    first, second = find_convolutions(exported / "model.onnx")[:2]
    out = quantize(
        tmp_path / "fp32",
        QuantizeOptions(
            data=DATA, max_drop=100, profiles=["onnxruntime"], keep_float=f"^{first}$|^{second}$"
        ),
    )
    assert read_card(out / "onnxruntime").kept_float == (first, second)
    graph = onnx.load(str(out / "onnxruntime" / "model.onnx")).graph
    floats = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    weights = {n.name: n.input[1] for n in graph.node if n.op_type == "Conv"}
    assert weights[first] in floats and weights[second] in floats
    assert sum(name in floats for name in weights.values()) == 3  # and the head


@pytest.mark.parametrize(("pattern", "what"), [("(", "regular expression"), ("nowhere", "no node")])
def test_a_pattern_that_names_nothing_is_refused(exported, pattern, what):
    with pytest.raises(ModelError, match=what):
        quantize(exported, QuantizeOptions(data=DATA, keep_float=pattern))


def test_a_damaged_artifact_of_another_profile_is_no_obstacle_and_a_name_counts_once(
    exported, tmp_path
):
    shutil.copytree(exported, tmp_path / "fp32")
    options = QuantizeOptions(data=DATA, max_drop=100, profiles=["generic"])
    out = quantize(tmp_path / "fp32", options)
    (out / "generic" / "card.json").write_text("{}")
    quantize(tmp_path / "fp32", replace(options, profiles=["onnxruntime", "onnxruntime"]))
    assert read_card(out / "onnxruntime") and not (out / "generic").exists()


def test_an_unknown_calibrator_is_named(exported):
    with pytest.raises(ModelError, match="unknown calibrator 'magic'"):
        quantize(exported, QuantizeOptions(data=DATA, calibrator="magic"))


def test_other_profiles_of_the_same_export_stay_and_those_of_another_go(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "fp32")

    def made(name):
        options = QuantizeOptions(data=DATA, max_drop=100, profiles=[name])
        return quantize(tmp_path / "fp32", options)

    out = made("onnxruntime")
    before = read_card(out / "onnxruntime")
    made("generic")
    assert read_card(out / "onnxruntime") == before and read_card(out / "generic")
    stale = before.model_copy(update={"float_sha256": "another"})
    write_card(stale, out / "onnxruntime")
    made("generic")
    assert not (out / "onnxruntime").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [({"profiles": ["generic", "rknn"]}, "rknn"), ({"calibrator": "magic"}, "magic"),
     ({"keep_float": "("}, "invalid regular expression")],
)  # fmt: skip
def test_options_that_name_nothing_are_refused_before_anything_is_exported(option, says):
    with pytest.raises(ModelError, match=says):
        QuantizeOptions(data=DATA, **option)
