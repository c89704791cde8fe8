"""An output that would destroy what is read is refused, however it is spelled."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.errors import OutputError
from okdhp_edge.system.outputs import check_outputs


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "a.jpg").write_text("x")
    (tmp_path / "own" / "labels.json").write_text("x")
    (tmp_path / "link").symlink_to("own")
    os.link(tmp_path / "own" / "images" / "a.jpg", tmp_path / "hard.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _paths(place, *names):
    return [place / name for name in names]


@pytest.mark.parametrize(
    ("output", "source"),
    [("own/labels.json", "own/labels.json"), ("own", "own/labels.json"), ("own", "own/images"),
     (".", "own/images"), ("link/labels.json", "own/labels.json"), ("hard.jpg", "own/images/a.jpg"),
     ("own/images/../labels.json", "own/labels.json"), ("link/images/new", "own/images"),
     ("own/images/b.jpg", "own/images"), ("own/images/out.mp4", "link/images")],
)  # fmt: skip
def test_on_in_or_above_what_is_read(place, output, source):
    with pytest.raises(OutputError, match=r"^--out .*; choose "):
        check_outputs({"--out": place / output}, [place / source])


@pytest.mark.parametrize(
    ("output", "source"),
    [("new", "own/images"), ("own/crops", "own/images"), ("own/poses.json", "own/images"),
     ("own/images/poses.json", "own/images"), ("own/labels.json.new", "own/labels.json"),
     ("own/images2", "own/images"), ("-", "own/labels.json"), ("/dev/null", "own/labels.json")],
)  # fmt: skip
def test_beside_what_is_read(place, output, source):
    check_outputs({"--out": Path(output) if output == "-" else place / output}, [place / source])


def test_two_outputs_in_one_place(place):
    with pytest.raises(OutputError, match="--csv and --json write one file"):
        check_outputs({"--json": place / "own/x.json", "--csv": place / "link/x.json"}, [])
    check_outputs({"--json": place / "x.json", "--csv": None, "--save": place / "x.mp4"}, [])


@given(st.lists(st.sampled_from(["own", "images", "..", ".", "link"]), max_size=6))
def test_a_path_and_its_resolved_form_are_judged_alike(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("p")
    (root / "own" / "images").mkdir(parents=True)
    (root / "link").symlink_to("own")
    path = root.joinpath(*parts)

    def refused(output):
        try:
            check_outputs({"--out": output}, [root / "own" / "images"])
        except OutputError:
            return True
        return False

    assert refused(path) == refused(path.resolve())
