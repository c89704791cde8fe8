"""Sizes and costs against the published ones."""

import pytest
import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network, count_macs, count_parameters
from okdhp_edge.network.config import HourglassConfig, MobilePoseConfig, make_hourglass_config

PICTURE_256 = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
PICTURE_224 = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)


def _branch(config, joints=16, number=0):
    return SingleBranch(build_network(config, joints), number).eval()


@pytest.mark.parametrize(
    ("width", "counts"),
    [
        (256, (3_586_960, 6_730_912, 13_018_816, 25_594_624)),
        (128, (906_704, 1_700_448, 3_287_936, 6_462_912)),
        (64, (231_664, 433_984, 838_624, 1_647_904)),
    ],
)
def test_hourglass_parameters(width, counts):
    for stacks, count in zip((1, 2, 4, 8), counts, strict=True):
        assert count_parameters(_branch(make_hourglass_config(stacks, width))) == count


@pytest.mark.parametrize(("stacks", "macs"), [(1, 5_804_654_592), (2, 8_988_917_760)])
def test_hourglass_macs(stacks, macs):
    assert count_macs(_branch(make_hourglass_config(stacks, 256)), PICTURE_256) == macs


@pytest.mark.parametrize(
    ("shared", "own", "count"),
    [
        (1, (1, 1, 1), 12_878_528),
        (2, (2, 2, 2), 25_454_336),
        (4, (4, 4, 4), 50_605_952),
        (2, (2, 4, 6), 44_318_048),
    ],
)
def test_okdhp_training_networks(shared, own, count):
    config = HourglassConfig(kind="hourglass", shared_stacks=shared, branches=own)
    net = build_network(config, 16)
    assert count_parameters(net) - count_parameters(net.aggregation) == count


def test_a_stride_that_no_layer_ends_at_cannot_be_shared_to():
    config = MobilePoseConfig(kind="mobilepose", encoder="resnet18", branches=(1, 1), share_to=2)
    with pytest.raises(RecipeError, match="no layers that end at stride 2"):
        build_network(config, 3, load_encoder=False)


@pytest.mark.parametrize("branch", [0, 1, 2])
def test_a_stripped_branch_is_exactly_the_plain_network(branch):
    assert (
        count_parameters(_branch(make_hourglass_config(4, 256, branches=3), number=branch))
        == 13_018_816
    )


@pytest.mark.parametrize(
    ("encoder", "millions", "gmacs"),
    [("resnet18", 12.86, 2.00), ("mobilenet_v2", 4.10, 0.49), ("shufflenet_v2", 3.07, 0.33)],
)
def test_mobilepose_with_its_published_decoder(encoder, millions, gmacs):
    branch = _branch(
        MobilePoseConfig(kind="mobilepose", encoder=encoder, decoder="duc", branches=(1,))
    )
    assert round(count_parameters(branch) / 1e6, 2) == millions
    assert round(count_macs(branch, PICTURE_224) / 1e9, 2) == pytest.approx(gmacs, abs=0.011)


@pytest.mark.parametrize(
    "encoder",
    ["efficientnet_lite0", "mobilenet_v2", "shufflenet_v2", "resnet18", "squeezenet1_1"],
)
@pytest.mark.parametrize("decoder", ["upsample", "duc"])
def test_every_encoder_gives_heatmaps_at_a_quarter(encoder, decoder):
    config = MobilePoseConfig(kind="mobilepose", encoder=encoder, decoder=decoder, branches=(1, 2))
    net = build_network(config, 14).eval()
    with torch.no_grad():
        outputs = net(torch.zeros(2, 64, 96, 3, dtype=torch.uint8))
    assert [tuple(b.shape) for b in outputs.branches] == [(2, 1, 14, 16, 24)] * 2
    assert outputs.ensemble.shape == (2, 14, 16, 24)
