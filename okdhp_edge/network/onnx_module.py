"""An ONNX network as a torch module: a teacher on the training device, or what is trained.

Only the operators of convolutional pose networks. ONNX Runtime's CPU build is the reference; a
graph with other operators is left to it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.graph_view import CHANNEL_SHUFFLE

_CONSTANT_OP = "Constant"
_STATIC_INPUTS = {
    "ReduceMean": ("axes",), "Reshape": ("shape",), "Resize": ("roi", "scales", "sizes"),
    "Split": ("split",),
}  # fmt: skip
# Of linear interpolation, in torch's words.
_ALIGN_CORNERS = {b"half_pixel": False, b"pytorch_half_pixel": False, b"align_corners": True}
# Before it, Softmax is over all values from its axis on.
_SOFTMAX_OPSET = 13
# From a place in the input to the value that is taken; of halves, towards the lower and the higher.
_ROUNDINGS: dict[bytes, Callable[[NDArray[Any]], NDArray[Any]]] = {
    b"floor": np.floor, b"ceil": np.ceil,
    b"round_prefer_floor": lambda place: np.ceil(place - 0.5),
    b"round_prefer_ceil": lambda place: np.floor(place + 0.5),
}  # fmt: skip
_Attributes = dict[str, Any]
_Operator = Callable[[Sequence[Tensor | None], _Attributes], Tensor | Sequence[Tensor]]


class UnknownOperatorError(Exception):
    """The graph has an operator that is not known here."""


class OnnxModule(nn.Module):
    """The part of a graph that leads from its first input to one output.

    Args:
        model: the file's content, float weights.
        output: name of the output.
        trainable: whether the convolutions' weights are parameters; else nothing is.

    Raises:
        UnknownOperatorError: it needs ONNX Runtime.
    """

    def __init__(self, model: onnx.ModelProto, output: str, *, trainable: bool = False) -> None:
        super().__init__()
        source = model.graph.input[0].name
        whole = [value.name for value in model.graph.output] == [output]
        graph = model.graph if whole else Extractor(model).extract_model([source], [output]).graph
        unknown = {node.op_type for node in graph.node} - _OPERATORS.keys() - {_CONSTANT_OP}
        if unknown:
            raise UnknownOperatorError(", ".join(sorted(unknown)))
        self._source, self._output = source, output
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        constants |= {
            n.output[0]: _get_constant(n) for n in graph.node if n.op_type == _CONSTANT_OP
        }
        operations = [node for node in graph.node if node.op_type != _CONSTANT_OP]
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self._nodes = [
            (
                _OPERATORS[node.op_type], tuple(node.input), tuple(node.output),
                {"outputs": len(node.output), "opset": opset} | _get_static_inputs(node, constants)
                | {a.name: helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in operations
        ]  # fmt: skip
        self._names: dict[str, str] = {}
        self._learned = {
            name for node in operations if trainable and node.op_type == "Conv"
            for name in node.input[1:]
        }  # fmt: skip
        for name, values in constants.items():
            self._keep(name, values)

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self._names[name] = f"constant{len(self._names)}"
        # ONNX hands out read-only memory.
        tensor = torch.from_numpy(np.array(values))
        if name in self._learned:
            self.register_parameter(self._names[name], nn.Parameter(tensor))
        else:
            self.register_buffer(self._names[name], tensor)

    @torch.no_grad()
    def load_constants(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Set tensors by their names in the graph."""
        for name, array in values.items():
            getattr(self, self._names[name]).copy_(torch.from_numpy(np.array(array)))

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


def _get_static_inputs(
    node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]
) -> dict[str, list[float]]:
    """Inputs that steer an operator, by their names in ONNX: numbers, so that tracing sees them."""
    names = _STATIC_INPUTS.get(node.op_type, ())
    return {
        name: constants[given].tolist()
        for name, given in zip(names, node.input[1:], strict=False)
        if given in constants and constants[given].size
    }


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


def _clip(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x, *bounds = inputs
    low, high = (*bounds, None, None)[:2]
    assert x is not None
    if "min" in attributes or "max" in attributes:  # before opset 11
        return torch.clamp(x, attributes.get("min"), attributes.get("max"))
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _repeats(ratio: float, how: bytes, rounding: bytes) -> bool:
    """Whether a nearest Resize only repeats each value, as PyTorch's does."""
    if not float(ratio).is_integer():
        return False
    index = np.arange(int(ratio))
    half_pixel = (index + 0.5) / ratio - 0.5
    places = {
        b"half_pixel": half_pixel, b"pytorch_half_pixel": half_pixel,
        b"tf_half_pixel_for_nn": half_pixel + 0.5, b"asymmetric": index / ratio,
    }  # fmt: skip
    place = places.get(how)
    return place is not None and not _ROUNDINGS[rounding](place).any()


def _resize(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    assert x is not None
    mode = attributes.get("mode", b"nearest")
    how = attributes.get("coordinate_transformation_mode", b"half_pixel")
    computed = [None if tensor is None else tensor.tolist() for tensor in inputs[2:]]
    scales, sizes = (*computed, None, None)[:2]
    scales, sizes = attributes.get("scales", scales), attributes.get("sizes", sizes)
    if not scales and not sizes:
        raise UnknownOperatorError("Resize of opset 10")
    policy = attributes.get("keep_aspect_ratio_policy", b"stretch")
    of_channels = scales is not None and list(scales[:2]) not in ([], [1, 1])
    if attributes.get("antialias") or "axes" in attributes or policy != b"stretch" or of_channels:
        raise UnknownOperatorError("Resize with antialias, axes, a policy or scaled channels")
    # By scales where there are any: they hold at every size and for every batch.
    factors = None if sizes else tuple(scales[2:])  # type: ignore[index]
    size = sizes[2:] if sizes else None
    if mode == b"linear" and how in _ALIGN_CORNERS:
        return F.interpolate(x, size, factors, mode="bilinear", align_corners=_ALIGN_CORNERS[how])
    ratios = factors or tuple(n / o for n, o in zip(size or (), x.shape[2:], strict=True))
    rounding = attributes.get("nearest_mode", b"round_prefer_floor")
    if mode == b"nearest" and all(_repeats(ratio, how, rounding) for ratio in ratios):
        return F.interpolate(x, size, factors, mode="nearest")
    raise UnknownOperatorError(f"Resize {mode.decode()} {how.decode()}")


def _reshape(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    assert x is not None
    shape = [x.shape[i] if size == 0 else size for i, size in enumerate(attributes["shape"])]
    # One that is fixed to the exported batch would mix the crops of another.
    if attributes["shape"][0] not in (0, -1, len(x)):
        raise UnknownOperatorError("Reshape to a fixed batch size")
    return x.reshape(shape)


def _softmax(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    assert x is not None
    if attributes["opset"] >= _SOFTMAX_OPSET:
        return x.softmax(attributes.get("axis", -1))
    return x.flatten(attributes.get("axis", 1)).softmax(-1).reshape(x.shape)


def _split(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Sequence[Tensor]:
    x = inputs[0]
    assert x is not None
    axis, sizes = attributes.get("axis", 0), attributes.get("split")
    return torch.split(x, sizes, axis) if sizes else x.chunk(attributes["outputs"], axis)


def _channel_shuffle(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    (x,) = inputs
    assert x is not None
    batch, channels, height, width = x.shape
    groups = attributes["groups"]
    parted = x.reshape(batch, groups, channels // groups, height, width)
    return parted.transpose(1, 2).reshape(batch, channels, height, width)


def _max_pool(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    (x,) = inputs
    assert x is not None
    plain = {"ceil_mode": 0, "auto_pad": b"NOTSET", "dilations": [1, 1]}
    if changed := [key for key, value in plain.items() if attributes.get(key, value) != value]:
        raise UnknownOperatorError(f"MaxPool with {', '.join(changed)}")
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


def _reduce_mean(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    assert x is not None
    axes = attributes.get("axes")
    if axes is None:
        raise UnknownOperatorError("ReduceMean without axes")
    return x.mean([int(axis) for axis in axes], keepdim=bool(attributes.get("keepdims", 1)))


def _transpose(inputs: Sequence[Tensor | None], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    assert x is not None
    return x.permute(attributes.get("perm") or tuple(reversed(range(x.ndim))))


def _wrap_function(function: Callable[..., Tensor]) -> _Operator:
    return lambda inputs, _: function(*inputs)


_OPERATORS: dict[str, _Operator] = {
    "Add": _wrap_function(torch.add),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    CHANNEL_SHUFFLE: _channel_shuffle,
    "ReduceMean": _reduce_mean,
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(list(inputs), attributes["axis"]),  # type: ignore[arg-type]
    "Conv": _convolution,
    "Div": _wrap_function(torch.div),
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean((2, 3), keepdim=True),  # type: ignore[union-attr]
    "HardSigmoid": lambda inputs, attributes: torch.clamp(
        inputs[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5),
        0,
        1,
    ),
    "HardSwish": _wrap_function(F.hardswish),
    "Identity": _wrap_function(lambda x: x),
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),  # type: ignore[arg-type]
    "MaxPool": _max_pool,
    "MatMul": _wrap_function(torch.matmul),
    "Mul": _wrap_function(torch.mul),
    "Relu": _wrap_function(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _wrap_function(torch.sigmoid),
    "Split": _split,
    "Softmax": _softmax,
    "Sqrt": _wrap_function(torch.sqrt),
    "Sub": _wrap_function(torch.sub),
    "Transpose": _transpose,
}
