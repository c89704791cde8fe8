"""An ONNX network as a torch module, so that an external teacher runs on the training device.

Only the operators of convolutional pose networks. ONNX Runtime's CPU build is the reference; a
graph with other operators is left to it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.nn import functional as F

_CONSTANT_OP = "Constant"
_Attributes = dict[str, Any]
_Operator = Callable[[Sequence[Tensor | None], _Attributes], Tensor | Sequence[Tensor]]


class UnknownOperatorError(Exception):
    """The graph has an operator that is not known here."""


class OnnxModule(nn.Module):
    """The part of a graph that leads from its first input to one output.

    Args:
        model: the file's content, float weights.
        output: name of the output.

    Raises:
        UnknownOperatorError: it needs ONNX Runtime.
    """

    def __init__(self, model: onnx.ModelProto, output: str) -> None:
        super().__init__()
        source = model.graph.input[0].name
        graph = Extractor(model).extract_model([source], [output]).graph
        unknown = {node.op_type for node in graph.node} - _OPERATORS.keys() - {_CONSTANT_OP}
        if unknown:
            raise UnknownOperatorError(", ".join(sorted(unknown)))
        self._source, self._output = source, output
        self._nodes = [
            (
                _OPERATORS[node.op_type], tuple(node.input), tuple(node.output),
                {"outputs": len(node.output)}
                | {a.name: helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node if node.op_type != _CONSTANT_OP
        ]  # fmt: skip
        self._names: dict[str, str] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        for node in graph.node:
            if node.op_type == _CONSTANT_OP:
                self._keep(node.output[0], _get_constant(node))

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self._names[name] = f"constant{len(self._names)}"
        # ONNX hands out read-only memory.
        self.register_buffer(self._names[name], torch.from_numpy(np.array(values)))

    def forward(self, x: Tensor) -> Tensor:
        """The graph's chosen output."""
        values: dict[str, Tensor] = {
            name: getattr(self, buffer) for name, buffer in self._names.items()
        }
        values[self._source] = x
        for operator, inputs, outputs, attributes in self._nodes:
            found = operator([values.get(name) for name in inputs], attributes)
            parts = (found,) if isinstance(found, Tensor) else found
            values |= dict(zip(outputs, parts, strict=True))
        return values[self._output]


def _get_constant(node: onnx.NodeProto) -> NDArray[Any]:
    (attribute,) = node.attribute
    if attribute.name != "value":
        raise UnknownOperatorError(f"Constant with {attribute.name}")
    return numpy_helper.to_array(attribute.t)


def _convolution(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x, weight, *bias = inputs
    assert x is not None
    assert weight is not None
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UnknownOperatorError("Conv with auto_pad")
    # torch pads alike on both sides only.
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(
        x, weight, bias[0] if bias else None, attributes.get("strides", [1, 1]), 0,
        attributes.get("dilations", [1, 1]), attributes.get("group", 1),
    )  # fmt: skip


def _clip(inputs: Sequence[Tensor | None], _: _Attributes) -> Tensor:
    x, *bounds = inputs
    low, high = (*bounds, None, None)[:2]
    assert x is not None
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _resize(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x, _, scales, sizes = (*inputs, None, None)[:4]
    assert x is not None
    mode = attributes.get("mode", b"nearest")
    how = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if sizes is not None:
        size = [int(v) for v in sizes[2:]]
    else:
        assert scales is not None
        size = [int(s * n) for s, n in zip(scales[2:], x.shape[2:], strict=True)]
    if mode == b"linear" and how in (b"half_pixel", b"pytorch_half_pixel"):
        return F.interpolate(x, size, mode="bilinear", align_corners=False)
    whole = all(new % old == 0 for new, old in zip(size, x.shape[2:], strict=True))
    if mode == b"nearest" and whole:
        return F.interpolate(x, size, mode="nearest")
    raise UnknownOperatorError(f"Resize {mode.decode()} {how.decode()}")


def _split(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Sequence[Tensor]:
    x, sizes = (*inputs, None)[:2]
    assert x is not None
    axis = attributes.get("axis", 0)
    if sizes is None:
        return x.chunk(attributes["outputs"], axis)
    return torch.split(x, [int(v) for v in sizes], axis)


def _max_pool(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    (x,) = inputs
    assert x is not None
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    x = F.pad(x, (left, right, top, bottom), value=float("-inf"))
    return F.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", [1, 1]))


def _batch_norm(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return F.batch_norm(x, mean, variance, weight, bias, eps=attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]


def _cast(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    (x,) = inputs
    assert x is not None
    kinds = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT32: torch.int32}
    if attributes["to"] not in kinds:
        raise UnknownOperatorError(f"Cast to {attributes['to']}")
    return x.to(kinds[attributes["to"]])


def _wrap_function(function: Callable[..., Tensor]) -> _Operator:
    return lambda inputs, _: function(*inputs)


_OPERATORS: dict[str, _Operator] = {
    "Add": _wrap_function(torch.add),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), attributes["axis"]),  # type: ignore[arg-type]
    "Conv": _convolution,
    "Div": _wrap_function(torch.div),
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean((2, 3), keepdim=True),  # type: ignore[union-attr]
    "Identity": _wrap_function(lambda x: x),
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),  # type: ignore[arg-type]
    "MaxPool": _max_pool,
    "Mul": _wrap_function(torch.mul),
    "Relu": _wrap_function(torch.relu),
    "Resize": _resize,
    "Sigmoid": _wrap_function(torch.sigmoid),
    "Split": _split,
    "Sub": _wrap_function(torch.sub),
    "Transpose": lambda inputs, attributes: inputs[0].permute(attributes["perm"]),  # type: ignore[union-attr]
}
