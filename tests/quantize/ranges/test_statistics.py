import numpy as np
import pytest

from okdhp_edge.quantize.ranges import statistics as module
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.quantize.ranges.statistics import get_statistics, observe_input_range
from tests.helpers.made_onnx import conv_net


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A net, crops, and a list that grows by one whenever the net is really looked at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8) for _ in range(4)]
    looked = []
    monkeypatch.setattr(module, "observe", lambda *a: looked.append(1) or observe(*a))
    return conv_net(tmp_path / "net.onnx"), crops, looked


def _of(model, crops):
    return get_statistics(model, crops, len(crops), lambda *_: None)


def test_what_comes_from_the_cache_is_what_was_seen(made):
    model, crops, looked = made
    first, second = _of(model, crops), _of(model, crops)
    assert len(looked) == 1 and list(first) == list(second)
    for name, seen in first.items():
        again = second[name]
        assert (seen.low, seen.high, seen.mean_low) == (again.low, again.high, again.mean_low)
        np.testing.assert_array_equal(seen.channel_mean, again.channel_mean)
        np.testing.assert_array_equal(seen.histogram.counts, again.histogram.counts)
        assert seen.histogram.limit == again.histogram.limit


def test_another_pixel_model_or_version_is_another_entry(made, tmp_path, monkeypatch):
    model, crops, looked = made
    _of(model, crops)
    changed = [c.copy() for c in crops]
    changed[2][0, 0, 0, 0] ^= 1
    _of(model, changed)
    _of(conv_net(tmp_path / "other.onnx", seed=1), crops)
    monkeypatch.setattr(module, "__version__", "9.9")
    _of(model, crops)
    assert len(looked) == 4


def test_without_a_place_for_the_cache_it_works_all_the_same(made, tmp_path, monkeypatch):
    model, crops, looked = made
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _of(model, crops) and _of(model, crops) and len(looked) == 2


def test_the_pictures_range_is_that_of_all_pictures(tmp_path):
    model = conv_net(tmp_path / "net.onnx")
    ((name, (low, high)),) = observe_input_range(model).items()
    assert name == "x0" and low == 0
    step = high / 255
    pixels = np.arange(256)
    assert (np.round(pixels / step) == pixels).all() and step != 1


@pytest.mark.parametrize("damage", [b"", b"PK rubbish", None])
def test_an_entry_that_was_cut_short_is_made_anew(made, tmp_path, damage):
    model, crops, looked = made
    first = _of(model, crops)
    (entry,) = (tmp_path / "cache").rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:300] if damage is None else damage)
    again = _of(model, crops)
    assert len(looked) == 2 and again.keys() == first.keys()
    _of(model, crops)
    assert len(looked) == 2
