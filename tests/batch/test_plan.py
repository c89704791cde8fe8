"""Segments and workers."""

import itertools

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.plan import OVERLAP_S, plan_segments, plan_workers
from okdhp_edge.batch.sources import BatchSource


@pytest.mark.parametrize(
    ("asked", "cores", "expected"),
    [
        ((None, None, None), 4, (3, 1, 1)),
        ((None, None, 20.0), 4, (4, 1, 1)),
        ((None, 2, None), 4, (2, 2, 2)),
        ((2, None, None), 4, (2, 2, 2)),
        ((1, None, None), 4, (1, None, 4)),
        ((1, 1, None), 4, (1, 1, 1)),
        ((8, None, None), 4, (8, 1, 1)),
    ],
)
def test_cores_are_shared_among_no_more_workers_than_there_is_work(asked, cores, expected):
    sources = [BatchSource("a.mp4", "a"), BatchSource("f", "f", ("i.jpg",) * 501)]
    assert plan_workers(sources, *asked, cores)[:3] == expected


@pytest.mark.parametrize(
    ("sources", "segment_s", "is_one"),
    [
        ([BatchSource("a.mp4", "a")], None, True),
        ([BatchSource("f", "f", ("i.jpg",) * 500)], None, True),
        ([BatchSource("f", "f", ("i.jpg",) * 501)], None, False),
        ([BatchSource("a.mp4", "a"), BatchSource("b.mp4", "b")], None, False),
        ([BatchSource("a.mp4", "a")], 20.0, False),
    ],
)
def test_one_piece_of_work_is_known_as_such(sources, segment_s, is_one):
    assert plan_workers(sources, None, None, segment_s, 2).is_one_piece is is_one


def test_segments_cover_a_video_once():
    source = BatchSource("v.mp4", "v")
    segments = plan_segments(source, 100.0, 30.0)
    assert [s.index for s in segments] == [0, 1, 2, 3]
    for a, b in itertools.pairwise(segments):
        assert a.end == b.start and b.begin == b.start - OVERLAP_S
    assert segments[0].begin == 0 and segments[-1].end is None
    assert len(plan_segments(source, 0.0, 30.0)) == len(plan_segments(source, 100.0, None)) == 1
    many = plan_segments(BatchSource("d", "d", tuple(map(str, range(1200)))), 0, None)
    assert [(s.start, s.end) for s in many] == [(0, 500), (500, 1000), (1000, 1200)]
    every_third = plan_segments(many[0].source, 0, None, stride=3)
    assert [(s.start, s.end) for s in every_third] == [(0, 498), (498, 996), (996, 1200)]
