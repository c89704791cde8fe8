import numpy as np
import pytest

from okdhp_edge.system.latency import (
    LatencyStats,
    Series,
    StageClock,
    StageLog,
    drift,
    nearest_rank,
)
from tests.helpers.fakes import FakeClock


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_nearest_rank_is_a_sample_that_occurred(share, value):
    assert nearest_rank(range(1, 101), share) == value


def test_a_hundred_scripted_frames_give_exact_statistics():
    clock = FakeClock()
    stages, log = StageClock(clock), StageLog()
    for frame in range(100):
        with stages.stage("infer"):
            clock.advance_ms(frame + 1)
        with stages.stage("decode"):
            clock.advance_ms(0.5)
        log.add(stages.take())
    stats = {name: series.stats() for name, series in log.series.items()}
    infer = stats["infer"]
    found = (infer.n, infer.p50, infer.p90, infer.p95, infer.p99, infer.max)
    assert found == (100, 50, 90, 95, 99, 100)
    assert infer.mean == pytest.approx(50.5)
    assert infer.sd == pytest.approx(28.866, abs=1e-3)
    assert infer.cv == pytest.approx(28.866 / 50.5, abs=1e-4)
    assert stats["decode"].p99 == 0.5
    assert stats["decode"].cv == 0


def test_a_stage_entered_twice_adds_up_and_frames_are_apart():
    clock = FakeClock()
    stages = StageClock(clock)
    for ms in (1000.0, 2.0):
        for _ in range(2):
            with stages.stage("infer"):
                clock.advance_ms(ms)
        frame = stages.take()
    assert frame == {"infer": 4_000_000}


def test_a_frame_without_a_stage_counts_as_zero():
    log = StageLog()
    for stages in ({}, {"draw": 3_000_000}, {}):
        log.add(stages)
    stats = log.series["draw"].stats()
    assert (stats.n, stats.p50, stats.max) == (3, 0, 3)
    assert list(log.series["draw"].samples) == [0, 3_000_000, 0]


def test_time_is_counted_even_when_the_stage_fails():
    clock = FakeClock()
    stages = StageClock(clock)
    with pytest.raises(ValueError, match="boom"), stages.stage("infer"):
        clock.advance_ms(2)
        raise ValueError("boom")
    assert stages.take()["infer"] == 2_000_000


def test_no_samples_no_statistics():
    with pytest.raises(ValueError, match="no latency samples"):
        LatencyStats.of([])


def test_drift_compares_the_halves():
    assert drift([10] * 50 + [12] * 50) == pytest.approx(0.2)
    assert drift([7]) is None
    assert drift([0, 0, 5, 5]) is None


def test_a_series_is_that_of_its_samples_up_to_the_limit():
    samples = [int(v) for v in np.random.default_rng(0).integers(1, 10**7, 500)]
    series = Series(limit=500)
    for sample in samples:
        series.add(sample)
    found, truth = series.stats().to_dict(), LatencyStats.of(samples).to_dict()
    assert found == pytest.approx(truth, abs=2e-4)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 201, 1000])
def test_zeros_at_once_are_zeros_one_by_one(count):
    at_once, one_by_one = Series(limit=100), Series(limit=100)
    at_once.fill_zeros(count)
    for _ in range(count):
        one_by_one.add(0)
    for series in (at_once, one_by_one):
        for i in range(1, 300):
            series.add(i)
    assert at_once.samples == one_by_one.samples
    assert at_once.stats() == one_by_one.stats()


def test_a_stage_that_comes_late_costs_nothing():
    log = StageLog()
    log.frames = 10**12
    log.add({"infer": 5})
    assert len(log.series["infer"]) == 10**12 + 1


@pytest.mark.parametrize("count", [101, 1000, 5003])
def test_a_long_series_stays_small_even_and_true(count):
    series = Series(limit=100)
    for i in range(count):
        series.add(i * 1000)
    kept = np.array(series.samples)
    assert 50 <= len(kept) <= 100
    assert set(np.diff(kept)) == {kept[1] - kept[0]}  # evenly spaced, from the first on
    assert kept[0] == 0 and kept[-1] >= 0.9 * (count - 1) * 1000
    stats = series.stats()
    assert (stats.n, len(series)) == (count, count)
    assert stats.max == pytest.approx((count - 1) * 1e-3)
    assert stats.mean == pytest.approx((count - 1) / 2 * 1e-3)
