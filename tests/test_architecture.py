"""The house keeps its plan."""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "okdhp_edge"
FILES = sorted(PACKAGE.rglob("*.py"))
BANNED_NAMES = {"utils", "util", "common", "core", "misc", "helpers"}
MAX_LINES, MAX_FUNCTION = 320, 60


def test_no_drawer_for_everything():
    assert not [f for f in FILES if f.stem in BANNED_NAMES or f.parent.name in BANNED_NAMES]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(file):
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < MAX_FUNCTION, node.name


def test_every_module_says_what_it_is_for():
    assert not [f for f in FILES if not ast.get_docstring(ast.parse(f.read_text()))]


def test_tests_mirror_the_package():
    packages = {f.parent.relative_to(PACKAGE) for f in FILES}
    for package in packages:
        folder = REPOSITORY / "tests" / package
        assert list(folder.glob("test_*.py")), f"no tests for {package}"
    for test in (REPOSITORY / "tests").rglob("test_*.py"):
        parent = test.parent.relative_to(REPOSITORY / "tests")
        assert (PACKAGE / parent).is_dir()


def test_no_large_file_is_tracked():
    import subprocess

    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True,
                           text=True, check=True).stdout.split("\0")  # fmt: skip
    large = {
        n
        for n in filter(None, names)
        if Path(REPOSITORY / n).is_file() and Path(REPOSITORY / n).stat().st_size > 500_000
    }
    assert {n for n in large if not n.startswith("models/lite/int8/")} == set()
    assert sum((REPOSITORY / n).stat().st_size for n in large) < 12e6
