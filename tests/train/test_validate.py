"""How much the branches differ."""

import numpy as np
import pytest
import torch

from okdhp_edge.data.load import load
from okdhp_edge.train.open_teacher import load_checkpoint
from okdhp_edge.train.validate import compute_agreement, make_predictor, validate
from tests.helpers.tiny_models import tiny_recipe

POSES = load("synthetic:40", "val")


def _truth():
    return np.stack([s.xy for s in POSES.samples])


def test_branches_that_say_the_same_agree():
    assert compute_agreement(POSES, {"branch0": _truth(), "branch1": _truth()}) == 1.0


def test_joints_far_apart_do_not_agree():
    moved = _truth()
    moved[:, :7] += 100
    assert compute_agreement(POSES, {"branch0": _truth(), "branch1": moved}) == pytest.approx(0.5)


def test_all_outputs_are_judged_and_the_mode_is_left_alone(trained):
    net, facts = load_checkpoint(trained)
    net.train()
    recipe, done = tiny_recipe(), []
    found = validate(net, POSES, recipe.input_spec(), recipe.decoder_spec(), "pck@0.2", done.append)
    assert set(found.scores) == set(facts.scores)
    assert done == sorted(set(done)) and done[-1] == len(POSES)
    assert 0 <= found.agreement <= 1
    best = max(found.scores[b] for b in ("branch0", "branch1"))
    assert found.ensemble_gain == pytest.approx(found.scores["ensemble"] - best)
    assert net.training


def test_outputs_are_named_by_branch(trained):
    net, _ = load_checkpoint(trained)
    crops = np.zeros((2, 64, 64, 3), np.uint8)
    outputs = make_predictor(net, torch.device("cpu"))(crops)
    assert {k: v.shape for k, v in outputs.items()} == dict.fromkeys(
        ("branch0", "branch1", "ensemble"), (2, 14, 16, 16)
    )
