"""Sharing only the early stages of an encoder."""

import pytest
import torch
from torch.nn import functional as F

from okdhp_edge.export.strip import strip
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import MobilePoseConfig
from okdhp_edge.network.encoders import build_encoder
from okdhp_edge.network.encoders.efficientnet_lite0 import _make_conv

ENCODERS = ("efficientnet_lite0", "mobilenet_v2", "shufflenet_v2", "resnet18", "squeezenet1_1")
PICTURES = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_two_parts_are_the_encoder(name, stride):
    encoder = build_encoder(name, None).eval()
    near, far = encoder.split(stride)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        middle = near(x)
        assert 64 // middle.shape[-1] <= stride
        if len(far):
            assert 64 // far[0](middle).shape[-1] > stride
        torch.testing.assert_close(far(middle), encoder(x))


def _config(**changes):
    return MobilePoseConfig(kind="mobilepose", branches=(1, 1), share_to=8, **changes)


def test_branches_start_alike_and_have_weights_of_their_own():
    net = build_network(_config(encoder_weights="imagenet"), 14)
    first, second = (dict(b.encoder.named_parameters()) for b in net.branches)
    assert first.keys() == second.keys() and first
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(first[k].data_ptr() != second[k].data_ptr() for k in first)
    shared = {p.data_ptr() for p in net.trunk.parameters()}
    assert not shared & {p.data_ptr() for p in net.branches.parameters()}


@pytest.mark.parametrize("branch", [0, 1])
def test_a_stripped_branch_is_the_plain_network(branch):
    config = _config()
    net = build_network(config, 14).eval()
    single = strip(net, config, branch)
    plain = build_network(
        MobilePoseConfig(kind="mobilepose", branches=(1,), aggregation="mean"), 14
    )
    assert sum(p.numel() for p in single.parameters()) == sum(
        p.numel() for p in SingleBranch(plain, 0).parameters()
    )
    with torch.no_grad():
        torch.testing.assert_close(single(PICTURES), net(PICTURES).last(branch))


def test_dropout_makes_branches_differ_only_while_training():
    torch.manual_seed(0)
    net = build_network(_config(branch_dropout=0.5), 14)
    net.branches[1].load_state_dict(net.branches[0].state_dict())
    with torch.no_grad():
        training = net(PICTURES)
        # Each branch's batch norms have seen its own channels by now.
        net.branches[1].load_state_dict(net.branches[0].state_dict())
        deployed = net.eval()(PICTURES)
    assert not torch.allclose(training.last(0), training.last(1))
    torch.testing.assert_close(deployed.last(0), deployed.last(1))


@pytest.mark.parametrize("kind", ["mobilepose", "hourglass"])
def test_a_mask_is_a_fourth_channel_that_begins_without_weight(kind):
    from okdhp_edge.network.config import HourglassConfig

    torch.manual_seed(0)
    config = (
        MobilePoseConfig(kind="mobilepose", mask=True)
        if kind == "mobilepose"
        else HourglassConfig(kind="hourglass", width=8, mask=True)
    )
    net = build_network(config, 5).eval()
    masks = torch.randint(0, 2, (2, 64, 64, 1), dtype=torch.uint8) * 255
    with torch.no_grad():
        plain, masked = (net(torch.cat([PICTURES, m], dim=-1)).ensemble for m in (masks * 0, masks))
    torch.testing.assert_close(plain, masked)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 10), (8, 9), (6, 6), (5, 5)])
def test_same_padding_is_tensorflows(kernel, stride, size):
    """ceil(n / stride) cells; what the total padding leaves over is after (TensorFlow's guide to
    `tf.nn.convolution`)."""
    convolution = _make_conv(1, 1, kernel, stride, 1)
    x = torch.randn(1, 1, *size)
    pads = []
    for length in reversed(size):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [total // 2, total - total // 2]
    expected = F.conv2d(F.pad(x, pads), convolution.weight, None, stride)
    torch.testing.assert_close(convolution(x), expected)
