"""Against small numpy versions of the same formulas."""

import numpy as np
import pytest
import torch

from okdhp_edge.train.losses import count_labelled, hard_loss, pixelwise_kl, ramp

RNG = np.random.default_rng(0)


def _case(batch=3, joints=4):
    maps = torch.tensor(RNG.normal(size=(2, batch, joints, 6, 5)), dtype=torch.float32)
    target = torch.tensor(RNG.uniform(size=(batch, joints, 6, 5)), dtype=torch.float32)
    weight = torch.tensor(RNG.integers(0, 2, (batch, joints)), dtype=torch.float32)
    weight[0, 0] = 1
    return maps[0], maps[1], target, weight


def _log_softmax(x):
    flat = x.reshape(*x.shape[:2], -1).astype(np.float64)
    return flat - np.log(np.exp(flat).sum(-1, keepdims=True))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["mse", "ce"])
def test_hard_losses(kind, batch):
    maps, _, target, weight = _case(batch)
    got = hard_loss(maps, target, weight, count_labelled(weight), kind)
    m, t, w = (v.numpy().astype(np.float64) for v in (maps, target, weight))
    if kind == "mse":
        per_joint = 0.5 * ((m - t) ** 2).mean((2, 3))
    else:
        share = (t / t.sum((2, 3), keepdims=True)).reshape(*t.shape[:2], -1)
        per_joint = -(share * _log_softmax(m)).sum(-1)
    assert float(got) == pytest.approx((per_joint * w).sum() / w.sum(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_pixelwise_kl(temperature):
    student, teacher, _, weight = _case()
    got = pixelwise_kl(student, teacher, weight, count_labelled(weight), temperature)
    p, q = (_log_softmax(v.numpy() / temperature) for v in (teacher, student))
    per_joint = (np.exp(p) * (p - q)).sum(-1)
    w = weight.numpy()
    assert float(got) == pytest.approx((per_joint * w).sum() / w.sum(), rel=1e-4)


def test_kl_of_identical_heatmaps_and_of_unlabelled_joints_is_zero():
    student, teacher, _, weight = _case()
    total = count_labelled(weight)
    assert float(pixelwise_kl(student, student, weight, total, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(pixelwise_kl(student, teacher, weight * 0, total, 1.0)) == 0


def test_unlabelled_joints_move_nothing():
    maps, _, target, weight = _case()
    maps.requires_grad_()
    hard_loss(maps, target, weight, count_labelled(weight), "ce").backward()
    assert not maps.grad[weight == 0].any()
    assert maps.grad[weight == 1].any()


def test_a_batch_without_labels_gives_zero_not_nan():
    maps, _, target, weight = _case()
    weight = weight * 0
    assert float(hard_loss(maps, target, weight, count_labelled(weight), "mse")) == 0


@pytest.mark.parametrize(("epoch", "value"), [(0, 0.006738), (5, 0.286505), (10, 1), (20, 1)])
def test_ramp(epoch, value):
    assert ramp(epoch, 10) == pytest.approx(value, abs=1e-6)


def test_a_ramp_of_no_length_starts_at_full_weight():
    assert ramp(0, 0) == 1


def test_at_temperature_one_the_kl_of_mse_heatmaps_is_almost_inert():
    """The published recipe's fault, in its own normalisation: /(B * H * W)."""
    from okdhp_edge.pose.heatmap import gaussians

    ratios = {}
    for beta in (1, 5, 10):
        rng = np.random.default_rng(1)
        truth = np.stack([gaussians(rng.uniform(8, 56, (16, 2)), (64, 64), 2.0) for _ in range(8)])
        noisy = [torch.tensor(truth + rng.normal(0, 0.02, truth.shape), dtype=torch.float32)
                 for _ in range(2)]  # fmt: skip
        noisy[0] = (0.8 * noisy[0]).requires_grad_()
        weight = torch.ones(8, 16)
        kl = pixelwise_kl(noisy[0], noisy[1], weight, torch.tensor(8.0 * 64 * 64), 1 / beta)
        mse = hard_loss(noisy[0], torch.tensor(truth), weight, weight.sum(), "mse")
        g_kl, g_mse = (torch.autograd.grad(v, noisy[0])[0].norm() for v in (kl, mse))
        ratios[beta] = float(g_kl / g_mse)
    assert ratios[1] < 0.02
    assert ratios[5] > 20 * ratios[1]
    assert ratios[10] > ratios[5]
