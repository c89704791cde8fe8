"""A depthwise convolution whose bf16 gradients are taken in float on a CPU.

oneDNN has no bf16 kernel for the gradients of strided and of 5x5 depthwise convolutions: they take
three to thirty times as long as in float32 (measured with torch 2.13.0 on AVX512-BF16; together
half of a training step of EfficientNet-Lite0).
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

_Pair = tuple[int, int]
_MAX_FAST_KERNEL_SIZE = 3


def depthwise_conv2d(x_BCHW: Tensor, weight_C1kk: Tensor, stride: _Pair, padding: int) -> Tensor:
    """`F.conv2d` with as many groups as channels and no bias; the same values everywhere."""
    if _is_bf16_on_cpu(x_BCHW):
        dtype = torch.get_autocast_dtype("cpu")
        return cast(
            Tensor,
            _FloatGradients.apply(x_BCHW.to(dtype), weight_C1kk.to(dtype), stride, padding),  # type: ignore[no-untyped-call]
        )
    return F.conv2d(x_BCHW, weight_C1kk, None, stride, padding, 1, x_BCHW.shape[1])


def _is_bf16_on_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _FloatGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: _Pair, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors

        def compute_gradient(of: int, *, in_float: bool) -> Tensor:
            operands = (grad, x, weight)
            if in_float:
                operands = (grad.float(), x.float(), weight.float())
            mask = [of == 0, of == 1, False]
            found = torch.ops.aten.convolution_backward(
                *operands, None, list(ctx.stride), [ctx.padding] * 2, [1, 1], False, [0, 0],
                x.shape[1], mask,
            )  # fmt: skip
            return cast(Tensor, found[of])

        to_x = compute_gradient(0, in_float=ctx.stride != (1, 1))
        to_weight = compute_gradient(1, in_float=weight.shape[-1] > _MAX_FAST_KERNEL_SIZE)
        return to_x.to(x.dtype), to_weight.to(weight.dtype), None, None
