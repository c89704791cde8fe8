"""Compiled models that are kept: equal results, and nothing broken is ever used."""

import numpy as np
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends import compiled_models
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.errors import BackendError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "okdhp-edge" / "openvino"


@pytest.fixture
def heatmaps(quantized):
    """The output of the tiny model, loaded anew at each call."""
    folder = quantized / "openvino"
    card = read_card(folder)
    shape = (3, card.input.height, card.input.width, 3)
    crops = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)

    def infer(threads=1):
        with open_backend("openvino", BackendConfig(folder, card, "int8", threads)) as backend:
            return backend.infer_all(crops)

    return infer


def _count_compilations(monkeypatch):
    counted = []
    real = compiled_models.ov.Core.compile_model

    def compile_model(self, model, *words):
        counted.append(model)
        return real(self, model, *words)

    monkeypatch.setattr(compiled_models.ov.Core, "compile_model", compile_model)
    return counted


def test_the_second_load_compiles_nothing_and_gives_the_same(heatmaps, cache, monkeypatch):
    first = heatmaps()
    assert len(list(cache.glob("*.blob"))) == 2  # for one crop, and for two of the three
    compiled = _count_compilations(monkeypatch)
    np.testing.assert_array_equal(heatmaps(), first)
    assert not compiled
    heatmaps(threads=2)
    assert len(compiled) == 2


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: bytes(len(b)),
     lambda b: b[:1000] + bytes(200) + b[1200:], lambda b: b + b"x"],
    ids=["empty", "cut", "zeros", "changed", "longer"],
)  # fmt: skip
def test_a_damaged_file_is_compiled_again_and_replaced(heatmaps, cache, monkeypatch, damage):
    first = heatmaps()
    whole = {file: file.read_bytes() for file in cache.glob("*.blob")}
    for file, content in whole.items():
        file.write_bytes(damage(content))
    compiled = _count_compilations(monkeypatch)
    np.testing.assert_array_equal(heatmaps(), first)
    assert len(compiled) == 2
    heatmaps()
    assert len(compiled) == 2


def test_a_cache_that_cannot_be_written_is_no_error(heatmaps, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.isfinite(heatmaps()).all()


def test_old_files_make_room(heatmaps, cache, monkeypatch):
    monkeypatch.setattr(compiled_models, "_MAX_CACHED_FILES", 1)
    heatmaps()
    assert len(list(cache.glob("*.blob"))) == 1


def test_a_refusal_of_several_crops_is_one_line(quantized, cache, monkeypatch):
    real = compiled_models.ov.Core.compile_model

    def compile_model(self, model, *words):
        if model.inputs[0].partial_shape[0].get_length() > 1:
            raise RuntimeError("Check 'ranks fit' failed")
        return real(self, model, *words)

    monkeypatch.setattr(compiled_models.ov.Core, "compile_model", compile_model)
    folder = quantized / "openvino"
    card = read_card(folder)
    crops = np.zeros((2, card.input.height, card.input.width, 3), np.uint8)
    with (
        open_backend("openvino", BackendConfig(folder, card, "int8", 1)) as backend,
        pytest.raises(BackendError, match=r"openvino cannot run model.xml .*ranks fit"),
    ):
        backend.infer_all(crops)
