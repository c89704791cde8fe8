import numpy as np
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.bench.layers import slowest


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_layers_come_slowest_first_with_how_they_ran(quantized, backend):
    folder = quantized / backend
    request = BackendConfig(folder, read_card(folder), "int8", 1)
    layers = slowest(backend, request, np.zeros((1, 64, 64, 3), np.uint8), 5)
    times = [layer.us for layer in layers]
    assert len(layers) == 5 and times == sorted(times, reverse=True) and times[-1] > 0
    assert any("onv" in layer.kind for layer in layers)


def test_a_runtime_that_does_not_tell_gives_none(exported):
    request = BackendConfig(exported, read_card(exported), "fp32", 1)
    assert slowest("pytorch", request, np.zeros((1, 64, 64, 3), np.uint8), 5) == []
