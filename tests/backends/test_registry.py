import sys
from dataclasses import replace

import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends import registry
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.errors import BackendError, ModelError


def test_an_unknown_backend_is_named_with_the_known():
    with pytest.raises(BackendError, match="unknown backend 'tflite'; use one of openvino"):
        registry.get_runtime("tflite")


def test_a_precision_it_cannot_run_is_refused(exported):
    with pytest.raises(BackendError, match="does not support bf16; use one of fp32, int8"):
        registry.open_backend("onnxruntime", BackendConfig(exported, read_card(exported), "bf16"))


def test_a_missing_package_names_the_command_that_adds_it(exported, monkeypatch):
    monkeypatch.setattr(registry, "is_installed", lambda _: False)
    with pytest.raises(BackendError, match=r"pip install okdhp-edge\[openvino\]"):
        registry.open_backend("openvino", BackendConfig(exported, read_card(exported), "fp32"))


def test_auto_considers_runtimes_by_rank_and_the_last_resorts_last():
    ranked = registry.list_ranked()
    assert ranked[0] == "openvino" and "tensorrt" not in ranked
    last = [registry.get_runtime(name).last_resort for name in ranked]
    assert last == sorted(last)


def test_every_runtime_with_int8_has_a_profile_of_its_own():
    for name in registry.list_runtime_profiles():
        assert registry.get_profile(name).name == name
        assert "int8" in registry.get_runtime(name).precisions
    with pytest.raises(ModelError, match=r"unknown profile 'rknn'; use one of openvino, .*generic"):
        registry.get_profile("rknn")


def test_a_folder_of_a_runtimes_name_is_no_runtime(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.setattr(registry, "REGISTRY", {"x": replace(
        registry.get_runtime("tensorrt"), packages=("tensorrt",))})  # fmt: skip
    assert not registry.is_installed("x")


def test_a_runtime_whose_library_does_not_load_is_one_line(exported, monkeypatch):
    def refuse(name):
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(registry.importlib, "import_module", refuse)
    with pytest.raises(BackendError, match="onnxruntime cannot be imported .*shared object"):
        registry.get_backend_class("onnxruntime")
