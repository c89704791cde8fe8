"""The published method, and what we add to it."""

import numpy as np
import pytest
import torch

from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.train.losses import count_labelled, pixelwise_kl, ramp
from okdhp_edge.train.methods import build_method
from okdhp_edge.train.methods.okdhp import blend_with_teacher
from okdhp_edge.train.teacher import TeacherTargets
from okdhp_edge.train.views import average_over_views
from tests.helpers.fixed_net import JOINTS, SIDE, FixedNet, made_batch, recipe_with

FLIP = torch.tensor(LSP14.flip_index.tolist())


def _method(branches=2, views=1, network=None, presence=0.0, **distillation):
    recipe = recipe_with(
        {"method": "okdhp", **distillation},
        network=network
        or {"kind": "hourglass", "width": 8, "shared_stacks": 0, "branches": [1] * branches},
        augmentation={"views": views},
        heatmap={"hard_loss": "ce", "sigma": 1.0, "presence": presence},
    )
    return build_method(recipe, LSP14)


def _log_softmax(maps):
    flat = maps.detach().numpy().reshape(*maps.shape[:2], -1).astype(np.float64)
    return flat - np.log(np.exp(flat).sum(-1, keepdims=True))


def test_the_terms_are_the_papers_in_numpy():
    net, batch = FixedNet(own=(1, 1), shared=1), made_batch()
    network = {"kind": "hourglass", "width": 8, "shared_stacks": 1, "branches": [1, 1]}
    method = _method(network=network, kd_weight=3.0, ensemble_weight=2.0, ramp_epochs=3)
    terms = method(net, batch, 1.5).terms
    w = batch.weight.numpy()
    teacher = _log_softmax(net.outputs.ensemble)
    kl = sum(
        ((np.exp(teacher) * (teacher - _log_softmax(s))).sum(-1) * w).sum() / w.sum()
        for s in net.outputs.supervised()
    )
    assert float(terms["kd"].detach()) == pytest.approx(3 * ramp(1.5, 3) * kl, rel=1e-4)
    ensemble = method.hard(net.outputs.ensemble, batch, batch.weight, 1.0)
    torch.testing.assert_close(terms["ensemble"], 2 * ensemble)


def test_the_released_form_divides_by_batch_and_pixels():
    net, batch = FixedNet(own=(1, 1)), made_batch()
    ours = _method(ramp_epochs=0)(net, batch, 0.0).terms["kd"]
    theirs = _method(ramp_epochs=0, normalisation="released")(net, batch, 0.0).terms["kd"]
    factor = float(count_labelled(batch.weight)) / (len(batch.image) * SIDE * SIDE)
    assert float(theirs) == pytest.approx(float(ours) * factor, rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("views", [1, 2])
def test_the_kl_moves_the_teacher_only_when_it_is_not_detached(detach, views):
    net, batch = FixedNet(own=(1, 1), crops=4), made_batch(4)
    kd = _method(views=views, detach=detach, ramp_epochs=0)(net, batch, 0.0).terms["kd"]
    (gradient,) = torch.autograd.grad(kd, net.outputs.ensemble, allow_unused=True)
    assert (gradient is None) == detach
    if not detach:
        assert gradient.abs().sum() > 0


def test_the_teacher_may_speak_of_unlabelled_joints():
    net, batch = FixedNet(own=(1, 1)), made_batch()
    for kd_joints, taught in (("labelled", batch.weight > 0), ("all", batch.weight >= 0)):
        kd = _method(kd_joints=kd_joints, ramp_epochs=0)(net, batch, 0.0).terms["kd"]
        (gradient,) = torch.autograd.grad(kd, net.outputs.branches[0])
        assert torch.equal(gradient[:, 0].abs().sum((2, 3)) > 0, taught)


def test_no_weight_no_term():
    terms = _method(kd_weight=0.0, ensemble_weight=0.0)(FixedNet((1, 1)), made_batch(), 9.0).terms
    assert set(terms) == {"hard"}


def test_the_kl_waits_for_its_first_epoch():
    net, batch, method = FixedNet((1, 1)), made_batch(), _method(start_epoch=2, ramp_epochs=1)
    early, late = (method(net, batch, e).terms for e in (1.9, 3.0))
    assert "kd" not in early  # nor is its teacher run
    assert float(late["kd"]) > 0


def test_all_views_teach_each_view():
    net, batch = FixedNet(own=(1, 1), crops=4), made_batch(4)
    batch = batch._replace(mirrored=torch.tensor([True, False, False, False]))
    kd = _method(views=2, ramp_epochs=0)(net, batch, 0.0).terms["kd"]
    teacher = average_over_views(net.outputs.ensemble, batch, 2, FLIP)
    total = count_labelled(batch.weight)
    expected = sum(
        pixelwise_kl(net.outputs.last(b), teacher, batch.weight, total, 1.0) for b in range(2)
    )
    torch.testing.assert_close(kd, expected)
    alone = _method(views=2, ramp_epochs=0, joint_views=False)(net, batch, 0.0).terms["kd"]
    assert not torch.isclose(kd, alone)


def test_own_views_keep_a_branch_from_the_others_labels():
    net, batch = FixedNet(own=(1, 1), crops=4), made_batch(4)
    hard = _method(views=2, own_view=True)(net, batch, 0.0).terms["hard"]
    first, second = torch.autograd.grad(hard, net.outputs.branches)
    assert first[:2].any() and not first[2:].any()
    assert second[2:].any() and not second[:2].any()


def test_own_views_keep_a_branch_from_the_others_absent_joints():
    net, batch = FixedNet(own=(1, 1), crops=4), made_batch(4)
    absent = torch.ones_like(batch.weight)
    batch = batch._replace(weight=torch.zeros_like(absent), absent=absent)
    method = _method(views=2, presence=0.3, own_view=True)
    hard = method(net, batch, 0.0).terms["hard"]
    first, second = torch.autograd.grad(hard, net.outputs.branches)
    assert first[:2].any() and not first[2:].any()
    assert second[2:].any() and not second[:2].any()


def test_a_moving_average_joins_the_teacher_and_follows_the_weights():
    network = {"kind": "hourglass", "width": 8, "shared_stacks": 0, "branches": [1, 1]}
    method = _method(network=network, ema_peer=0.75, ema_share=0.25, ramp_epochs=0)
    net = build_network(method.recipe.network, JOINTS)
    method.prepare(net)
    assert not [p for p in method.parameters() if p.requires_grad]
    weight, average = net.trunk.stem.conv.weight, method.average.module.trunk.stem.conv.weight
    before = weight.detach().clone()
    method.after_step(net)
    with torch.no_grad():
        weight += 1
    method.after_step(net)
    # The second of the updates whose decay rises to 0.75.
    torch.testing.assert_close(average, before + 9 / 11)
    for _ in range(50):
        method.after_step(net)
    torch.testing.assert_close(average, weight)
    with torch.no_grad():
        weight += 1
    method.after_step(net)
    torch.testing.assert_close(average, before + 1.25)
    batch = made_batch()
    outputs = net.eval()(batch.image)
    method.on_train_mode(net)
    teacher = method._compute_teacher(outputs, batch, None)
    with torch.no_grad():
        peer = method.average.module(batch.image).ensemble
    torch.testing.assert_close(teacher, 0.75 * outputs.ensemble.detach() + 0.25 * peer)


NETWORK_OF_PEERS = {"kind": "hourglass", "width": 8, "shared_stacks": 0, "branches": [1]}


def _with_peer(**changes):
    table = {"method": "okdhp", "peer_size": [128, 128], "ramp_epochs": 0, **changes}
    recipe = recipe_with(table, network=NETWORK_OF_PEERS)
    net, method = build_network(recipe.network, JOINTS), build_method(recipe, LSP14)
    method.prepare(net)
    batch = made_batch()
    large = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    return net, method, batch._replace(large=large, weight=torch.ones_like(batch.weight))


def test_a_peer_sees_larger_crops_learns_from_labels_and_teaches():
    net, method, batch = _with_peer()
    assert method.large == (128, 128)
    terms = method(net, batch, 0.0).terms
    assert set(terms) == {"hard", "ensemble", "peer", "kd"}
    terms["kd"].backward(retain_graph=True)
    assert net.trunk.stem.conv.weight.grad.any()
    # A teacher gets no gradient from what it teaches, but from the labels.
    assert all(p.grad is None for p in method.peer.parameters())
    terms["peer"].backward()
    assert method.peer.trunk.stem.conv.weight.grad.any()


def test_the_peers_heatmaps_are_brought_to_the_students_grid():
    net, method, batch = _with_peer(peer_share=0.25)
    outputs = net.eval()(batch.image)
    finer = torch.zeros(2, JOINTS, 32, 32)
    finer[:, :, 8:10, 16:18] = 9.0
    teacher = method._compute_teacher(outputs, batch, finer)
    added = (teacher - 0.75 * outputs.ensemble.detach()) / 0.25
    assert added[0, 0].argmax() == 4 * 16 + 8


def test_the_peers_targets_lie_where_the_joints_are_in_its_crop():
    _net, method, batch = _with_peer()
    # Twice the pixels: the middle of pixel 4 lies between pixels 8 and 9.
    batch = batch._replace(xy=torch.full_like(batch.xy, 4.0))
    on_target = torch.full((2, JOINTS, 32, 32), -20.0)
    on_target[:, :, 8:10, 8:10] = 5.0
    beside = on_target.roll(4, dims=3)
    below = on_target.roll(1, dims=2)
    loss = method._compute_peer_loss(on_target, batch)
    assert loss < method._compute_peer_loss(below, batch) < method._compute_peer_loss(beside, batch)


def test_with_quantization_no_teacher_begins_untrained():
    """A model that is trained already would be taught by noise."""
    recipe = recipe_with({"method": "okdhp", "peer_size": [128, 128]}, network=NETWORK_OF_PEERS)
    alone = recipe.model_copy(
        update={"distillation": recipe.distillation.without_trained_teachers()}
    )
    net, method = build_network(alone.network, JOINTS), build_method(alone, LSP14)
    method.prepare(net)
    assert (method.peer, method.large) == (None, None)
    assert set(method(net, made_batch(), 0.0).terms) == {"hard", "ensemble", "kd"}


def test_a_peer_teaches_in_half_precision():
    net, method, batch = _with_peer()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(net, batch, 0.0).terms
    assert torch.isfinite(torch.stack(list(terms.values()))).all()


def test_a_peer_must_see_the_same_shape():
    with pytest.raises(ValueError, match="peer_size"):
        recipe_with({"method": "okdhp", "peer_size": [96, 128]})


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_a_foreign_teacher_has_its_share_of_the_distribution_of_joints_it_knows(temperature):
    ensemble = torch.randn(2, JOINTS, SIDE, SIDE)
    maps = torch.rand(2, JOINTS, SIDE, SIDE)
    maps[0, 1] = 0
    knows = torch.ones(2, JOINTS)
    knows[:, 0] = 0
    targets = TeacherTargets(maps, knows, None)
    blend = blend_with_teacher(ensemble, targets, 0.3, temperature).flatten(2)
    found = (blend / temperature).softmax(2)
    own = (ensemble.flatten(2) / temperature).softmax(2)
    taught = maps.flatten(2)
    expected = 0.7 * own + 0.3 * taught / taught.sum(2, keepdim=True)
    expected[:, 0], expected[0, 1] = own[:, 0], own[0, 1]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
