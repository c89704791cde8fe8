import json
import time
from dataclasses import replace

import pytest

from okdhp_edge.run import report as reports
from tests.helpers.fakes import FakeBackend, ScriptedSource
from tests.helpers.running import Picturing, run_on


def test_the_report_is_json_with_the_facts_a_number_needs():
    record = json.loads(json.dumps(run_on([ScriptedSource(8)])[0].to_dict()))
    assert record["backend"]["precision"] == "fp32"
    assert record["machine"]["cores"] >= 1
    assert record["software"]["okdhp-edge"]
    assert {"n", "mean", "sd", "p50", "p90", "p95", "p99", "max"} == set(
        record["stages_ms"]["infer"]
    )
    assert record["input_size"] == [64, 64]
    assert record["first_frame_ms"] > 0
    assert set(record["sensors"]) == {"before", "after"}
    assert "samples_ms" not in record


def test_raw_times_go_into_the_file_and_add_up():
    full = run_on([ScriptedSource(50)], sinks=[Picturing()])[0].with_samples()
    samples = full["samples_ms"]
    assert len(samples["frame age"]) == 45
    names = [n for n in samples if n in reports.STAGES_TO_POSES]
    for frame, age in enumerate(samples["frame age"]):
        assert sum(samples[n][frame] for n in names) == pytest.approx(age, abs=0.005)


class _Tally:
    def __init__(self, infer, ages, fps=50.0):
        from okdhp_edge.system.latency import Series, StageLog

        self.stages, self.age, self.fps = StageLog(), Series(), fps
        self.people_counts = [int(inferred > 0) for inferred in infer]
        for inferred, age in zip(infer, ages, strict=True):
            self.stages.add({"infer": inferred})
            self.age.add(age)


STEADY = [1_000_000] * 1000


@pytest.mark.parametrize(
    ("infer", "ages", "before", "after", "live", "expected"),
    [
        (STEADY, STEADY, {}, {}, False, []),
        ([500_000, 1_500_000] * 500, STEADY, {}, {}, False, ["unstable"]),
        ([1_000_000, 0, 0] * 333 + [0], STEADY, {}, {}, False, []),  # nobody was in view
        (STEADY, [*STEADY[:500], *[1_200_000] * 500], {}, {}, False, ["drift"]),
        (STEADY, STEADY, {"mhz": 3000}, {"mhz": 2000}, False, ["throttled"]),
        (STEADY, STEADY, {"throttled": 3}, {"throttled": 4}, False, ["throttled"]),
        (STEADY, STEADY, {"mhz": 2000}, {"mhz": 3000}, False, []),
        (STEADY[:10], STEADY[:10], {}, {}, False, ["few frames"]),
        (STEADY, STEADY, {}, {}, True, ["source-limited"]),
    ],
)
def test_readers_are_warned(infer, ages, before, after, live, expected):
    source = ScriptedSource(1, live=live)
    flags = reports._find_flags(source, _Tally(infer, ages, fps=29.8), (before, after))
    assert [flag.split(":")[0] for flag in flags] == expected


def test_it_names_the_model_that_ran():
    report = run_on([ScriptedSource(8)], FakeBackend())[0]
    assert report.model == "fake branch 0 float fp32"
    assert report.model_sha256 == "0" * 64
    assert replace(report, frames=9).frames == 9


def test_people_who_come_and_go_do_not_make_a_machine_unsteady():
    counts = [1, 2] * 500
    tally = _Tally([count * 1_000_000 for count in counts], [count * 1_000_000 for count in counts])
    tally.people_counts = counts
    assert reports._find_flags(ScriptedSource(1), tally, ({}, {})) == []


def test_sensors_that_vanish_and_pauses_are_no_fault():
    tally = _Tally(STEADY, STEADY, fps=14.9)
    assert reports._find_flags(ScriptedSource(1), tally, ({"mhz": 2000}, {})) == []
    flags = reports._find_flags(ScriptedSource(1, live=True), tally, ({}, {}), stride=2, paused_s=6)
    assert [flag.split(":")[0] for flag in flags] == ["paused", "source-limited"]


def test_frames_that_are_passed_over_take_the_time_of_the_next():
    class Slow(ScriptedSource):
        def _pass_over(self):
            time.sleep(0.02)
            return super()._pass_over()

    source = Slow(5)
    source.read()
    source.skip()
    assert source.read().read_ns >= 20_000_000
    assert source.read().read_ns < 20_000_000


def test_an_empty_room_that_is_searched_now_and_then_is_steady():
    tally = _Tally([1_000_000, *[0] * 9] * 100, STEADY)
    tally.people_counts = [0] * 1000
    assert reports._find_flags(ScriptedSource(1), tally, ({}, {})) == []
