import json
import os
import signal
import threading

import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run.loop import WARMUP, run_loop
from okdhp_edge.run.sink import JsonSink
from tests.helpers.fakes import FakeBackend, ScriptedSource


def _run(source, backend=None, sinks=(), **options):
    return run_loop(
        source, backend or FakeBackend(), sinks, draw=True, precision_asked="fp32", **options
    )


def test_every_frame_of_a_file_is_shown_and_measured(tmp_path):
    sink = JsonSink(tmp_path / "p.jsonl")
    report = _run(ScriptedSource(40), sinks=[sink])
    assert (report.frames, report.captured, report.dropped, report.found) == (40, 40, 0, 40)
    assert report.warmup == WARMUP
    assert set(report.stages) == {
        "capture", "preprocess", "infer", "decode", "draw", "output",
    }  # fmt: skip
    assert all(s.n == 40 - WARMUP for s in report.stages.values())
    assert report.frame_age.n == 40 - WARMUP
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 40


def test_the_stages_add_up_to_the_wall_clock():
    report = _run(ScriptedSource(300))
    per_frame = sum(s.mean for s in report.stages.values())
    assert per_frame == pytest.approx(1e3 * report.seconds / (300 - WARMUP), rel=0.35)
    assert report.fps == pytest.approx((300 - WARMUP) / report.seconds)


def test_the_report_is_json_with_the_facts_a_number_needs():
    record = json.loads(json.dumps(_run(ScriptedSource(8)).to_dict()))
    assert record["backend"]["precision"] == "fp32"
    assert record["machine"]["cores"] >= 1
    assert record["software"]["okdhp-edge"]
    assert {"p50", "p90", "p99", "max", "n"} <= set(record["stages_ms"]["infer"])


@pytest.mark.parametrize("frames", [0, 1, WARMUP - 1])
def test_a_source_that_ends_in_warm_up_is_a_run_without_statistics(frames):
    report = _run(ScriptedSource(frames))
    assert report.frames == frames
    assert report.stages == {}
    assert report.frame_age is None


def test_a_source_that_breaks_leaves_nothing_and_closes_everything(tmp_path):
    source = ScriptedSource(9, error=SourceError("camera gone", "plug it in"))
    with pytest.raises(SourceError, match="camera gone"):
        _run(source, sinks=[JsonSink(tmp_path / "p.jsonl")])
    assert source.closed
    assert not list(tmp_path.iterdir())


def test_a_backend_that_breaks_leaves_nothing_and_nothing_hangs(tmp_path):
    backend, source = FakeBackend(), ScriptedSource(10**9)
    backend.fail_at = 60
    with pytest.raises(RuntimeError, match="device lost"):
        _run(source, backend, [JsonSink(tmp_path / "p.jsonl")])
    assert source.closed
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_the_run_well(tmp_path):
    source = ScriptedSource(10**9)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    report = _run(source, sinks=[JsonSink(tmp_path / "p.jsonl")])
    assert report.frames > WARMUP
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) >= report.frames
    assert source.closed


def test_a_sink_can_end_the_run():
    class Window:
        closed = None

        def put(self, frame, drawn, pose):
            return frame.number < 3

        def close(self, *, good):
            self.closed = good

    window = Window()
    assert _run(ScriptedSource(50), sinks=[window]).frames == 4
    assert window.closed is True


def test_max_frames():
    assert _run(ScriptedSource(50), max_frames=7).frames == 7
