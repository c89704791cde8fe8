import shutil

import pytest

from okdhp_edge.card import read_card, sha256_of
from okdhp_edge.errors import DataError, GateError, ModelError
from okdhp_edge.quantize import stage
from okdhp_edge.quantize.stage import PROFILES, QuantizeOptions, quantize
from tests.helpers.tiny_models import DATA


def test_every_profile_is_measured_beside_its_parent(quantized, exported):
    assert {p.name for p in quantized.iterdir() if p.is_dir()} == set(PROFILES)
    for profile in PROFILES:
        card = read_card(quantized / profile)
        assert (card.profile, card.precision) == (profile, "int8")
        assert card.parent_sha256 == sha256_of(exported / "model.onnx")
        assert card.metrics[0].parent_value == read_card(exported).metrics[0].value
        assert card.calibration.samples == 96


def test_the_list_that_was_used_lies_beside_the_artefacts(quantized, exported, tmp_path):
    listing = quantized / "calibration.txt"
    assert len(listing.read_text().split()) == 96
    shutil.copytree(exported, tmp_path / "fp32")
    again = quantize(
        tmp_path / "fp32",
        QuantizeOptions(data=DATA, calibration=listing, max_drop=100, profiles=["onnxruntime"]),
    )
    first, second = (read_card(f / "onnxruntime") for f in (quantized, again))
    assert first.calibration == second.calibration
    assert first.files == second.files  # same list, same file


def test_the_gate_refuses_with_both_numbers_and_leaves_nothing(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "fp32")
    real = stage._measure

    def worse(folder, card, val, metric):
        found = real(folder, card, val, metric)
        loss = 1.5 if card.precision == "int8" else 0.0
        return found.model_copy(update={"value": found.value - loss})

    monkeypatch.setattr(stage, "_measure", worse)
    with pytest.raises(GateError, match=r"points below float .* \(limit 1\)"):
        quantize(tmp_path / "fp32", QuantizeOptions(data=DATA, max_drop=1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["fp32"]


def test_too_few_crops_are_refused(exported, tmp_path):
    listing = tmp_path / "few.txt"
    listing.write_text("# three\nsynthetic-1\nsynthetic-2\nsynthetic-3\n")
    with pytest.raises(DataError, match="only 3 samples to calibrate on"):
        quantize(exported, QuantizeOptions(data=DATA, calibration=listing))


def test_an_unknown_profile_is_named(exported):
    with pytest.raises(ModelError, match="unknown profile 'rknn'"):
        quantize(exported, QuantizeOptions(data=DATA, profiles=["rknn"]))


def test_a_tampered_export_is_not_quantized(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "fp32")
    with (tmp_path / "fp32" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="sha256"):
        quantize(tmp_path / "fp32", QuantizeOptions(data=DATA))
