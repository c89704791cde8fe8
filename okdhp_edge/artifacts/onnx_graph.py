"""What every stage that rewrites an ONNX graph needs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def drop_unused_initializers(graph: "onnx.GraphProto") -> None:
    """Initializers that no node reads go."""
    used = {i for n in graph.node for i in n.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
