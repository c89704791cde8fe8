"""Segments to one table."""

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.plan import OVERLAP_S, Segment
from okdhp_edge.batch.sources import BatchSource
from tests.helpers.archives import join_whole, make_part_file, pose


def test_ids_stay_whole_across_a_cut_and_each_frame_comes_once():
    source = BatchSource("v.mp4", "v")
    first, second = Segment(source, 0, 0.0, 5.0), Segment(source, 1, 5.0, None)
    # Two people; the second segment numbers them the other way round, and a third comes in.
    early = [i / 10 for i in range(50)]
    late = [round(5 - OVERLAP_S + i / 10, 4) for i in range(40)]
    parts = [
        make_part_file(first, early, lambda t: [pose(0, 0), pose(200, 1)]),
        make_part_file(second, late, lambda t: [pose(200, 0), pose(0, 1)]
                  + ([pose(500, 2)] if t > 6 else [])),
    ]  # fmt: skip
    table, frames = join_whole([first, second], parts)
    rows = table.to_pylist()
    assert frames == 50 + 20
    assert sorted({r["frame"] for r in rows}) == list(range(70))
    for row in rows:
        expected = {0: 0, 200: 1, 500: 2}[round(row["box_x"] / 100) * 100]
        assert row["person"] == expected


def test_people_of_different_images_are_never_one():
    source = BatchSource("d", "d", tuple(map(str, range(6))))
    segments = [Segment(source, 0, 0, 3), Segment(source, 1, 3, 6)]
    parts = [
        make_part_file(
            s, [s.start, s.start + 2], lambda t: [pose(0, int(t))], [s.start, s.start + 2]
        )
        for s in segments
    ]
    table, frames = join_whole(segments, parts)
    assert frames == 4
    assert table["person"].to_pylist() == [0, 1, 2, 3]
    assert table["frame"].to_pylist() == [0, 2, 3, 5]
