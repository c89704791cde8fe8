"""The table of a source, and how it is read."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.table import FrameRecord, RowCollector, make_table, to_parquet
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14
from tests.conftest import REPOSITORY
from tests.helpers.archives import pose


def test_poses_of_a_long_video_become_columns_on_the_way():
    rows = RowCollector("v.mp4", LSP14)
    for number in range(1300):
        rows.add(number, FrameRecord(number / 30, "", [pose(0, 7)] if number % 2 else []))
        assert len(rows._frames) < 600
    table = rows.make_table()
    assert table["frame"].to_pylist() == list(range(1, 1300, 2))
    assert len(rows.times) == 1300 and table == rows.make_table()


@pytest.mark.parametrize("library", ["duckdb", "polars", "pandas"])
def test_the_result_is_read_as_the_page_shows(tmp_path, monkeypatch, library):
    """Of 30 frames the knee is bent in 15."""
    pytest.importorskip(library, reason=f"needs {library}: pip install okdhp-edge[test]")
    monkeypatch.chdir(tmp_path)
    hip, knee, ankle = (LSP14.joints.index(f"left_{joint}") for joint in ("hip", "knee", "ankle"))

    def person(bent: bool) -> Pose:
        xy = np.zeros((14, 2), np.float32)
        xy[hip], xy[knee], xy[ankle] = (0, 0), (0, 10), (9, 5) if bent else (1, 20)
        return Pose(LSP14, xy, np.full(14, 0.9, np.float32))

    frames = [(i, FrameRecord(i / 30, "", [person(i % 2 == 0)])) for i in range(30)]
    Path("poses").mkdir()
    Path("poses/v.parquet").write_bytes(to_parquet(make_table("v.mp4", frames, LSP14), {}))
    page = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
    if library == "duckdb":
        import duckdb

        (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
        assert duckdb.sql(query).fetchall() == [("v.mp4", 0.5)]
        return
    codes = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if library in c]
    printed = []
    exec(codes[0], {"print": printed.append})  # noqa: S102
    assert "v.mp4" in str(printed[0]) and "0.5" in str(printed[0])
