"""An ONNX graph as one who rewrites it needs it: by tensors, not by nodes."""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import helper, numpy_helper

CHANNEL_SHUFFLE = "ChannelShuffle"
"""An operator of our own: ShuffleNet's (Zhang et al., CVPR 2018), which ONNX writes as three."""


class GraphView:
    """Who makes and who reads a tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, int] = {}
        for name in [i for node in self.nodes for i in node.input] + [o.name for o in graph.output]:
            self._readers[name] = self._readers.get(name, 0) + 1

    def find_maker(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of that type."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op_type else None

    def has_one_reader(self, name: str) -> bool:
        """Whether one node reads a tensor, or the graph returns it, and nothing else."""
        return self._readers.get(name) == 1

    def is_never_negative(self, name: str) -> bool:
        """Whether a tensor comes from ReLUs, as far as channels were only moved since."""
        node = self.makers.get(name)
        if node is None or node.op_type == "Relu":
            return node is not None
        moves = node.op_type in ("Split", "Concat", CHANNEL_SHUFFLE)
        return moves and all(
            self.is_never_negative(i) for i in node.input if i not in self.constants
        )


def get_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def replace_nodes(graph: onnx.GraphProto, replaced: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes; initializers that none of them reads go."""
    nodes = list(replaced)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused_initializers(graph)


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Initializers that no node reads go."""
    used = {i for n in graph.node for i in n.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
