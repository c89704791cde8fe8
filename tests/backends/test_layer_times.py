"""How long each layer takes, as the runtimes tell."""

import numpy as np
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import get_backend_class

CROP = np.zeros((1, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_layers_have_times_and_say_how_they_ran(quantized, backend):
    folder = quantized / backend
    config = BackendConfig(folder, read_card(folder), "int8", 1)
    layers = get_backend_class(backend).layer_times(config, CROP)
    assert len(layers) > 5 and all(layer.us >= 0 for layer in layers)
    assert any("onv" in layer.kind for layer in layers)


def test_a_runtime_that_does_not_tell_gives_none(exported):
    config = BackendConfig(exported, read_card(exported), "fp32", 1)
    assert get_backend_class("pytorch").layer_times(config, CROP) == []
