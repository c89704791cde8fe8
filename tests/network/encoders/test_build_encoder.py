"""Published weights load as they are, and the first convolution is turned to BGR."""

import pytest
import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.build import count_parameters
from okdhp_edge.network.encoders import build_encoder

# torchvision's whole networks without their classifiers, and some names from its state dicts.
TORCHVISION = {
    "mobilenet_v2": (2_223_872, "features.0.0.weight", "features.1.conv.0.0.weight",
                     "features.17.conv.3.running_var", "features.18.1.weight"),
    "resnet18": (11_176_512, "conv1.weight", "layer1.0.bn2.bias",
                 "layer2.0.downsample.1.running_mean", "layer4.1.conv2.weight"),
    "shufflenet_v2": (1_253_604, "conv1.0.weight", "stage2.0.branch1.2.weight",
                      "stage3.7.branch2.3.weight", "conv5.1.bias"),
    "squeezenet1_1": (722_496, "features.0.weight", "features.3.squeeze.weight",
                      "features.12.expand3x3.bias"),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_sizes_are_torchvisions(name):
    count, *names = TORCHVISION[name]
    encoder = build_encoder(name, None)
    assert count_parameters(encoder) == count
    assert set(names) <= set(encoder.layers.state_dict())


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_state_dict_file_loads_and_rgb_becomes_bgr(name, tmp_path):
    published = {k: torch.randn_like(v) if v.is_floating_point() else v
                 for k, v in build_encoder(name, None).layers.state_dict().items()}  # fmt: skip
    published["classifier.1.weight"] = published["fc.weight"] = torch.zeros(10, 5)
    if not name.startswith(("mobile", "squeeze")):
        del published["classifier.1.weight"]
    else:
        del published["fc.weight"]
    torch.save(published, tmp_path / "w.pth")
    encoder = build_encoder(name, str(tmp_path / "w.pth"))
    loaded = encoder.layers.state_dict()
    first = encoder.first_conv
    torch.testing.assert_close(loaded[first], published[first].flip(1))
    other = next(k for k in reversed(loaded) if k != first)
    torch.testing.assert_close(loaded[other], published[other])


def test_imagenet_weights_of_the_package_fit_and_see_bgr():
    encoder = build_encoder("efficientnet_lite0", "imagenet").eval()
    assert count_parameters(encoder) == 2_958_848
    # Trained on (x - 127) / 128: grey pictures leave the stem near its stored statistics.
    statistics = encoder.layers._bn0.running_var
    assert statistics.mean() > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("resnet18", None, "do not exist"),
        ("resnet18", b"rubbish", "as a state dict"),
        ("mobilenet_v2", "imagenet", "no packaged ImageNet weights"),
    ],
)
def test_weights_that_cannot_be_had_say_why(tmp_path, name, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        build_encoder(name, "imagenet" if content == "imagenet" else str(path))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(build_encoder("resnet18", None).layers.state_dict(), tmp_path / "w.pth")
    with pytest.raises(RecipeError, match="does not fit"):
        build_encoder("mobilenet_v2", str(tmp_path / "w.pth"))


def test_a_pickle_with_code_in_it_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "w.pth")
    with pytest.raises(RecipeError, match="cannot be loaded safely"):
        build_encoder("resnet18", str(tmp_path / "w.pth"))
    assert not (tmp_path / "owned").exists()
