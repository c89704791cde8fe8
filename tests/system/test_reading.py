"""One reader: regular files of limited size and depth, text with or without a mark."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.system.reading import (
    is_count,
    read_file,
    read_json,
    read_text,
    read_toml,
    read_yaml,
)


@given(st.text(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_text_comes_back_whatever_wrote_it(tmp_path_factory, text, encoding):
    path = tmp_path_factory.mktemp("t") / "f.json"
    path.write_bytes(json.dumps({"k": text}).encode(encoding))
    assert read_json(path) == {"k": text}


@pytest.mark.parametrize("make", ["device", "pipe", "large"])
def test_what_is_no_file_or_too_large_is_refused_at_once(tmp_path, make):
    path = tmp_path / "f"
    if make == "device":
        path.symlink_to("/dev/zero")
    elif make == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(bytes(2000))
    with pytest.raises(ValueError, match="device or pipe|larger than"):
        read_file(path, 1000)


@pytest.mark.parametrize(
    ("reader", "text"),
    [(read_json, "[" * 5000 + "]" * 5000), (read_json, "[" * 500 + "]" * 500),
     (read_json, '{"a": ' * 500 + "1" + "}" * 500), (read_json, "9" * 5000),
     (read_toml, "a = " + "[" * 500 + "]" * 500), (read_yaml, "[" * 500 + "]" * 500),
     (read_yaml, "a: &a [1]\nb: *a"), (read_yaml, "- !!python/object/apply:os.system [x]"),
     (read_json, "{"), (read_toml, "="), (read_yaml, "a: [")],
)  # fmt: skip
def test_depth_aliases_and_broken_text_are_value_errors(tmp_path, reader, text):
    (tmp_path / "f").write_text(text)
    with pytest.raises(ValueError, match="."):
        reader(tmp_path / "f")


def test_missing_files_and_folders_are_os_errors(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(OSError, match="."):
            read_text(path)


@given(st.one_of(st.text(), st.sampled_from(["²", "9" * 5000, "-1", "", "٣", "007"])))
def test_what_counts_is_an_int(text):
    if is_count(text):
        assert 0 <= int(text) < 10**9
