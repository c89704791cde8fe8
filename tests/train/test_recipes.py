"""Every recipe builds its network and method and takes a step that learns."""

import re
from pathlib import Path

import pytest
import torch

from okdhp_edge.artifacts.card import SkeletonSpec
from okdhp_edge.artifacts.model_store import (
    SHIPPED_DETECTOR,
    SHIPPED_FLOAT_MODELS,
    resolve_recipe,
)
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import COCO17, LSP14, MPII16
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.checkpoint import CheckpointInfo
from okdhp_edge.recipe.recipe import Recipe, read_recipe
from okdhp_edge.train.methods import build_method
from okdhp_edge.train.schedule import build_optimizer
from okdhp_edge.train.step import TrainingStep, Uncast
from tests.conftest import REPOSITORY
from tests.helpers.fixed_net import made_batch

# Of those that import a network nothing is trained; their file is in no repository.
RECIPES = sorted(
    path
    for path in (*REPOSITORY.glob("models/*/recipe.toml"), *REPOSITORY.glob("recipes/*/*.toml"))
    if path.parent.name not in (*SHIPPED_FLOAT_MODELS, SHIPPED_DETECTOR)
)
PAPER = REPOSITORY / "recipes" / "paper"


def _skeleton(recipe: Recipe):
    return MPII16 if "mpii" in recipe.name else COCO17 if "coco" in recipe.name else LSP14


def _small(recipe: Recipe) -> Recipe:
    """On 64x64 crops: the same layers and losses, a sixteenth of the work."""
    return recipe.model_copy(update={"input": recipe.input.model_copy(update={"size": (64, 64)})})


def _untrained(recipe: Recipe, path: Path) -> None:
    """A checkpoint of a recipe as `train` would leave it, but for the training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    net = build_network(recipe.network, len(LSP14), load_encoder=False)
    facts = CheckpointInfo(
        recipe=recipe, data="lspet:PATH", metric="pck@0.2", skeleton=SkeletonSpec.of(LSP14),
        epochs_done=1, scores={"branch0": 1.0}, best_branch=0, best_score=1.0, version="0",
    )  # fmt: skip
    checkpoint.save(path, facts, net)


def _with_teachers(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its teachers standing in `folder`."""
    text = recipe.model_dump_json()
    for name in set(re.findall(r'"models/([^/"]+)/best\.safetensors"', text)):
        teacher = read_recipe(resolve_recipe(f"lab/{name.removeprefix('lab-')}"))
        _untrained(_small(teacher), folder / name / "best.safetensors")
        text = text.replace(f'"models/{name}/', f'"{folder}/{name}/')
    return Recipe.model_validate_json(text)


def _step(recipe: Recipe):
    torch.manual_seed(0)
    skeleton = _skeleton(recipe)
    net, method = build_network(recipe.network, len(skeleton)), build_method(recipe, skeleton)
    method.prepare(net)
    model = TrainingStep(net, method).train()
    optimizer = build_optimizer(model, recipe.optimizer)
    before = [p.detach().clone() for p in net.branches[0].parameters()]
    width, height = recipe.input.size
    crops = 2 * recipe.augmentation.views
    channels = 4 if method.reads_mask or recipe.network.mask else 3
    joints = (crops, len(skeleton))
    batch = made_batch(crops)._replace(
        image=torch.randint(0, 256, (crops, height, width, channels), dtype=torch.uint8),
        xy=torch.rand(*joints, 2) * (min(width, height) // 4 - 1),
        weight=torch.ones(joints),
    )
    terms = model(Uncast(batch), 1.0, measure=False).terms
    sum(terms.values()).backward()
    optimizer.step()
    after = list(net.branches[0].parameters())
    return terms, any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_recipe_takes_a_step(path, tmp_path):
    recipe = _with_teachers(_small(read_recipe(path)), tmp_path)
    terms, moved = _step(recipe)
    assert moved
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hg4-mpii", "mobilepose-mobilenetv2-coco"])
def test_a_published_recipe_takes_a_step_at_its_own_size(name):
    recipe = read_recipe(resolve_recipe(f"paper/{name}"))
    terms, moved = _step(recipe)
    assert moved
    assert set(terms) == {"hard", "ensemble", "kd"}


def test_the_papers_recipes_are_all_there():
    names = {p.stem for p in PAPER.glob("*.toml")}
    nets = [f"hg{n}" for n in (2, 4, 8)]
    nets += [f"mobilepose-{e}" for e in ("resnet18", "mobilenetv2", "shufflenetv2")]
    expected = {
        f"{net}-{data}{balance}"
        for net in nets for data in ("mpii", "coco") for balance in ("", "-unbalanced")
    }  # fmt: skip
    assert expected == names
    for name in expected:
        assert "Not run here" in (PAPER / f"{name}.toml").read_text()
        recipe = read_recipe(PAPER / f"{name}.toml")
        balanced = len(set(recipe.network.branches)) == 1
        assert balanced == (not name.endswith("unbalanced"))


@pytest.mark.parametrize("method", ["supervised", "okdhp", "okddip", "fpd", "odkd", "selfkd"])
def test_every_method_has_a_recipe(method):
    assert any(read_recipe(p).distillation.method == method for p in RECIPES)
