import json

import numpy as np
import pytest

from okdhp_edge.errors import DataError
from okdhp_edge.report.compare import compare_reports, median, read_report, read_reports
from tests.helpers.fakes import ScriptedSource
from tests.helpers.running import run_on


@pytest.fixture(scope="module")
def report():
    return run_on([ScriptedSource(60)])[0].with_samples()


def _with(report, label, infer, seed=0):
    rng = np.random.default_rng(seed)
    times = (infer + rng.normal(0, 0.05 * infer, 600)).tolist()
    samples = {**report["samples_ms"], "infer": times, "frame age": times}
    return {**report, "label": label, "samples_ms": samples}


def test_files_of_one_name_are_told_apart_by_their_folders(report, tmp_path):
    paths = [tmp_path / name for name in ("pi/run.json", "pc/run.json", "pc/other.json")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(report))
    labels = [found["label"] for found in read_reports(paths)]
    assert labels == ["pi/run", "pc/run", "other"]


def _cells(rows, what):
    return next(row["cells"] for row in rows if row["what"] == what)


def test_an_interval_holds_the_median_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        samples = np.random.default_rng(seed).exponential(2.0, 400)
        found = median(samples)
        hits += found.low <= 2.0 * np.log(2) <= found.high
    assert hits >= 51


def test_frames_that_resemble_their_neighbours_widen_the_interval():
    rng = np.random.default_rng(1)
    alone = rng.normal(10, 1, 2000)
    blocks = np.repeat(rng.normal(10, 1, 40), 50)
    width = [m.high - m.low for m in (median(alone), median(blocks))]
    assert width[1] > 3 * width[0]


def test_runs_stand_side_by_side_with_the_ratio_to_the_first(report):
    rows = compare_reports([_with(report, "a", 4.0), _with(report, "b", 2.0, 1)])
    assert _cells(rows, "infer vs the first")[0] == "1"
    ratio = _cells(rows, "infer vs the first")[1]
    assert ratio.startswith(("0.50 (0.4", "0.50 (0.5"))
    assert float(_cells(rows, "infer p50, ms")[0].split()[0]) == pytest.approx(4.0, abs=0.05)
    assert _cells(rows, "threads") == ["1", "1"]


def test_a_run_with_itself_is_the_same(report):
    rows = compare_reports([_with(report, "a", 3.0), _with(report, "a2", 3.0, 5)])
    ratio = _cells(rows, "frame age vs the first")[1]
    low, high = (float(v) for v in ratio.partition("(")[2].rstrip(")").split(".."))
    assert low <= 1.0 <= high


def test_reports_are_read_back_under_their_names(tmp_path, report):
    (tmp_path / "pi5.json").write_text(json.dumps(report))
    assert read_report(tmp_path / "pi5.json")["label"] == "pi5"


@pytest.mark.parametrize(
    ("text", "message"),
    [("no json", "cannot be read"), ("[]", "not a report with raw times"),
     ('{"fps": 3}', "not a report with raw times"), ('{"sources": [1, 2]}', "has 2 sources")],
)  # fmt: skip
def test_what_is_no_report_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_report(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_report(tmp_path / "gone.json")


def test_frames_without_anybody_are_no_fast_inferences(report, recwarn):
    """A camera that sees people in 40 % of its frames compares its machine, not its room."""
    busy, empty = _with(report, "busy", 2.0), _with(report, "empty", 2.0)
    for one, share in ((busy, 0.4), (empty, 0.6)):
        times = one["samples_ms"]["infer"]
        one["samples_ms"]["infer"] = [0.0] * int(share * len(times)) + times
    empty["samples_ms"]["infer"] = [0.0] * 400 + empty["samples_ms"]["infer"]
    rows = compare_reports([busy, empty])
    assert all(1.9 < float(cell.split()[0]) < 2.1 for cell in _cells(rows, "infer p50, ms"))
    assert 0.95 < float(_cells(rows, "infer vs the first")[1].split()[0]) < 1.05
    assert not recwarn.list


def test_a_short_run_has_an_interval_too():
    hits = 0
    for seed in range(60):
        found = median(np.random.default_rng(seed).exponential(2.0, 40))
        assert found.low < found.high
        hits += found.low <= 2.0 * np.log(2) <= found.high
    assert hits >= 48
