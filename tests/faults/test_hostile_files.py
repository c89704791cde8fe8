"""Files from strangers: read, or refused in one line; never a traceback, a hang or a crash."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.faults.targets import TARGETS, make_valid

COUNT, SEED = 500, 20261126


@pytest.fixture(scope="session")
def valid(tmp_path_factory, exported, trained) -> dict[str, Path]:
    return make_valid(tmp_path_factory.mktemp("valid"), exported, trained)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_valid_file_is_read(valid, target):
    """A target whose valid file is refused would find nothing."""
    target.read(valid[target.name])


def test_five_hundred_broken_files(tmp_path):
    """In a process that has not used a runtime yet: children of one that has may wait for ever for
    threads that they did not inherit."""
    run = subprocess.run(
        [sys.executable, "benchmarks/reliability/fuzz.py", "--cases", str(COUNT),
         "--seed", str(SEED), "--out", str(tmp_path / "counts.json")],
        cwd=REPOSITORY, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    counts = json.loads((tmp_path / "counts.json").read_text())["hostile_files"]
    assert counts["bad"] == 0, run.stdout[:6000]
    assert counts["cases"] == COUNT
    outcomes = {name for kinds in counts["by_target"].values() for name in kinds}
    assert outcomes == {"read", "refused"}
