import json
import subprocess
import sys

import pytest

from okdhp_edge.artifacts import result_files
from okdhp_edge.artifacts.result_files import add_result
from okdhp_edge.errors import DataError

ONE = {"model": "m", "backend": "b", "precision": "int8", "data": "d", "split": "val",
       "metric": "pck@0.2", "value": 50.0}  # fmt: skip


def test_a_measurement_replaces_its_elder_and_stands_beside_others(tmp_path):
    file = tmp_path / "results.json"
    for change in ({}, {"split": "test"}, {"value": 51.0}):
        add_result(file, {**ONE, **change})
    results = json.loads(file.read_text())["results"]
    assert [(r["split"], r["value"]) for r in results] == [("test", 50.0), ("val", 51.0)]


def test_processes_that_record_at_once_lose_nothing(tmp_path):
    file = tmp_path / "results.json"
    script = (
        "import sys; from pathlib import Path\n"
        "from okdhp_edge.artifacts.result_files import add_result\n"
        f"for i in range(8): add_result(Path({str(file)!r}),"
        " {'model': 'm', 'split': sys.argv[1] + str(i), 'value': 1.0})\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert len(json.loads(file.read_text())["results"]) == 16


def test_each_result_names_the_machine_that_it_was_measured_on(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    for machine, split in (("first", "val"), ("second", "test")):
        monkeypatch.setattr(result_files, "describe_machine", lambda machine=machine: machine)
        add_result(file, {**ONE, "split": split})
    results = json.loads(file.read_text())["results"]
    assert {r["split"]: r["machine"] for r in results} == {"val": "first", "test": "second"}


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "r.json").write_text('{"important": 1}')
    with pytest.raises(DataError, match="not a results file"):
        add_result(tmp_path / "r.json", ONE)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"results": 3}', '{"results": [3]}', "\xff"])
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / "r.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="not a results file"):
        add_result(tmp_path / "r.json", ONE)
