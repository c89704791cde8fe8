"""Fake quantization against numpy, on the network's own weights, where the Q/DQ nodes will be."""

import numpy as np
import pytest
import torch

from okdhp_edge.network.branches import SingleBranch, evaluating
from okdhp_edge.network.build import build_network
from okdhp_edge.network.fake_quant import (
    ActivationQuantizer,
    Placement,
    QuantizedBranch,
    Site,
    folded,
    quantized_weight,
)
from tests.helpers.tiny_models import tiny_recipe

SIZE = (64, 64)
NETWORKS = {
    "hourglass": {"kind": "hourglass", "width": 16, "shared_stacks": 1, "branches": [1, 2]},
    "lite0": {"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
              "branches": [1, 1], "decoder_channels": [16, 16, 16], "share_to": 8},
    "shufflenet": {"kind": "mobilepose", "encoder": "shufflenet_v2", "encoder_weights": None,
                   "branches": [1], "decoder_channels": [16, 16, 16]},
}  # fmt: skip


def _net(name):
    torch.manual_seed(0)
    net = build_network(tiny_recipe(network=NETWORKS[name]).network, 14, load_encoder=False)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    for _ in range(3):
        net(images)  # running statistics that fit these weights
    return net, images


@pytest.mark.parametrize(("signed", "low", "high"), [(False, 0, 255), (True, -127, 127)])
def test_activations_are_rounded_as_numpy_rounds_them(signed, low, high):
    quantizer = ActivationQuantizer(signed=signed)
    quantizer.calibrate(-1.0, 3.0)
    x = torch.linspace(-4, 5, 300).view(1, 300)
    scale = (4 / 255) if not signed else 3 / 127
    zero = 0 if signed else round(1 / scale)
    expected = (np.clip(np.round(x.numpy() / scale) + zero, low, high) - zero) * scale
    np.testing.assert_allclose(quantizer(x).detach().numpy(), expected, atol=scale * 1.01)
    assert np.isclose(quantizer(x).detach().numpy(), expected, atol=1e-5).mean() > 0.98
    assert quantizer.range() == pytest.approx(
        ((low - zero) * scale, (high - zero) * scale), rel=1e-5
    )


def test_steps_are_learnt_towards_a_smaller_error():
    quantizer = ActivationQuantizer(signed=False)
    quantizer.calibrate(0.0, 50.0)
    x = torch.rand(1, 4000) * 2
    optimiser = torch.optim.Adam(quantizer.parameters(), lr=0.05)

    def error():
        return (quantizer(x) - x).square().mean()

    before = float(error().detach())
    for _ in range(60):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    assert float(error().detach()) < 0.3 * before


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_rounded_as_the_exporter_will(per_channel):
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([0.1, 1, 2, 3, 9]).view(5, 1, 1, 1)
    flat = weight.numpy().reshape(5, -1)
    largest = np.abs(flat).max(axis=1, keepdims=True) if per_channel else np.abs(flat).max()
    scale = largest / 127
    expected = np.round(flat / scale) * scale
    got = quantized_weight(weight, per_channel=per_channel).numpy().reshape(5, -1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_convolution_computes_conv_and_norm(bias):
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=bias), torch.nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 8, 8)
    parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
    weight, offset = folded(conv.weight, conv.bias, parts)
    together = torch.nn.functional.conv2d(x, weight, offset)
    torch.testing.assert_close(together, norm(conv(x)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_close_to_the_float_branch_and_trains_its_weights(name):
    net, images = _net(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    branch = QuantizedBranch(net, 0, SIZE, Placement())
    branch.calibrate([images])
    with torch.no_grad(), evaluating(net):
        float_ = SingleBranch(net, 0)(images)
        noise = (branch(images) - float_).square().sum()
    assert 0 < noise < 0.05 * float_.square().sum()
    branch(images).square().mean().backward()
    used = {n for n, p in SingleBranch(net, 0).named_parameters() if p.grad is not None}
    assert used == {n for n, _ in SingleBranch(net, 0).named_parameters()}
    # Nothing that belongs to the network has changed, its statistics included.
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training


def test_only_the_quantizers_belong_to_it():
    net, _ = _net("hourglass")
    branch = QuantizedBranch(net, 0, SIZE, Placement())
    names = {name.split(".")[-1] for name in branch.state_dict()}
    assert names == {"log_scale", "zero_point"}


def test_it_follows_the_networks_weights_and_statistics():
    net, images = _net("hourglass")
    branch = QuantizedBranch(net, 0, SIZE, Placement())
    branch.calibrate([images])
    before = branch(images).detach()
    with torch.no_grad():
        net.branches[0].own.stacks[0].score.weight.mul_(2)
        net.branches[0].own.stacks[0].score.bias.mul_(2)
    torch.testing.assert_close(branch(images).detach(), 2 * before)
    net.trunk.stem.bn._buffers["running_mean"] = net.trunk.stem.bn.running_mean + 5
    assert not torch.allclose(branch(images).detach(), 2 * before)


def test_inputs_of_convolutions_and_additions_are_sites_but_not_the_heads():
    net, _ = _net("hourglass")
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in SingleBranch(net, 0).modules())
    sites = [s for found in QuantizedBranch(net, 0, SIZE, Placement()).sites for s in found]
    assert {s.number for s in sites if s.kind == "conv"} == set(range(convolutions - 1))
    assert any(s == Site("add", 0, -1) for s in sites)
    without = QuantizedBranch(net, 0, SIZE, Placement(sums=False)).sites
    assert not any(s.argument < 0 for found in without for s in found)


def test_a_tensor_that_several_read_is_quantized_once():
    net, _ = _net("hourglass")
    branch = QuantizedBranch(net, 0, SIZE, Placement())
    shared = [found for found in branch.sites if len(found) > 1]
    assert shared and len(branch.sites) == len(branch.quantizers)


def test_a_single_crop_passes_though_two_were_traced():
    net, images = _net("lite0")
    branch = QuantizedBranch(net, 1, SIZE, Placement())
    branch.calibrate([images])
    assert branch(images[:1]).shape == (1, 14, 16, 16)


def test_a_sum_that_is_fused_takes_its_convolution_unrounded():
    net, images = _net("hourglass")

    def inputs(**changes):
        branch = QuantizedBranch(net, 0, SIZE, Placement(signed=True, sums=False, **changes))
        branch.calibrate([images])
        assert torch.isfinite(branch(images)).all()
        sites = {s for found in branch.sites for s in found if s.kind == "add"}
        return {n: {s.argument for s in sites if s.number == n} for n in {s.number for s in sites}}

    assert all(arguments == {0, 1} for arguments in inputs().values())
    fused = inputs(fused=True)
    # The residual blocks' sums; those of two blocks' sums have no convolution of their own.
    assert sum(len(arguments) == 1 for arguments in fused.values()) > 10
    assert all(arguments for arguments in fused.values())
