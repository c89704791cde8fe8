"""No library that this package imports reports its use over the network."""

import importlib.util
import os
import subprocess
import sys

import pytest

CODE = """
import sys
import okdhp_edge.backends.openvino
import openvino
assert not {"openvino_telemetry", "openvino.tools.ovc"} & set(sys.modules)
sys.modules["openvino_telemetry"] = None  # or the converter itself would report
assert callable(openvino.convert_model)
assert "openvino.tools.ovc" in sys.modules
try:
    openvino.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise SystemExit("no error")
"""
NNCF_CODE = """
from unittest.mock import MagicMock
from okdhp_edge.system.telemetry import block_telemetry
with block_telemetry():
    import nncf.telemetry
assert isinstance(nncf.telemetry.telemetry, MagicMock)
import openvino_telemetry  # whoever wants it has it
"""


@pytest.mark.parametrize(("module", "code"), [("openvino", CODE), ("nncf", NNCF_CODE)])
def test_telemetry_is_not_imported(module: str, code: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")
    # In CI OpenVINO reports nothing.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
