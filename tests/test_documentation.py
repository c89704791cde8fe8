"""What README and docs/ say is so: links lead somewhere, commands exist, examples run."""

import csv
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from okdhp_edge import doctor
from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends import registry
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.backends.selection import list_available_choices
from okdhp_edge.cli.main import app
from okdhp_edge.data import load as data_load
from okdhp_edge.data.load import load
from okdhp_edge.inference.person_detector import PersonDetector
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import ENCODERS
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.recipe.distillation import METHODS
from okdhp_edge.run.sinks.registry import SINKS
from okdhp_edge.train.methods import build_method
from tests.conftest import REPOSITORY
from tests.helpers.fixed_net import made_batch
from tests.helpers.made_detector import constant_detector
from tests.helpers.tiny_models import tiny_recipe

PAGES = sorted([
    REPOSITORY / "README.md", *REPOSITORY.glob(".github/*.md"), *REPOSITORY.glob("docs/*.md"),
    *REPOSITORY.glob("models/**/*.md"), *REPOSITORY.glob("recipes/*.md"),
    *REPOSITORY.glob("benchmarks/*.md"), *REPOSITORY.glob("calibration/*.md"),
])  # fmt: skip
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
_PATH = re.compile(
    r"`((?:models|benchmarks|recipes|okdhp_edge|tests|docs|deploy|calibration|\.github)/[\w./-]+\.\w+)`"
)
# Written by a command, in the example of a page.
_MADE = re.compile(r"best\.safetensors|last\.safetensors|^models/(lite-tuned|demo|lab-)|people_csv")


def _name(page):
    return str(page.relative_to(REPOSITORY))


def _commands(text, start):
    """Shell commands of a page that begin so, continued lines joined."""
    text = text.replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    for line in [*blocks, *inline]:
        for part in re.split(r" \| | && ", line.split(" # ")[0].split("   #")[0]):
            if part.strip().startswith(start):
                yield part.strip()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    gone = [target for target, _ in _LINK.findall(text)
            if target and not (page.parent / target).exists()]  # fmt: skip
    gone += [path for path in _PATH.findall(text)
             if not _MADE.search(path) and not (REPOSITORY / path).exists()]  # fmt: skip
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_are_understood(page):
    """Every `okdhp-edge` command of a page names a command and options that exist."""
    group = typer.main.get_command(app)
    for text in _commands(page.read_text(encoding="utf-8"), "okdhp-edge "):
        words = [word for word in shlex.split(text)[1:] if word not in ("...", "…")]
        command, path = group, []
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            path.append(words.pop(0))
            command = command.commands.get(path[-1])
            assert command is not None, text
        known = {option for parameter in command.params for option in parameter.opts}
        known |= {o for parameter in command.params for o in parameter.secondary_opts} | {"--help"}
        unknown = {w.split("=")[0] for w in words if w.startswith("--")} - known
        assert not unknown - {"--install-completion", "--version"}, text


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_scripts_and_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    for command in _commands(text, "python benchmarks/"):
        script, *words = shlex.split(command)[1:]
        source = (REPOSITORY / script).read_text(encoding="utf-8")
        for option in (w for w in words if w.startswith("--")):
            named = option in source or f"{option[2:].replace('-', '_')}: " in source
            assert named, f"{script} has no {option}"
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for command in _commands(text, "make "):
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize(
    "script",
    [
        *REPOSITORY.glob("benchmarks/*/*.py"),
        *REPOSITORY.glob("tools/*.py"),
        *REPOSITORY.glob("models/p*/*.py"),
    ],
    ids=lambda script: script.stem,
)
def test_scripts_find_what_they_import(script, monkeypatch):
    """They run seldom; a name that moved would be noticed late."""
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="imported")


def test_the_documentation_builds(tmp_path):
    """Strictly: a dead link between pages, an unknown name in the API, fails."""
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    built_page = tmp_path / "build" / "docs" / "api" / "index.html"
    assert "xy" in built_page.read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("image.jpg", np.full((96, 128, 3), 90, np.uint8))
    (code,) = _python("README.md")
    found = {}
    exec(code, found)  # noqa: S102
    assert found["poses"] == []


def _python(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def example(monkeypatch):
    """Runs a page's module under a name, then the lines that register it."""

    def run(number, name):
        blocks = _python("docs/extending.md")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(blocks[2 * number], module.__dict__)  # noqa: S102
        exec(blocks[2 * number + 1], {})  # noqa: S102
        return module

    return run


def test_a_runtime_is_added_as_the_page_says(example, quantized):
    example(0, "okdhp_edge.backends.reference")
    try:
        folder = quantized.parent / "fp32"
        card = read_card(folder)
        rng = np.random.default_rng(0)
        size = (2, card.input.height, card.input.width, 3)
        images = rng.integers(0, 256, size, dtype=np.uint8)
        found = []
        for name in ("reference", "onnxruntime"):
            with open_backend(name, BackendConfig(folder, card, "fp32")) as backend:
                found.append(backend.infer_all(images))
        np.testing.assert_allclose(*found, atol=1e-3)
        # All that asks the record knows it.
        assert registry.list_ranked()[-1] == "reference"
        assert ("reference", "fp32") in list_available_choices(quantized.parent)
        assert "reference" in {check.what for check in doctor.run_checks()}
    finally:
        registry.REGISTRY.pop("reference", None)


def test_a_data_format_is_added_as_the_page_says(example, tmp_path):
    example(1, "okdhp_edge.data.people_csv")
    try:
        cv2.imwrite(str(tmp_path / "a.jpg"), np.full((96, 128, 3), 90, np.uint8))
        joints = ["nose", "left_hip", "right_hip"]
        with (tmp_path / "people.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", *(name for joint in joints for name in [joint] * 3)])
            writer.writerow(["a.jpg", 10, 20, 1, 30, 60, 1, 20, 60, 0])
        poses = load(f"csv:{tmp_path}/people.csv", "all")
        assert poses.skeleton.joints == tuple(joints)
        assert poses.samples[0].labelled.tolist() == [True, True, False]
        assert poses.samples[0].image.read().shape == (96, 128, 3)
    finally:
        data_load.DATASET_LOADERS.pop("csv", None)


def test_a_method_is_added_as_the_page_says(example):
    module = example(2, "okdhp_edge.train.methods.mutual")
    try:
        recipe = tiny_recipe(distillation={"method": "mutual"})
        net = build_network(recipe.network, len(LSP14), load_encoder=False)
        method = build_method(recipe, LSP14)
        assert isinstance(method, module.Mutual)
        losses = method(net, made_batch(2), 0.0)
        assert torch.isfinite(sum(losses.terms.values()))
        assert losses.terms["kd"] > 0
    finally:
        METHODS.pop("mutual", None)


def test_an_encoder_is_added_as_the_page_says(example):
    example(3, "okdhp_edge.network.encoders.tiny")
    try:
        config = {"kind": "mobilepose", "encoder": "tiny", "branches": [1, 1]}
        recipe = tiny_recipe(network=config, distillation={"method": "okdhp"})
        net = build_network(recipe.network, len(LSP14), load_encoder=True)
        losses = build_method(recipe, LSP14)(net, made_batch(2), 0.0)
        sum(losses.terms.values()).backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    finally:
        ENCODERS.pop("tiny", None)


def test_an_output_is_added_as_the_page_says(example, tmp_path, monkeypatch):
    example(4, "okdhp_edge.run.sinks.counts")
    monkeypatch.chdir(tmp_path)
    try:
        words = ["run", "--source", "synthetic:6", "--model", "lite", "--no-window"]
        found = CliRunner().invoke(app, [*words, "--write", "counts:people.txt"])
        assert found.exit_code == 0, found.stderr
        lines = (tmp_path / "people.txt").read_text().splitlines()
        assert [line.split()[0] for line in lines] == [str(i) for i in range(6)]
        wrong = CliRunner().invoke(app, [*words, "--write", "paint:people.txt"])
        assert wrong.exit_code == 1 and "save, json, coco, csv, counts" in wrong.stderr
    finally:
        SINKS.pop("counts", None)


def test_a_detector_is_described_as_the_page_says(tmp_path):
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    (described,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    # Two candidates of 64x64 pixels: x, y, x, y, and the scores of two classes.
    rows = np.array([[8, 16, 40, 56, 0.9, 0.1], [0, 0, 9, 9, 0.1, 0.8]], np.float32)
    file = constant_detector(tmp_path / "d.onnx", rows)
    file.with_suffix(".toml").write_text(described)
    (found,) = PersonDetector(file)(np.zeros((128, 128, 3), np.uint8))
    np.testing.assert_allclose(found.box, [16, 32, 64, 80], atol=1)
    assert found.score == pytest.approx(0.9)
