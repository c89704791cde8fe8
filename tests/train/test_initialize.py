"""Going on from trained weights: what is kept, what begins anew, what stays as it is."""

import shutil
from dataclasses import replace

import pytest
import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import MobilePoseConfig
from okdhp_edge.pose.skeleton import LSP14, Skeleton
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.checkpoint import load_net_tensors, read_info
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.recipe.tables import FreezeTable, SkeletonTable
from okdhp_edge.train.finetune import make_finetuning_recipe
from okdhp_edge.train.freeze import freeze, keep_frozen
from okdhp_edge.train.initialize import initialize_from
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, tiny_recipe

GYMNAST = Skeleton("gymnast", ("tip", "left_ankle", "right_ankle", "left_wrist", "right_wrist"))


def _started(trained, skeleton):
    config = read_info(trained).recipe.network
    torch.manual_seed(0)
    net = build_network(config, len(skeleton))
    return net, initialize_from(trained, net, config, skeleton), config


def test_joints_known_by_name_keep_their_channels_and_others_begin_anew(trained):
    torch.manual_seed(0)
    fresh = build_network(read_info(trained).recipe.network, len(GYMNAST)).state_dict()
    net, begun, _ = _started(trained, GYMNAST)
    assert begun.kept == GYMNAST.joints[1:] and begun.reinitialized == ("tip",)
    assert "reinitialized: tip" in str(begun)
    theirs, mine = load_net_tensors(trained), net.state_dict()
    columns = GYMNAST.find_columns(LSP14)
    grown = [n for n, t in mine.items() if t.shape != theirs[n].shape]
    assert grown
    for name in mine:
        if name not in grown:
            assert torch.equal(mine[name], theirs[name]), name
            continue
        axis = next(a for a, size in enumerate(mine[name].shape) if size != theirs[name].shape[a])
        for place, column in enumerate(columns):
            part = mine[name].select(axis, place)
            source = (
                fresh[name].select(axis, place)
                if column < 0
                else theirs[name].select(axis, int(column))
            )
            assert torch.equal(part, source), (name, place)


def test_the_order_of_joints_does_not_matter(trained):
    turned = Skeleton("turned", LSP14.joints[::-1])
    net, begun, _ = _started(trained, turned)
    straight, _, _ = _started(trained, LSP14)
    assert not begun.reinitialized and not begun.left
    image = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        a, b = (n.eval()(image).last(0) for n in (net, straight))
    assert torch.allclose(a.flip(1), b, atol=1e-5)


def test_another_network_is_no_start(trained):
    config = MobilePoseConfig(kind="mobilepose")
    with pytest.raises(RecipeError, match="differs from the recipe's"):
        initialize_from(trained, build_network(config, 5), config, GYMNAST)


@pytest.mark.parametrize("neck", [None, 4])
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_frozen_layers_and_norms_stay_as_they_are(neck, stride):
    net = build_network(MobilePoseConfig(kind="mobilepose", neck=neck, branches=(1,)), 3)
    table = FreezeTable(to_stride=stride, norms=True)
    freeze(net, table)
    net.train()
    keep_frozen(net, table)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1)
    image = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    net(image).last(0).square().sum().backward()
    optimizer.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not any("running" in k or "_bn" in k for k in changed)
    first = next(n for n, _ in net.named_parameters())
    assert first not in changed
    fewer = build_network(MobilePoseConfig(kind="mobilepose", neck=neck, branches=(1,)), 3)
    freeze(fewer, FreezeTable(to_stride=2))
    frozen = sum(not p.requires_grad for p in net.trunk.parameters())
    assert frozen >= sum(not p.requires_grad for p in fewer.trunk.parameters())


def test_layers_that_branches_do_not_share_are_frozen_too():
    config = MobilePoseConfig(kind="mobilepose", branches=(1, 1), share_to=4)
    whole, split = (
        build_network(c, 3) for c in (config.model_copy(update={"share_to": None}), config)
    )
    for net in (whole, split):
        freeze(net, FreezeTable(to_stride=8))
    frozen = [sum(not p.requires_grad for p in net.parameters()) for net in (whole, split)]
    shared = sum(not p.requires_grad for p in split.trunk.parameters())
    assert shared < frozen[0]
    assert frozen[1] == shared + 2 * (frozen[0] - shared)


def test_a_stride_that_freezes_nothing_is_refused():
    config = MobilePoseConfig(kind="mobilepose", encoder="resnet18", branches=(1,))
    net = build_network(config, 3, load_encoder=False)
    with pytest.raises(RecipeError, match=r"freeze\.to_stride = 2 freezes nothing"):
        freeze(net, FreezeTable(to_stride=2))


def test_looking_for_strides_leaves_frozen_layers_frozen():
    config = MobilePoseConfig(kind="mobilepose", encoder="resnet18", branches=(1,))
    net = build_network(config, 3, load_encoder=False)
    net.trunk.eval()
    keep_frozen(net, FreezeTable(to_stride=4))
    assert not any(module.training for module in net.trunk.modules())


def test_an_hourglass_freezes_its_stem(trained):
    net = build_network(tiny_recipe().network, 14)
    freeze(net, FreezeTable(to_stride=4))
    assert not any(p.requires_grad for p in net.trunk.stem.parameters())
    assert any(p.requires_grad for p in net.branches.parameters())


@pytest.mark.parametrize("persons", [1, 5, 20, 100, 500, 5000])
def test_a_schedule_by_the_size_of_the_set(trained, persons):
    recipe = make_finetuning_recipe(str(trained), persons)
    optimizer = recipe.optimizer
    steps = optimizer.epochs * max(1, persons // optimizer.batch_size)
    assert 200 <= steps <= 5000 or persons < 5
    assert optimizer.batch_size <= persons or persons == 1
    assert optimizer.patience < optimizer.epochs
    assert bool(recipe.freeze.to_stride) == (persons <= 300)
    assert recipe.network == read_info(trained).recipe.network


def test_a_network_from_a_file_and_any_file_name_can_be_fine_tuned(trained, tmp_path, monkeypatch):
    assert make_finetuning_recipe("large", 20).freeze == FreezeTable(norms=True)
    monkeypatch.chdir(tmp_path)
    for name in ("weights (1).safetensors", "-.safetensors"):
        shutil.copy(trained, name)
        recipe = make_finetuning_recipe(name, 20)
        assert Recipe.model_validate(recipe.model_dump()).name == recipe.name


def test_pairs_of_joints_that_the_data_lacks_are_left_out(trained, monkeypatch):
    facts = read_info(trained)
    pairs = (("left_hip", "right_hip"), ("fin", "tail"))
    paired = facts.recipe.model_copy(update={"skeleton": SkeletonTable(pairs=pairs)})
    changed = facts.model_copy(update={"recipe": paired})
    monkeypatch.setattr(checkpoint, "read_info", lambda _: changed)
    recipe = make_finetuning_recipe(str(trained), 20, joints=["fin", "tail", "left_hip"])
    assert recipe.skeleton.pairs == (("fin", "tail"),)


def test_a_run_ends_when_val_no_longer_rises(tmp_path):
    recipe = tiny_recipe(optimizer={"epochs": 9, "batch_size": 16, "lr": 1e-9, "patience": 2})
    options = TrainingOptions(out=tmp_path / "m", device="cpu", workers=0)
    best = train(recipe, DATA, options)
    rows = (tmp_path / "m" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == read_info(best).epochs_done + 2 < 9
    # It has ended: going on does nothing more.
    train(recipe, DATA, replace(options, resume=True))
    assert len((tmp_path / "m" / "metrics.csv").read_text().splitlines()[1:]) == len(rows)
