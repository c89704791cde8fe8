import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose import smoothing
from okdhp_edge.pose.smoothing import OneEuro

SIZE = 100.0


def _filtered(path_T2, fps=30.0):
    smooth = OneEuro()
    return np.array([smooth(xy[None], t / fps, SIZE)[0] for t, xy in enumerate(path_T2)])


def test_somebody_who_stands_still_stops_trembling():
    rng = np.random.default_rng(0)
    seen = 50 + rng.normal(0, 2.0, (300, 2))
    assert _filtered(seen)[60:].std() < 0.5 * seen[60:].std()


def test_somebody_who_moves_is_followed_closely(monkeypatch):
    path = np.stack([np.linspace(0, 900, 90), np.zeros(90)], 1)  # three sizes a second
    lag = path[45:, 0] - _filtered(path)[45:, 0]
    assert 0 <= lag.max() < 0.15 * SIZE
    monkeypatch.setattr(smoothing, "_BETA", 0.0)
    slow = _filtered(path)
    assert (path[45:, 0] - slow[45:, 0]).min() > 2 * lag.max()


@given(st.floats(0.2, 4.0))
def test_what_counts_is_time_and_not_frames(rate):
    """Twice the rate gives the same answer at the same time, nearly."""
    t = np.arange(0, 2, 1 / 120)
    path = np.stack([60 * np.sin(rate * t), 30 * np.cos(rate * t)], 1)
    fast = _filtered(path, fps=120)[::4]
    slow = _filtered(path[::4], fps=30)
    assert np.abs(fast - slow).max() < 0.06 * SIZE


def test_size_decides_what_is_quick():
    near, far = OneEuro(), OneEuro()
    for t in range(10):
        a = near(np.array([[5.0 * t, 0.0]]), t / 30, 400.0)
        b = far(np.array([[0.5 * t, 0.0]]), t / 30, 40.0)
    assert a[0, 0] / 400 == pytest.approx(b[0, 0] / 40, rel=1e-5)


def test_a_time_that_does_not_pass_starts_afresh():
    smooth = OneEuro()
    smooth(np.array([[0.0, 0.0]]), 1.0, SIZE)
    np.testing.assert_allclose(smooth(np.array([[80.0, 0.0]]), 1.0, SIZE), [[80, 0]])
    np.testing.assert_allclose(smooth(np.array([[10.0, 0.0]]), 0.2, SIZE), [[10, 0]])


@pytest.mark.parametrize(("beta", "moved"), [(0.0, 5.0), (2.0, 7.5)])
def test_a_step_is_followed_by_the_share_of_the_papers_equations(monkeypatch, beta, moved):
    """With 2 pi dt = 1 a cut-off of f Hz takes f / (f + 1) of the new value. The speed of 20 pi is
    halved by its own filter and is one size a second: the cut-off is 1 + beta."""
    monkeypatch.setattr(smoothing, "_MIN_CUTOFF_HZ", 1.0)
    monkeypatch.setattr(smoothing, "_BETA", beta)
    smooth = OneEuro()
    smooth(np.zeros((1, 2)), 0.0, 10 * np.pi)
    found = smooth(np.array([[6.0, 8.0]]), 1 / (2 * np.pi), 10 * np.pi)
    np.testing.assert_allclose(found, [[0.6 * moved, 0.8 * moved]], rtol=1e-6)
