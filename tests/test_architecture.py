"""The house keeps its plan."""

import ast
import graphlib

import pytest

from okdhp_edge.artifacts.model_store import (
    SHIPPED_DETECTOR,
    SHIPPED_FLOAT_MODELS,
    SHIPPED_MODELS,
)
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
        # Faults are tried across the package; packaging is what is around it.
        assert (PACKAGE / parent).is_dir() or parent.name in ("faults", "packaging")


def test_no_large_file_is_tracked():
    import subprocess

    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True,
                           text=True, check=True).stdout.split("\0")  # fmt: skip
    files = {n: REPOSITORY / n for n in names if n and (REPOSITORY / n).is_file()}
    sizes = {n: f.stat().st_size for n, f in files.items()}
    shipped = (*SHIPPED_MODELS, SHIPPED_DETECTOR)
    folders = [
        f"models/{model}/int8/{runtime}/"
        for model in shipped
        if model not in SHIPPED_FLOAT_MODELS
        for runtime in ("openvino", "onnxruntime", "tensorrt")
    ]
    float_folders = [f"models/{model}/fp32/" for model in SHIPPED_FLOAT_MODELS]
    weights = [f"models/{model}/weights.safetensors" for model in shipped]
    assert all(sizes.get(name, 0) <= 8e6 for name in weights)
    known = (*folders, *float_folders, *weights)
    assert not [n for n, s in sizes.items() if s > 500_000 and not n.startswith(known)]
    for folder in folders:
        assert 0 < sum(s for n, s in sizes.items() if n.startswith(folder)) < 6e6
    for folder in float_folders:
        assert 0 < sum(s for n, s in sizes.items() if n.startswith(folder)) < 11e6


def test_no_modules_import_one_another_in_a_circle():
    """Imports inside functions and for types count too."""
    imported = {
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): {
            name for node in ast.walk(ast.parse(file.read_text())) for name in _modules(node)
        }
        for file in FILES
    }
    sorter = graphlib.TopologicalSorter(
        {name: {other for other in others if other in imported and other != name}
         for name, others in imported.items()}
    )  # fmt: skip
    sorter.prepare()


def _modules(node):
    """`okdhp_edge` modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []
