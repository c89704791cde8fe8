"""Nothing runs in a precision that was not asked for."""

import subprocess
import sys
from collections import Counter

import pytest

from okdhp_edge.backends.openvino import OpenVinoBackend, make_settings
from okdhp_edge.errors import BackendError


@pytest.mark.parametrize(
    ("precision", "hint"), [("fp32", "f32"), ("int8", "f32"), ("bf16", "bf16")]
)
def test_float_layers_run_in_the_precision_that_was_measured(precision, hint):
    """A CPU with bf16 would else take it for all that is not INT8."""
    settings = make_settings(precision, 2)
    assert settings["INFERENCE_PRECISION_HINT"] == hint
    assert settings["INFERENCE_NUM_THREADS"] == 2


@pytest.mark.parametrize("asked", ["int8", "bf16"])
def test_a_precision_in_which_no_layer_runs_is_refused(asked):
    backend = OpenVinoBackend.__new__(OpenVinoBackend)
    backend._count_runtime_precisions = lambda: Counter({"fp32": 9, "fp16": 1})
    backend._refuse_other_precision("fp32")
    with pytest.raises(BackendError, match=f"ran no layer in {asked} on this CPU"):
        backend._refuse_other_precision(asked)


_AT_ONCE = """
import threading
from okdhp_edge.backends.openvino import get_shared_core, ov

together, cores = threading.Barrier(8), set()

def ask():
    together.wait()
    cores.add(id(get_shared_core()))
    ov.Type.f32.to_dtype()

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(cores))
"""


@pytest.mark.parametrize("attempt", range(4))
def test_threads_that_open_networks_at_once_do_not_block_each_other(attempt):
    """The bindings' own first use of their types blocked every other process."""
    done = subprocess.run(
        [sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["1"]
