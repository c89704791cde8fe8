"""INT8 requirements per runtime. They conflict, so one INT8 file cannot serve all runtimes.

A CPU wants unsigned, asymmetric activations: u8s8 runs at twice float's speed with VNNI, where
s8s8 is slower than float on x86. Without VNNI pairs of its products are added in 16 bits, so that
the weights have to keep clear of that (`network/weight_scales.py`): on whichever CPU the file
was made, since it may run on another. TensorRT refuses any zero-point but 0 and any int32 bias, and
quantizes the inputs of convolutions, not their outputs. NPUs want one scale per tensor.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

CPU_OPS = ("Conv", "Add", "MaxPool", "Resize", "Slice", "Concat", "Relu", "Clip")
MATRIX_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Int8Profile:
    """How a float ONNX file becomes INT8 for one target.

    Attributes:
        name: of the folder `int8/<name>`.
        format: of the file; `openvino` converts the Q/DQ file to IR.
        runtime: in which the file's metric is measured.
        ops: operators that are quantized.
        signed: whether activations are int8 around zero-point 0.
        per_channel: whether each output channel of a weight has its own scale.
        saturation_free: whether weights are scaled so that no pair of products leaves 16 bits.
        rewrite: whether the graph is rewritten to stay in INT8 from pixel to heatmap
            (`quantize/graph/graph_rewrites.py`); OpenVINO fuses by itself what that is for.
        strongly_typed: whether the file must pass TensorRT's rules for strongly typed networks.
        accuracy_control: whether NNCF's accuracy control can be tried.
        options: onnxruntime's extra options.
    """

    name: str
    format: Literal["onnx", "openvino"] = "onnx"
    runtime: str = "onnxruntime"
    ops: tuple[str, ...] = CPU_OPS
    signed: bool = False
    per_channel: bool = True
    saturation_free: bool = False
    rewrite: bool = False
    strongly_typed: bool = False
    accuracy_control: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The model file's name in its folder."""
        return "model.xml" if self.format == "openvino" else "model.onnx"


OPENVINO = Int8Profile(
    name="openvino", format="openvino", runtime="openvino", saturation_free=True,
    accuracy_control=True,
)  # fmt: skip
ONNXRUNTIME = Int8Profile(name="onnxruntime", saturation_free=True, rewrite=True)
TENSORRT = Int8Profile(
    name="tensorrt", ops=(*MATRIX_OPS, "Add"), signed=True, strongly_typed=True,
    options={
        "QuantizeBias": False, "ActivationSymmetric": True, "WeightSymmetric": True,
        "OpTypesToExcludeOutputQuantization": [*MATRIX_OPS, "Add", "Clip", "Relu"],
        "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
    },
)  # fmt: skip
GENERIC = Int8Profile(name="generic", per_channel=False)
"""For runtimes that this project does not know: one scale per tensor."""
