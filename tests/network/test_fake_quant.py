"""Fake quantization against numpy, on the network's own weights, where the Q/DQ nodes will be."""

import pytest
import torch

from okdhp_edge.network.branches import SingleBranch, eval_mode
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import QuantizerPlacement
from okdhp_edge.network.fake_quant import QuantizationPoint, QuantizedBranch
from tests.helpers.tiny_models import tiny_recipe

SIZE = (64, 64)
NETWORKS = {
    "hourglass": {"kind": "hourglass", "width": 16, "shared_stacks": 1, "branches": [1, 2]},
    "lite0": {"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
              "branches": [1, 1], "decoder_channels": [16, 16, 16], "share_to": 8},
    "shufflenet": {"kind": "mobilepose", "encoder": "shufflenet_v2", "encoder_weights": None,
                   "branches": [1], "decoder_channels": [16, 16, 16]},
    "resnet18": {"kind": "mobilepose", "encoder": "resnet18", "encoder_weights": None,
                 "branches": [1], "decoder_channels": [16, 16, 16]},
}  # fmt: skip


def _net(name):
    torch.manual_seed(0)
    net = build_network(tiny_recipe(network=NETWORKS[name]).network, 14, load_encoder=False)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    for _ in range(3):
        net(images)  # running statistics that fit these weights
    return net, images


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_close_to_the_float_branch_and_trains_its_weights(name):
    net, images = _net(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    branch = QuantizedBranch(net, 0, SIZE, QuantizerPlacement())
    branch.calibrate([images])
    with torch.no_grad(), eval_mode(net):
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
    branch = QuantizedBranch(net, 0, SIZE, QuantizerPlacement())
    names = {name.split(".")[-1] for name in branch.state_dict()}
    assert names == {"log_scale", "zero_point"}


def test_it_follows_the_networks_weights_and_statistics():
    net, images = _net("hourglass")
    branch = QuantizedBranch(net, 0, SIZE, QuantizerPlacement())
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
    sites = [
        s for found in QuantizedBranch(net, 0, SIZE, QuantizerPlacement()).sites for s in found
    ]
    assert {s.number for s in sites if s.kind == "conv"} == set(range(convolutions - 1))
    assert any(s == QuantizationPoint("add", 0, -1) for s in sites)
    without = QuantizedBranch(net, 0, SIZE, QuantizerPlacement(sums=False)).sites
    assert not any(s.argument < 0 for found in without for s in found)


def test_a_tensor_that_several_read_is_quantized_once():
    net, _ = _net("hourglass")
    branch = QuantizedBranch(net, 0, SIZE, QuantizerPlacement())
    shared = [found for found in branch.sites if len(found) > 1]
    assert shared and len(branch.sites) == len(branch.quantizers)


def test_a_sum_is_quantized_after_the_relu_that_alone_reads_it():
    net, images = _net("resnet18")
    branch = QuantizedBranch(net, 0, SIZE, QuantizerPlacement())
    branch.calibrate([images])
    lows = [low for site, (low, _) in branch.ranges().items()
            if site.kind == "add" and site.argument < 0]  # fmt: skip
    assert len(lows) == 8  # a residual block each
    assert max(map(abs, lows)) < 1e-6


def test_a_single_crop_passes_though_two_were_traced():
    net, images = _net("lite0")
    branch = QuantizedBranch(net, 1, SIZE, QuantizerPlacement())
    branch.calibrate([images])
    assert branch(images[:1]).shape == (1, 14, 16, 16)


def test_a_sum_that_is_fused_takes_its_convolution_unrounded():
    net, images = _net("hourglass")

    def inputs(**changes):
        branch = QuantizedBranch(
            net, 0, SIZE, QuantizerPlacement(signed=True, sums=False, **changes)
        )
        branch.calibrate([images])
        assert torch.isfinite(branch(images)).all()
        sites = {s for found in branch.sites for s in found if s.kind == "add"}
        return {n: {s.argument for s in sites if s.number == n} for n in {s.number for s in sites}}

    assert all(arguments == {0, 1} for arguments in inputs().values())
    fused = inputs(fused=True)
    # The residual blocks' sums; those of two blocks' sums have no convolution of their own.
    assert sum(len(arguments) == 1 for arguments in fused.values()) > 10
    assert all(arguments for arguments in fused.values())


def test_a_map_that_is_cut_needs_no_quantizer_of_its_own():
    network = {"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
               "branches": [1], "decoder_channels": [16, 16, 16], "neck": 4}  # fmt: skip
    net = build_network(tiny_recipe(network=network).network, 14, load_encoder=False)
    even, odd = (QuantizedBranch(net, 0, s, QuantizerPlacement()) for s in ((64, 64), (48, 80)))
    assert even.sites == odd.sites
    images = torch.randint(0, 256, (2, 80, 48, 3), dtype=torch.uint8)
    odd.calibrate([images])
    assert odd(images).shape == (2, 14, 20, 12)
