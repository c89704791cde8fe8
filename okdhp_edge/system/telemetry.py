"""Imports of libraries that report their use over the network, without the reports."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_CONVERTER = "openvino.tools.ovc"
# OpenVINO reports that it was imported, from a copy of this process that waits for the network;
# NNCF reports each quantization.
_MODULES = ("openvino_telemetry", _CONVERTER)


@contextmanager
def block_telemetry() -> Iterator[None]:
    """Within it OpenVINO and NNCF are imported as if their telemetry were not installed.

    OpenVINO's model converter, which is not needed and takes most of the import's time, is imported
    when a caller first asks for `openvino.convert_model`.
    """
    blocked = [name for name in _MODULES if name not in sys.modules]
    # None makes an import of the name fail, which both libraries provide for.
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in blocked:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
        openvino = sys.modules.get("openvino")
        if openvino and not vars(openvino).keys() & {"convert_model", "__getattr__"}:
            _load_converter_on_demand(openvino)


def _load_converter_on_demand(openvino: ModuleType) -> None:
    def find_attribute(name: str) -> Any:
        if name == "convert_model":
            return importlib.import_module(_CONVERTER).convert_model
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")

    openvino.__getattr__ = find_attribute  # type: ignore[method-assign]
