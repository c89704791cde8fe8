"""Differentiable INT8 rounding: learned steps for activations, max-abs scales for weights.

The steps are learned as in LSQ (Esser et al., ICLR 2020); weights are rounded with their batch norm
folded in.
"""

import torch
from torch import Tensor, nn

from okdhp_edge.network.weight_scales import compute_weight_scales

_MAX_INT8_LEVEL = 127
_MIN_SCALE = 1e-8


class ActivationQuantizer(nn.Module):
    """256 steps whose size is learned and whose zero stays where calibration put it."""

    log_scale: nn.Parameter
    zero_point: Tensor

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = (-_MAX_INT8_LEVEL, _MAX_INT8_LEVEL) if signed else (0, 255)
        self.signed = signed
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.register_buffer("zero_point", torch.zeros(1))
        self.observed_extremes: list[tuple[float, float]] | None = None
        """Extremes of the tensors that pass while calibrating, which pass unrounded."""

    def finish_calibration(self) -> None:
        """End watching: begin with steps that hold the mean of the extremes seen."""
        lows, highs = zip(*(self.observed_extremes or [(0.0, 0.0)]), strict=True)
        self.observed_extremes = None
        self.calibrate(sum(lows) / len(lows), sum(highs) / len(highs))

    def calibrate(self, lowest: float, highest: float) -> None:
        """Begin with steps that just hold this range."""
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        if self.signed:
            scale, zero = max(-lowest, highest) / _MAX_INT8_LEVEL, 0
        else:
            scale = (highest - lowest) / 255
            zero = round(-lowest / scale) if scale > 0 else 0
        with torch.no_grad():
            self.log_scale.fill_(torch.tensor(max(scale, _MIN_SCALE)).log())
            self.zero_point.fill_(zero)

    def range(self) -> tuple[float, float]:
        """What the learned steps hold."""
        scale, zero = float(self.log_scale.detach().exp()), float(self.zero_point)
        return (self.low - zero) * scale, (self.high - zero) * scale

    def forward(self, x: Tensor) -> Tensor:
        """Rounded and clipped; gradients pass where nothing is clipped, and reach the scale."""
        if self.observed_extremes is not None:
            self.observed_extremes.append((float(x.min()), float(x.max())))
            return x
        factor = 1 / (x.numel() / len(x) * self.high) ** 0.5
        rounded: Tensor = torch._fake_quantize_learnable_per_tensor_affine(  # noqa: SLF001
            x, self.log_scale.exp(), self.zero_point, self.low, self.high, factor
        )
        return rounded


def fake_quantize_weight(
    weight_OIHW: Tensor, *, per_channel: bool, saturation_free: bool = False
) -> Tensor:
    """Symmetric int8 with the scales that the exported file will have."""
    scales = compute_weight_scales(
        weight_OIHW.detach().float().cpu().numpy(), per_channel=per_channel,
        saturation_free=saturation_free,
    )  # fmt: skip
    scale = torch.from_numpy(scales).to(weight_OIHW.device).clamp_min(_MIN_SCALE)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight_OIHW, scale, zero, 0, -_MAX_INT8_LEVEL, _MAX_INT8_LEVEL
    )


def fold_batch_norm(
    weight_OIHW: Tensor, bias: Tensor | None, norm: tuple[Tensor, Tensor, Tensor, Tensor, float]
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that has taken its batch norm in.

    Args:
        norm: the batch norm's weight, bias, running mean, running variance and epsilon.
    """
    gamma, beta, mean, variance, epsilon = norm
    gain = gamma * torch.rsqrt(variance + epsilon)
    offset = beta - mean * gain if bias is None else beta + (bias - mean) * gain
    return weight_OIHW * gain[:, None, None, None], offset
