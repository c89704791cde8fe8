import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from typing_extensions import override

from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import OutputError, SourceError
from okdhp_edge.inference.open_detector import NO_DETECTOR
from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.run.assemble import TrackingConfig, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import SourceRun, run_loop
from okdhp_edge.run.pipeline import STAGES_TO_POSES
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.run_statistics import STAGES_AFTER_POSES, WARMUP_FRAMES
from okdhp_edge.run.sinks.records import JsonSink
from tests.helpers.fakes import FakeBackend, ScriptedSource
from tests.helpers.running import Picturing, run_on


def test_every_frame_of_a_file_is_shown_in_order_and_measured(tmp_path):
    sink, picture = JsonSink(tmp_path / "p.jsonl"), Picturing()
    report = run_on([ScriptedSource(40)], sinks=[sink, picture])[0]
    assert (report.frames, report.captured, report.dropped, report.frames_with_people) == (
        40,
        40,
        0,
        40,
    )
    assert [s.frame.number for s in picture.seen] == list(range(40))
    assert report.warmup == WARMUP_FRAMES
    expected = {"capture", *STAGES_TO_POSES, *STAGES_AFTER_POSES} - {"detect"}
    assert set(report.stages) == expected
    assert all(s.n == 40 - WARMUP_FRAMES for s in report.stages.values())
    assert report.frame_age.n == 40 - WARMUP_FRAMES
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 40
    assert picture.closed[0] is True


def test_the_stages_add_up_to_the_age_and_to_the_end():
    report = run_on([ScriptedSource(300)], sinks=[Picturing()])[0]
    mean = {name: s.mean for name, s in report.stages.items()}
    to_poses = sum(mean.get(name, 0) for name in STAGES_TO_POSES)
    assert to_poses == pytest.approx(report.frame_age.mean, rel=1e-9)
    to_end = to_poses + sum(mean.get(name, 0) for name in STAGES_AFTER_POSES)
    assert to_end == pytest.approx(report.end_to_end.mean, rel=0.05)
    assert report.fps == pytest.approx((300 - WARMUP_FRAMES) / report.seconds)


def test_a_pause_is_no_part_of_a_frames_age():
    controls, until = Controls(), []
    controls.while_paused.append(lambda: setattr(controls, "paused", time.monotonic() < until[0]))

    class Pausing(Picturing):
        @override
        def write(self, result, annotated):
            if result.frame.number == 20:
                controls.paused, until[:] = True, [time.monotonic() + 1]
            return super().write(result, annotated)

    started = time.monotonic()
    report = run_on([ScriptedSource(40)], sinks=[Pausing()], controls=controls)[0]
    assert time.monotonic() - started >= 1
    assert report.frames == 40
    assert report.frame_age.max < 500
    assert report.stages["wait"].max < 500


def test_who_waits_for_frames_is_called_and_may_end_the_run():
    """A window has to handle its events, and its `q`, while a camera gives nothing."""

    class Silent(ScriptedSource):
        def _next(self):
            if self._number == 5:
                controls.stop.wait(20)
            return super()._next()

    calls, controls = [], Controls()
    controls.while_idle.append(lambda: calls.append(threading.get_ident()) or len(calls) < 3)
    report = run_on([Silent(40, live=True)], controls=controls)[0]
    assert calls == [threading.get_ident()] * 3
    assert report.frames <= 6


def test_nothing_is_drawn_for_sinks_that_do_not_look(tmp_path):
    report = run_on([ScriptedSource(10)], sinks=[JsonSink(tmp_path / "p.jsonl")])[0]
    assert "draw" not in report.stages


class _Slow(ScriptedSource):
    """Takes `seconds` for a frame, as decoding does."""

    seconds = 0.004

    def _next(self):
        time.sleep(self.seconds)
        return super()._next()


class _SlowBackend(FakeBackend):
    def _infer(self, images):
        time.sleep(0.004)
        return super()._infer(images)


class _SlowSink(Picturing):
    delay = 0.004

    def write(self, result, annotated):
        time.sleep(self.delay)
        return super().write(result, annotated)


def test_reading_estimating_and_showing_overlap():
    """Three stages of 4 ms take 4 ms a frame together, not 12."""
    report = run_on([_Slow(100)], _SlowBackend(), [_SlowSink()])[0]
    one_after_the_other = sum(report.stages[n].mean for n in ("capture", "infer", "output"))
    assert 1e3 / report.fps < 0.7 * one_after_the_other


class _SlowToDecode(PoseEstimator):
    calls = 0

    @override
    def decode(self, prepared, heatmaps):
        type(self).calls += 1
        time.sleep(0.015)
        return super().decode(prepared, heatmaps)


class _SlowerBackend(FakeBackend):
    @override
    def _infer(self, images):
        time.sleep(0.015)
        return super()._infer(images)


def test_in_a_file_the_network_works_while_joints_are_decoded(monkeypatch):
    monkeypatch.setattr(_SlowToDecode, "calls", 0)
    monkeypatch.setattr("okdhp_edge.run.assemble.PoseEstimator", _SlowToDecode)
    report = run_on([ScriptedSource(50)], _SlowerBackend())[0]
    assert report.frames == 50
    assert _SlowToDecode.calls > 40  # or nothing here is slow
    assert 1e3 / report.fps < 0.8 * (15 + 15)


def test_a_result_that_waits_to_be_decoded_is_not_being_inferred(monkeypatch):
    monkeypatch.setattr("okdhp_edge.run.assemble.PoseEstimator", _SlowToDecode)
    report = run_on([ScriptedSource(50)], _SlowBackend())[0]
    assert 1e3 / report.fps > 15
    assert report.stages["infer"].p50 < 10


@pytest.mark.parametrize("live", [True, False])
def test_a_live_frame_is_not_begun_beside_another_and_a_file_gives_the_same_either_way(live):
    class Counting(FakeBackend):
        begun = 0

        def infer_async(self, images):
            self.begun += 1
            return super().infer_async(images)

    backend, sink = Counting(), Picturing()
    run_on([ScriptedSource(30)], backend, [sink], policy=FramePolicy(live=live))
    assert (backend.begun == 0) == live
    assert all(len(s.poses) == 1 for s in sink.seen)
    first = sink.seen[0].poses[0].xy
    assert all(np.abs(s.poses[0].xy - first).max() < 3 for s in sink.seen[3:])


def test_even_and_odd_frames_do_not_part_ways():
    """A box comes from the joints before last: once one frame's joints lie elsewhere, every other
    frame would go on looking there."""

    class Jumping(FakeBackend):
        def _infer(self, images):
            usual, right = self.xy, self.xy * [0.5, 1] + [7, 0]
            self.xy = right if self.calls == 20 else usual
            heatmaps = super()._infer(images)
            self.xy = usual
            return heatmaps

    backend, sink = Jumping(), Picturing()
    run_on([ScriptedSource(90)], backend, [sink])
    middles = np.array([s.poses[0].xy.mean(axis=0)[0] for s in sink.seen])
    assert np.abs(np.diff(middles)).max() > 10  # it jumped
    assert np.abs(np.diff(middles[-20:])).max() < 1


def test_a_file_gives_the_same_poses_however_fast_frames_and_answers_come():
    class Drifting(FakeBackend):
        """Finds joints a bit to the right of where they were looked for."""

        def __init__(self, pauses):
            super().__init__()
            self.xy = self.xy + np.array([0.25, 0])
            self._pauses = pauses

        def _infer(self, images):
            time.sleep(self._pauses.choice([0, 0.001]))
            return super()._infer(images)

    class Irregular(ScriptedSource):
        pauses = random.Random(0)

        def _next(self):
            time.sleep(self.pauses.choice([0, 0, 0.003]))
            return super()._next()

    runs = []
    for seed in range(5):
        sink, policy = Picturing(), FramePolicy(overlap=seed > 0)
        run_on([Irregular(60)], Drifting(random.Random(seed)), [sink], policy=policy)
        runs.append(np.array([s.poses[0].xy for s in sink.seen]))
    for other in runs[1:]:
        np.testing.assert_array_equal(other, runs[0])


def test_without_overlap_everything_happens_in_the_caller_s_thread():
    class Watched(ScriptedSource):
        def _next(self):
            threads.add(threading.get_ident())
            return super()._next()

    class Watching(FakeBackend):
        def _infer(self, images):
            threads.add(threading.get_ident())
            return super()._infer(images)

    threads = set()
    report = run_on([Watched(30)], Watching(), policy=FramePolicy(overlap=False))[0]
    assert (report.frames, report.captured, report.dropped) == (30, 30, 0)
    assert threads == {threading.get_ident()}


def test_a_backend_that_breaks_in_a_request_under_way_is_heard():
    class Breaking(FakeBackend):
        def infer_async(self, images):
            wait = super().infer_async(images)

            def broken():
                wait()
                raise RuntimeError("device lost")

            return broken

    with pytest.raises(RuntimeError, match="device lost"):
        run_on([ScriptedSource(30)], Breaking())


def test_a_source_too_fast_for_the_model_ages_no_frame_and_every_drop_is_counted():
    class Fast(_Slow):
        seconds = 0.0005

    report = run_on([Fast(1500, live=True)], _SlowBackend(), [Picturing()])[0]
    assert report.captured == 1500 == report.frames + report.dropped + report.unprocessed
    assert report.dropped > 500
    ages = report.samples_ms["frame age"]
    half = len(ages) // 2
    assert np.median(ages[half:]) < 2 * np.median(ages[:half])
    assert report.frame_age.p95 < 10 * report.stages["infer"].p50


def test_several_sources_share_a_model_and_each_has_its_report():
    sinks = Picturing()
    reports = run_on([ScriptedSource(30), ScriptedSource(20)], sinks=[sinks])
    assert [r.frames for r in reports] == [30, 20]
    for place in (0, 1):
        numbers = [s.frame.number for s in sinks.seen if s.source_index == place]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("frames", [0, 1, WARMUP_FRAMES])
def test_a_source_that_ends_in_warm_up_is_a_run_without_statistics(frames):
    report = run_on([ScriptedSource(frames)])[0]
    assert report.frames == frames
    assert report.stages == {}
    assert report.frame_age is None
    json.dumps(report.with_samples())


def _frames(path):
    """Numbers of the frames in a file of JSON lines, each of them whole."""
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_a_source_that_breaks_keeps_what_was_recorded_and_closes_everything(tmp_path):
    source = ScriptedSource(9, error=SourceError("camera gone", "plug it in"))
    sink = Picturing()
    with pytest.raises(SourceError, match="camera gone"):
        run_on([source], sinks=[JsonSink(tmp_path / "p.jsonl"), sink])
    assert [s.frame.number for s in sink.seen] == list(range(9))  # whatever came before it
    assert source.closed
    assert _frames(tmp_path / "p.jsonl") == list(range(9))


@pytest.mark.parametrize("place", [37, 43, 96])  # the first 36 calls warm it up
def test_a_backend_that_breaks_keeps_what_was_recorded_and_nothing_hangs(tmp_path, place):
    backend, source = FakeBackend(), ScriptedSource(10**9)
    backend.fail_at = place
    with pytest.raises(RuntimeError, match="device lost"):
        run_on([source], backend, [JsonSink(tmp_path / "p.jsonl")])
    assert source.closed
    numbers = _frames(tmp_path / "p.jsonl")
    assert numbers == list(range(len(numbers))) and len(numbers) < 100
    assert not [t for t in threading.enumerate() if t.name in ("estimator", "frame-reader")]


def test_a_sink_that_breaks_closes_the_others_and_stops_the_threads(tmp_path):
    class Full(Picturing):
        def write(self, result, annotated):
            if result.frame.number == 6:
                raise OutputError("disk full", "make room")
            return super().write(result, annotated)

    source, broken = ScriptedSource(10**9), Full()
    with pytest.raises(OutputError, match="disk full"):
        run_on([source], sinks=[broken, JsonSink(tmp_path / "p.jsonl")])
    assert broken.closed == [False]
    assert source.closed
    assert _frames(tmp_path / "p.jsonl") in (list(range(6)), list(range(7)))


def test_a_sink_that_fails_to_close_does_not_keep_others_open(tmp_path):
    class Stuck(Picturing):
        def close(self, *, success):
            raise OutputError("cannot finish", "check the disk")

    with pytest.raises(OutputError, match="cannot finish"):
        run_on([ScriptedSource(9)], sinks=[Stuck(), JsonSink(tmp_path / "p.jsonl"), Stuck()])
    assert (tmp_path / "p.jsonl").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_well(tmp_path, number):
    source = ScriptedSource(10**9)
    # Started in the background or by nohup this process ignores some of them, and so would the run.
    inherited = signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    try:
        report = run_on([source], sinks=[JsonSink(tmp_path / "p.jsonl")])[0]
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, inherited)
    assert report.frames > WARMUP_FRAMES
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == report.frames
    assert report.captured == report.frames + report.unprocessed
    assert source.closed


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_who_ignores_a_signal_wants_it_ignored():
    """As nohup does: the terminal may close."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGHUP)).start()
        assert run_on([_Slow(100)])[0].frames == 100
    finally:
        signal.signal(signal.SIGHUP, inherited)


def test_a_second_ctrl_c_does_not_wait():
    code = (
        "import time\n"
        "from tests.helpers.running import Picturing, run_on\n"
        "from tests.helpers.fakes import ScriptedSource\n"
        "class Stuck(Picturing):\n"
        "    def write(self, result, annotated):\n"
        "        print('stuck', flush=True)\n"
        "        time.sleep(60)\n"
        "run_on([ScriptedSource(10**9)], sinks=[Stuck()])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert process.stdout.readline() == "stuck\n"
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0


def test_a_sink_can_end_the_run():
    window = Picturing(until=4)
    report = run_on([ScriptedSource(50)], sinks=[window])[0]
    assert report.frames == 4
    assert report.captured == 4 + report.unprocessed
    assert window.closed[0] is True


def test_max_frames():
    assert run_on([ScriptedSource(50)], max_frames=7)[0].frames == 7


def test_no_more_than_max_fps():
    report = run_on([ScriptedSource(30)], policy=FramePolicy(max_fps=100))[0]
    assert report.seconds > 0.2
    assert report.fps < 110  # a late frame may be made up for, no more


def test_pausing_drops_live_frames_and_goes_on():
    controls, sink = Controls(paused=True), Picturing()
    source = _Slow(200, live=True)
    threading.Timer(0.3, setattr, (controls, "paused", False)).start()
    report = run_on([source], sinks=[sink], controls=controls)[0]
    assert report.dropped > 20
    assert report.frames + report.dropped == 200
    assert sink.seen[0].frame.number > 20


def test_the_threshold_decides_what_is_drawn():
    shown = {}
    for threshold in (0.1, 0.95):
        sink = Picturing()
        run_on([ScriptedSource(2)], sinks=[sink], controls=Controls(threshold=threshold))
        shown[threshold] = int((sink.drawn[1] != sink.seen[1].frame.image).sum())
    assert shown[0.95] < shown[0.1]
    assert (sink.seen[1].frame.image == sink.seen[1].frame.image[0, 0]).all()  # never drawn into


def test_waiting_for_the_viewer_is_not_the_models_time():
    sink = _SlowSink()
    sink.delay = 0.03
    report = run_on([ScriptedSource(30)], sinks=[sink])[0]
    assert report.stages["infer"].p50 < 10
    report = run_on([ScriptedSource(12)], policy=FramePolicy(max_fps=40))[0]
    assert report.stages["infer"].p50 < 10


def test_a_live_frame_is_no_older_than_one_round_of_whoever_looks():
    ages = []

    class _Looks(Picturing):
        def write(self, result, annotated):
            ages.append((time.perf_counter_ns() - result.frame.captured_ns) / 1e6)
            time.sleep(0.1)
            return super().write(result, annotated)

    source = _Slow(150, live=True)
    run_on([source], sinks=[_Looks()])
    assert np.median(ages[2:]) < 150


def test_a_switch_of_models_is_told(monkeypatch):
    controls = Controls()
    first, second = FakeBackend(), FakeBackend()

    class _Switches(Picturing):
        def write(self, result, annotated):
            if result.frame.number == 15:
                controls._loaded = second, RuntimeChoice("fake", "int8")
            return super().write(result, annotated)

    report = run_on([ScriptedSource(60)], first, [_Switches()], controls=controls)[0]
    assert any(flag.startswith("mixed: the model was switched") for flag in report.flags)


class _Images(ScriptedSource):
    continuous = False


class _Jumping(FakeBackend):
    """Joints elsewhere in every frame."""

    def _infer(self, images):
        self.xy = self.xy + (1 if self.calls % 2 else -1)
        return super()._infer(images)


@pytest.mark.parametrize("kind", [_Images, ScriptedSource])
def test_images_are_not_smoothed_over_one_another(kind):
    def find(smooth):
        sink = Picturing()
        people = TrackingConfig(mode="one", detector=NO_DETECTOR, smooth=smooth)
        run_on([kind(6)], _Jumping(), [sink], people=people)
        return np.stack([result.poses[0].xy for result in sink.seen])

    assert np.allclose(find(smooth=True), find(smooth=False)) == (kind is _Images)


def test_images_read_like_a_camera_show_their_people():
    def find_people(frame):
        return [Detection(np.array([20.0, 10, 60, 80]), 0.9)]

    find_people.close = lambda: None
    sink = Picturing()
    with ExitStack() as closing:
        source = _Images(5, live=True)
        pipeline = assemble(
            [source], FakeBackend(), TrackingConfig(mode="many", detector="given"),
            FramePolicy(), Controls(), closing, find_people,
        )  # fmt: skip
        run_loop(pipeline, [SourceRun(source, [sink])], Controls())
    assert sink.seen and all(len(result.poses) == 1 for result in sink.seen)
