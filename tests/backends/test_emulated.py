"""INT8 on an x86 without VNNI, by emulation: the real runtime on a processor that is not there."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.quantize.graph import openvino
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.graph.saturation import analyze_saturation
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from tests.conftest import REPOSITORY
from tests.helpers.made_onnx import conv_net

QEMU = "qemu-x86_64-static"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which(QEMU) is None,
        reason="no emulator of other CPUs: apt-get install qemu-user-static",
    ),
]
GUEST = """
import sys, numpy as np, openvino as ov
core = ov.Core()
model = core.compile_model(core.read_model(sys.argv[1]), "CPU", {"INFERENCE_NUM_THREADS": 1,
                           "INFERENCE_PRECISION_HINT": "f32"})
np.save(sys.argv[3], np.stack([model(p[None])[0][0] for p in np.load(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network with weights of one sign, so that pairs run over; as IR, as it was made until
    now and as it is made."""
    folder = tmp_path_factory.mktemp("emulated")
    net = conv_net(folder / "net.onnx", channels=(3, 32, 32, 4), side=16, bias=False)
    model = onnx.load(str(net))
    rng = np.random.default_rng(0)
    for weight in model.graph.initializer:
        shape = numpy_helper.to_array(weight).shape
        values = rng.uniform(0.8, 1.0, shape) / np.prod(shape[1:])
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))
    onnx.save(model, str(net))
    pictures = rng.integers(200, 256, (4, 16, 16, 3)).astype(np.uint8)
    ranges = compute_ranges(observe(net, [p[None] for p in pictures]), "minmax")
    made = {}
    for name, fits in (("unsafe", False), ("safe", True)):
        qdq = folder / f"{name}.onnx"
        write_qdq(net, qdq, ranges, replace(get_profile("openvino"), saturation_free=fits))
        assert bool(analyze_saturation(qdq).unsafe) != fits
        openvino.convert(qdq, folder / f"{name}.xml")
        made[name] = folder / f"{name}.xml"
    np.save(folder / "pictures.npy", pictures)
    return made


def _run(file, *command):
    out = file.with_suffix(f".{len(command)}.npy")
    done = subprocess.run(
        [*command, sys.executable, "-c", GUEST, str(file), str(file.parent / "pictures.npy"),
         str(out)],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    return np.load(out)


def _difference(file):
    """Largest difference on Haswell, as a share of the largest value, from the exact integers."""
    from okdhp_edge.system.hardware import saturates_in_int8

    if saturates_in_int8():
        pytest.skip("this CPU saturates itself: there is nothing exact to compare with")
    here, there = _run(file), _run(file, QEMU, "-cpu", "Haswell")
    return float(np.abs(here - there).max() / np.abs(here).max())


def test_files_that_cannot_saturate_give_the_same_without_vnni(files):
    assert _difference(files["safe"]) < 0.01


def test_files_as_they_were_do_not(files):
    """Else the emulation would show nothing."""
    assert _difference(files["unsafe"]) > 0.05
