"""A run with many clients at its page, and one that lasts: small versions of the drivers'."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


def _counts(tmp_path, part, script, *options):
    out = tmp_path / "counts.json"
    subprocess.run(
        [sys.executable, f"benchmarks/reliability/{script}", *options, "--out", str(out)],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    return json.loads(out.read_text())[part]


def test_silent_clients_and_viewers_cost_nothing(tmp_path):
    found = _counts(tmp_path, "web", "web_load.py", "--silent", "200", "--viewers", "40",
                    "--seconds", "3", "--rounds", "1")  # fmt: skip
    assert found["received_mib"] > 0
    assert found["rate"] > 0.8  # 0.95 on a quiet machine; others may work here
    assert found["memory_added_mib"] < 50
    assert found["descriptors_after"] < 40


def test_a_run_that_lasts_does_not_grow(tmp_path):
    found = _counts(tmp_path, "soak", "soak.py", "--seconds", "16")
    assert found["frames_of_report"] == found["json_lines"] > 200
    assert found["descriptors_added"] == found["threads_added"] == 0
    assert found["memory_mib_added"] < 20
