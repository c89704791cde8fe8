"""What a trial takes from its times."""

from pathlib import Path

from okdhp_edge.backends import timing, trials
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import RuntimeChoice
from tests.helpers.fakes import FakeBackend, fake_card


def test_one_hiccup_does_not_decide_between_runtimes(monkeypatch):
    steady, disturbed = RuntimeChoice("openvino", "fp32"), RuntimeChoice("onnxruntime", "fp32")
    monkeypatch.setattr(trials, "open_backend", lambda *_: FakeBackend())
    monkeypatch.setattr(
        timing, "time_interleaved", lambda *_: [[2_000_000] * 20, [1_000_000] * 19 + [90_000_000]]
    )
    config = BackendConfig(Path(), fake_card(), "fp32")
    times, failed = trials.time_runtimes({steady: config, disturbed: config})
    assert times == {steady: 2.0, disturbed: 1.0} and not failed
