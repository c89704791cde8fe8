import numpy as np

from okdhp_edge.backends import timing
from okdhp_edge.backends.timing import time_interleaved


class _Counted:
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def infer_all(self, images):
        self.calls.append((self.name, len(images)))


def test_backends_take_turns_in_rounds_and_warm_ups_are_not_counted(monkeypatch):
    monkeypatch.setattr(timing, "_SETTLE_S", 0)
    calls, told = [], []
    loaded = [_Counted("a", calls), _Counted("b", calls)]
    samples = time_interleaved(loaded, np.zeros((4, 2, 2, 3), np.uint8), 20, told.append)
    assert [len(s) for s in samples] == [20, 20] and told == [10, 20]
    names = [name for name, _ in calls]
    assert names == ["a"] * 20 + ["b"] * 20 + ["a"] * 13 + ["b"] * 13
    assert {size for _, size in calls} == {1}
