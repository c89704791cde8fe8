"""Rates while a batch runs."""

import re

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.progress import BatchProgress


def test_progress_names_the_rate_of_each_worker(tmp_path):
    notes = []
    progress = BatchProgress(lambda *parts: notes.append(parts), 100, tmp_path)
    progress.update()
    (tmp_path / "1").write_text("30")
    (tmp_path / "2").write_text("20")
    progress.update()
    assert notes[0][:3] == ("frames", 0, 100) and notes[1][:3] == ("frames", 50, 100)
    assert re.fullmatch(r"\d+ FPS \(\d+ \+ \d+ by worker\)", notes[1][3])
