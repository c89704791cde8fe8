import pytest

from okdhp_edge.latency import LatencyStats, StageClock, nearest_rank
from tests.helpers.fakes import FakeClock


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_nearest_rank_is_a_sample_that_occurred(share, value):
    assert nearest_rank(range(1, 101), share) == value


def test_a_hundred_scripted_frames_give_exact_statistics():
    clock = FakeClock()
    stages = StageClock(clock)
    for frame in range(100):
        with stages.stage("infer"):
            clock.advance_ms(frame + 1)
        with stages.stage("decode"):
            clock.advance_ms(0.5)
        stages.end_frame()
    stats = stages.stats()
    infer = stats["infer"]
    assert (infer.n, infer.p50, infer.p90, infer.p99, infer.max) == (100, 50, 90, 99, 100)
    assert infer.mean == pytest.approx(50.5)
    assert stats["decode"].p99 == 0.5


def test_a_stage_entered_twice_adds_up_and_warm_up_is_forgotten():
    clock = FakeClock()
    stages = StageClock(clock)
    for counted, ms in ((False, 1000.0), (True, 2.0)):
        for _ in range(2):
            with stages.stage("infer"):
                clock.advance_ms(ms)
        stages.end_frame(counted=counted)
    assert stages.frames == 1
    assert stages.stats()["infer"].max == 4.0


def test_a_frame_without_a_stage_counts_as_zero():
    clock = FakeClock()
    stages = StageClock(clock)
    stages.end_frame()
    with stages.stage("draw"):
        clock.advance_ms(3)
    stages.end_frame()
    assert stages.stats()["draw"].n == 2
    assert stages.stats()["draw"].p50 == 0


def test_time_is_counted_even_when_the_stage_fails():
    clock = FakeClock()
    stages = StageClock(clock)
    with pytest.raises(ValueError, match="boom"), stages.stage("infer"):
        clock.advance_ms(2)
        raise ValueError("boom")
    stages.end_frame()
    assert stages.stats()["infer"].max == 2


def test_no_samples_no_statistics():
    with pytest.raises(ValueError, match="no latency samples"):
        LatencyStats.of([])
