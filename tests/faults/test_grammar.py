"""Well-formed and extreme files through the real command line: read, or one line of error."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
COUNT, SEED = 300, 20261128
CORPUS = REPOSITORY / "tests" / "faults" / "corpus.jsonl"

REPLAY = """
import json, sys
from pathlib import Path
from tests.faults.grammar import GRAMMARS
from tests.faults.grammar_trial import file_names, make_folders, try_content, try_name
root = Path(sys.argv[1])
folders = make_folders(root, Path(sys.argv[2]), Path(sys.argv[3]))
(root / "scratch").mkdir()
by_name = {g.name: g for g in GRAMMARS}
for line in Path(sys.argv[4]).read_text().splitlines():
    case = json.loads(line)
    grammar = by_name[case["grammar"]]
    content = case["content"].encode("latin-1")
    ended = try_content(grammar, folders[grammar.name], root / "scratch", content)
    print(json.dumps([grammar.name, ended.fault, ended.stderr[-500:]]))
for name in ("image", "video"):
    for pattern in file_names.elements:
        ended = try_name(folders[name], root / "scratch", pattern, by_name[name])
        print(json.dumps([f"{name} {pattern!r}", ended.fault, ended.stderr[-500:]]))
"""


def test_three_hundred_extreme_files(tmp_path):
    """In a process of its own: it forks, and must not have started a runtime's threads."""
    run = subprocess.run(
        [sys.executable, "benchmarks/reliability/fuzz_grammar.py", "--cases", str(COUNT),
         "--seed", str(SEED), "--out", str(tmp_path / "counts.json")],
        cwd=REPOSITORY, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    counts = json.loads((tmp_path / "counts.json").read_text())["extreme_files"]
    assert counts["bad"] == 0, run.stdout[:6000]
    assert counts["cases"] == COUNT
    assert len(counts["by_grammar"]) == 14
    for outcomes in counts["by_grammar"].values():
        assert outcomes.keys() <= {"read", "refused"}


def test_what_was_found_once_and_strange_names(tmp_path, exported, trained):
    command = [sys.executable, "-c", REPLAY, str(tmp_path), str(exported), str(trained), CORPUS]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    outcomes = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(outcomes) >= 18
    assert not [o for o in outcomes if o[1]]
