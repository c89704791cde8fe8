"""Fake quantization of the deployed branch, on the weights being trained.

Fake quantization stands where the artifact will have its Q/DQ nodes: at the inputs of convolutions
and of additions. Weights are rounded after their batch norm is folded in; the steps of activations
are learned (LSQ; Esser et al., ICLR 2020).
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from okdhp_edge.network.branches import PoseNet, SingleBranch, eval_mode
from okdhp_edge.network.config import QuantizerPlacement
from okdhp_edge.network.quantizer import ActivationQuantizer, fake_quantize_weight, fold_batch_norm

_RANGE_PRESERVING_OPS = {
    "aten.max_pool2d.default",
    "aten.upsample_nearest2d.vec",
    "aten.slice.Tensor",
    "aten.pad.default",
}


_ACTIVATIONS = {
    "aten.relu.default", "aten.relu_.default", "aten.clamp.default", "aten.hardtanh.default",
    "aten.hardtanh_.default",
}  # fmt: skip


class QuantizationPoint(NamedTuple):
    """Where a quantizer stands, told by operators so that an exported file can be matched.

    Attributes:
        kind: operator whose tensor it is.
        number: of that operator in the order of execution, from 0.
        argument: number of the input, or -1 for the output.
    """

    kind: Literal["conv", "add"]
    number: int
    argument: int


class QuantizedBranch(nn.Module):
    """One branch of a network, in INT8 as far as arithmetic goes; its weights are the network's.

    Only the quantizers belong to it. Batch norms act with their running statistics.
    """

    def __init__(
        self, net: PoseNet, branch: int, size: tuple[int, int], placement: QuantizerPlacement
    ) -> None:
        super().__init__()
        self.placement = placement
        self.quantizers = nn.ModuleList()
        self.sites: list[list[QuantizationPoint]] = []
        # In lists, so that the network's weights are not registered a second time.
        self._live = [SingleBranch(net, branch)]
        with eval_mode(net):
            self._graph = [_trace(self._live[0], net.channels, size)]
        _Insertion(self, self._graph[0]).run()

    def forward(self, image_BHWC: Tensor) -> Tensor:
        """(B, K, H, W) heatmaps of the last stack."""
        self._follow(image_BHWC.device)
        # Half precision has too few bits for the levels of INT8 times a scale.
        with torch.autocast(image_BHWC.device.type, enabled=False):
            heatmaps: Tensor = self._graph[0](image_BHWC)
        return heatmaps

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set every quantizer's first steps by the mean over batches of its tensor's extremes."""
        for quantizer in self._list_quantizers():
            quantizer.observed_extremes = []
        for images in batches:
            self(images)
        for quantizer in self._list_quantizers():
            quantizer.finish_calibration()

    def ranges(self) -> dict[QuantizationPoint, tuple[float, float]]:
        """What was learned, by site."""
        return {
            site: quantizer.range()
            for quantizer, sites in zip(self._list_quantizers(), self.sites, strict=True)
            for site in sites
        }

    def weights(self) -> list[Tensor]:
        """Float weights of the convolutions in order, batch norms folded in; the head's last."""
        graph = self._graph[0]

        def value(argument: object) -> Any:
            return (
                attrgetter(str(argument.target))(graph)
                if isinstance(argument, fx.Node)
                else argument
            )

        found = []
        for node in graph.graph.nodes:
            if node.target is _convolve:
                weight, bias, norm = value(node.args[1]), value(node.args[2]), node.args[4]
                folds = norm is not None
                found.append(
                    fold_batch_norm(weight, bias, tuple(map(value, norm)))[0] if folds else weight
                )
        return [weight.detach() for weight in found]

    def add_quantizer(self) -> int:
        """One more; returns its number."""
        self.quantizers.append(ActivationQuantizer(signed=self.placement.signed))
        self.sites.append([])
        return len(self.sites) - 1

    def _list_quantizers(self) -> list[ActivationQuantizer]:
        return [cast(ActivationQuantizer, q) for q in self.quantizers]

    def _follow(self, device: torch.device) -> None:
        """Buffers are replaced when a module is moved; the traced graph must see the live ones."""
        graph = self._graph[0]
        if next(graph.parameters()).device != device:
            graph.to(device)
        for name, buffer in self._live[0].named_buffers():
            owner, _, own_name = name.rpartition(".")
            module = graph.get_submodule(owner)
            if own_name in module._buffers:  # noqa: SLF001 - setattr would refuse constants
                module._buffers[own_name] = buffer  # noqa: SLF001


def _trace(single: SingleBranch, channels: int, size: tuple[int, int]) -> fx.GraphModule:
    """Its operators in order, as the ONNX exporter sees them; parameters are shared."""
    width, height = size
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=2, max=1 << 20)
    program = torch.export.export(single, (example,), dynamic_shapes=({0: batch},))
    graph = program.module()
    for node in reversed(graph.graph.nodes):
        # Checks of the example's shape and type, which would refuse a batch of one.
        if node.op == "call_module" or "_assert_tensor_metadata" in str(node.target):
            graph.graph.erase_node(node)
    return graph


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: tuple[Any, ...],
    norm: tuple[Tensor, Tensor, Tensor, Tensor, float] | None,
    rounding: tuple[bool, bool] | None,
) -> Tensor:
    """A convolution with its batch norm folded in.

    Args:
        rounding: of the weights, `per_channel` and `saturation_free`; None leaves them float.
    """
    if norm is not None:
        weight, bias = fold_batch_norm(weight, bias, norm)
    if rounding is not None:
        per_channel, saturation_free = rounding
        weight = fake_quantize_weight(
            weight, per_channel=per_channel, saturation_free=saturation_free
        )
    return F.conv2d(x, weight, bias, *geometry)


class _Insertion:
    """Puts quantizers into a traced graph."""

    def __init__(self, branch: QuantizedBranch, graph: fx.GraphModule) -> None:
        self._branch = branch
        self._module = graph
        self._graph = graph.graph
        self._by_producer: dict[fx.Node, fx.Node] = {}

    def run(self) -> None:
        aten = torch.ops.aten
        # Additions of constants, such as a HardSwish's, are no places for quantizers in the file.
        adds = [
            node for node in self._find_nodes(aten.add.Tensor)
            if all(cast(fx.Node, argument).op != "get_attr" for argument in node.args[:2])
        ]  # fmt: skip
        for number, node in enumerate(adds):
            fused = self._find_fused_argument(node) if self._branch.placement.fused else None
            for argument in (0, 1):
                if argument != fused:
                    self._quantize_input(node, argument, QuantizationPoint("add", number, argument))
            if self._branch.placement.sums:
                self._quantize_output(node, QuantizationPoint("add", number, -1))
        *convolutions, head = self._find_nodes(aten.conv2d.default)
        for number, node in enumerate(convolutions):
            self._quantize_input(node, 0, QuantizationPoint("conv", number, 0))
            placement = self._branch.placement
            self._replace(node, (placement.per_channel, placement.saturation_free))
        self._replace(head, None)
        self._graph.eliminate_dead_code()
        self._graph.lint()
        self._module.recompile()

    def _find_fused_argument(self, add: fx.Node) -> int | None:
        """The first argument that comes from a convolution which nothing else reads."""
        for argument in (0, 1):
            producer = cast(fx.Node, add.args[argument])
            alone = len(producer.users) == 1
            if producer.target is torch.ops.aten.batch_norm.default:
                producer = cast(fx.Node, producer.args[0])
            if alone and producer.target is torch.ops.aten.conv2d.default:
                return argument
        return None

    def _find_nodes(self, target: object) -> list[fx.Node]:
        return [
            n for n in self._graph.nodes
            if n.target is target and all(isinstance(a, fx.Node) for a in n.args[:2])
        ]  # fmt: skip

    def _quantize_input(self, node: fx.Node, argument: int, site: QuantizationPoint) -> None:
        """What only picks or repeats values shares the steps of what it reads."""
        producer = cast(fx.Node, node.args[argument])
        while str(producer.target) in _RANGE_PRESERVING_OPS:
            node, argument = producer, 0
            producer = cast(fx.Node, node.args[0])
        node.update_arg(argument, self._ensure_quantizer_after(producer, site))

    def _quantize_output(self, node: fx.Node, site: QuantizationPoint) -> None:
        """What a ReLU gives that alone reads it, else the node's own: in the file that ReLU is part
        of the node, whose steps need not reach below zero."""
        users = list(node.users)
        if len(users) == 1 and str(users[0].target) in _ACTIVATIONS:
            node = users[0]
            users = list(node.users)
        quantizer = self._ensure_quantizer_after(node, site)
        for user in users:
            user.replace_input_with(node, quantizer)

    def _ensure_quantizer_after(self, producer: fx.Node, site: QuantizationPoint) -> fx.Node:
        """One for each tensor, however many read it."""
        if producer not in self._by_producer:
            number = self._branch.add_quantizer()
            name = f"quantizer_{number}"
            self._module.add_submodule(name, self._branch.quantizers[number])
            with self._graph.inserting_after(producer):
                node = self._graph.call_module(name, (producer,))
            # A tensor that is quantized already is asked for by its quantizer.
            self._by_producer[producer] = self._by_producer[node] = node
        node = self._by_producer[producer]
        number = int(str(node.target).rpartition("_")[2])
        self._branch.sites[number].append(site)
        return node

    def _replace(self, node: fx.Node, rounding: tuple[bool, bool] | None) -> None:
        x, weight, *rest = node.args
        bias, geometry = (rest[0], tuple(rest[1:])) if rest else (None, ())
        norm = _find_norm_after(node)
        last = norm or node
        settings = (*norm.args[1:5], norm.args[7]) if norm else None
        with self._graph.inserting_after(last):
            new = self._graph.call_function(
                _convolve, (x, weight, bias, geometry, settings, rounding)
            )
        last.replace_all_uses_with(new)
        if norm:
            self._graph.erase_node(norm)
        self._graph.erase_node(node)


def _find_norm_after(node: fx.Node) -> fx.Node | None:
    """The batch norm that alone reads a convolution's output, and so can be folded into it."""
    (user, *others) = node.users
    is_norm = user.target is torch.ops.aten.batch_norm.default
    return user if is_norm and not others else None
