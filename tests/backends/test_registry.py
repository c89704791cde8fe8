import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends import registry
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.errors import BackendError


def test_an_unknown_backend_is_named_with_the_known():
    with pytest.raises(BackendError, match="unknown backend 'tflite'; use one of openvino"):
        registry.entry("tflite")


def test_a_precision_it_cannot_run_is_refused(exported):
    with pytest.raises(BackendError, match="onnxruntime does not run bf16; use one of fp32, int8"):
        registry.open_backend("onnxruntime", BackendConfig(exported, read_card(exported), "bf16"))


def test_a_missing_package_names_the_command_that_adds_it(exported, monkeypatch):
    monkeypatch.setattr(registry, "installed", lambda _: False)
    with pytest.raises(BackendError, match=r"pip install okdhp-edge\[openvino\]"):
        registry.open_backend("openvino", BackendConfig(exported, read_card(exported), "fp32"))
