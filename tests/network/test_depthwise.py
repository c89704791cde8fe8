import pytest
import torch
from torch.nn import functional as F

from okdhp_edge.network.depthwise import depthwise_conv2d


def _operands(kernel, dtype=torch.float32):
    torch.manual_seed(0)
    x = torch.randn(2, 8, 11, 11, dtype=dtype, requires_grad=True)
    weight = torch.randn(8, 1, kernel, kernel, dtype=dtype, requires_grad=True)
    return x, weight


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_bf16_gradients_are_those_of_the_plain_convolution(kernel, stride):
    padding = kernel // 2
    gradients = {}
    for name in ("plain", "ours"):
        x, weight = _operands(kernel)
        with torch.autocast("cpu", torch.bfloat16):
            y = (
                depthwise_conv2d(x, weight, stride, padding)
                if name == "ours"
                else F.conv2d(x, weight, None, stride, padding, 1, 8)
            )
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        gradients[name] = (y.detach().float(), x.grad, weight.grad)
    for plain, ours in zip(gradients["plain"], gradients["ours"], strict=True):
        assert torch.allclose(plain, ours, rtol=0.02, atol=0.02 * float(plain.abs().max()))


def test_in_float_it_is_the_plain_convolution_to_the_bit():
    x, weight = _operands(5)
    ours = depthwise_conv2d(x, weight, (2, 2), 2)
    assert torch.equal(ours, F.conv2d(x, weight, None, 2, 2, 1, 8))
    assert "FloatGradients" not in type(ours.grad_fn).__name__


def test_without_gradients_nothing_is_kept():
    x, weight = _operands(3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert depthwise_conv2d(x, weight, (1, 1), 1).grad_fn is None
