"""Rounding against numpy."""

import numpy as np
import pytest
import torch

from okdhp_edge.network.quantizer import ActivationQuantizer, fake_quantize_weight, fold_batch_norm
from okdhp_edge.network.weight_scales import compute_weight_scales, quantize_weight


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
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)

    def error():
        return (quantizer(x) - x).square().mean()

    before = float(error().detach())
    for _ in range(60):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert float(error().detach()) < 0.3 * before


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_rounded_as_the_exporter_will(per_channel):
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([0.1, 1, 2, 3, 9]).view(5, 1, 1, 1)
    flat = weight.numpy().reshape(5, -1)
    largest = np.abs(flat).max(axis=1, keepdims=True) if per_channel else np.abs(flat).max()
    scale = largest / 127
    expected = np.round(flat / scale) * scale
    got = fake_quantize_weight(weight, per_channel=per_channel).numpy().reshape(5, -1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_weights_that_could_saturate_are_rounded_in_the_steps_of_the_file():
    weight = torch.full((2, 4, 3, 3), 0.5)  # neighbours of 127 steps each
    weight[1, ::2] = 0
    got = fake_quantize_weight(weight, per_channel=True, saturation_free=True).numpy()
    scale = compute_weight_scales(weight.numpy(), per_channel=True, saturation_free=True)
    expected = quantize_weight(weight.numpy(), scale) * scale[:, None, None, None]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert scale[0] > 1.9 * scale[1]


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_convolution_computes_conv_and_norm(bias):
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=bias), torch.nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 8, 8)
    parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
    weight, offset = fold_batch_norm(conv.weight, conv.bias, parts)
    together = torch.nn.functional.conv2d(x, weight, offset)
    torch.testing.assert_close(together, norm(conv(x)), atol=1e-5, rtol=1e-4)


def test_weights_too_small_for_a_scale_count_as_zero():
    weight = np.array([1e-44, 0.5], np.float32).reshape(2, 1, 1, 1)
    scale = compute_weight_scales(weight, per_channel=True, saturation_free=False)
    assert (scale >= np.finfo(np.float32).tiny).all()
