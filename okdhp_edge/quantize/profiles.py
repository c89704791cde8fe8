"""What each target wants of INT8. They want opposites, so one file cannot serve all.

A CPU wants unsigned, asymmetric activations: u8s8 runs at twice float's speed with VNNI, where
s8s8 is slower than float on x86. Without VNNI pairs of its products are added in 16 bits, so that
the weights have to keep clear of that (`saturation.py`): on whichever CPU the file was made, since
it may run on another. TensorRT refuses any zero-point but 0 and any
int32 bias, and quantizes the inputs of convolutions, not their outputs. NPUs want one scale per
tensor.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from onnxruntime.quantization import QuantType

from okdhp_edge.errors import ModelError

_CPU_OPS = ("Conv", "Add", "MaxPool", "Resize", "Concat", "Relu", "Clip")
_MATRIX_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a float ONNX file becomes INT8 for one target.

    Attributes:
        format: of the artefact; `openvino` converts the Q/DQ file to IR.
        runtime: in which the artefact's metric is measured.
        ops: operators that are quantized.
        signed: whether activations are int8 around zero-point 0.
        per_channel: whether each output channel of a weight has its own scale.
        saturation_free: whether weights are scaled so that no pair of products leaves 16 bits.
        rewrite: whether the graph is rewritten to stay in INT8 from pixel to heatmap
            (`graph_rewrites.py`); OpenVINO fuses by itself what that is for.
        options: onnxruntime's extra options.
    """

    name: str
    format: Literal["onnx", "openvino"] = "onnx"
    runtime: str = "onnxruntime"
    ops: tuple[str, ...] = _CPU_OPS
    signed: bool = False
    per_channel: bool = True
    saturation_free: bool = False
    rewrite: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def activation_type(self) -> QuantType:
        """ONNX Runtime's type of activations."""
        return QuantType.QInt8 if self.signed else QuantType.QUInt8


def profile(name: str) -> Profile:
    """One of `PROFILES`; the same wherever it is asked for.

    Raises:
        ModelError: no such profile.
    """
    if name not in PROFILES:
        raise ModelError(f"unknown profile '{name}'", f"use {', '.join(PROFILES)}")
    return _make(name)


def _make(name: str) -> Profile:
    if name == "tensorrt":
        return Profile(
            name=name, ops=(*_MATRIX_OPS, "Add"), signed=True,
            options={
                "QuantizeBias": False, "ActivationSymmetric": True, "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": [*_MATRIX_OPS, "Add", "Clip", "Relu"],
                "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
            },
        )  # fmt: skip
    if name == "openvino":
        return Profile(name=name, format="openvino", runtime="openvino", saturation_free=True)
    if name == "generic":
        return Profile(name=name, per_channel=False)
    return Profile(name=name, saturation_free=True, rewrite=True)


RUNTIMES = ("openvino", "onnxruntime", "tensorrt")
"""Made unless others are asked for: one for each runtime that `run` knows."""
PROFILES = (*RUNTIMES, "generic")
