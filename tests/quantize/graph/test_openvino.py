"""What OpenVINO really runs of our file."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import openvino as ov

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.openvino import OpenVinoBackend
from okdhp_edge.backends.registry import get_profile
from okdhp_edge.data.load import load
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.graph.openvino import _ValidationMetric, convert
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, tiny_recipe


def test_every_convolution_but_the_head_runs_in_int8_depthwise_ones_too(tmp_path):
    """With NNCF's own quantization depthwise convolutions run in f32."""
    recipe = tiny_recipe(
        network={"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
                 "branches": [1], "decoder_channels": [16, 16, 16]},
        distillation={"method": "supervised"}, optimizer={"epochs": 1, "batch_size": 16},
    )  # fmt: skip
    best = train(recipe, DATA, TrainingOptions(out=tmp_path, device="cpu", workers=0))
    fp32 = export_branch(best, ExportOptions(out=tmp_path))
    made = quantize(fp32, QuantizeOptions(data=DATA, max_drop=100.0, profiles=["openvino"]))
    folder = made / "openvino"
    with OpenVinoBackend(BackendConfig(folder, read_card(folder), "int8")) as loaded:
        ops = loaded._compiled.get_runtime_model().get_ops()
        kinds = [(str(o.get_rt_info()["layerType"].astype(str)),
                  str(o.get_rt_info()["runtimePrecision"].astype(str))) for o in ops
                 if "layerType" in o.get_rt_info()]  # fmt: skip
    convolutions = [precision for kind, precision in kinds if kind == "Convolution"]
    floats = [p for p in convolutions if p not in ("u8", "i8")]
    assert len(convolutions) == 52 and len(floats) == 1


def test_the_ir_computes_what_the_qdq_file_does(exported, tmp_path):
    crop = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    source, qdq, ir = exported / "model.onnx", tmp_path / "qdq.onnx", tmp_path / "model.xml"
    write_qdq(
        source, qdq, compute_ranges(observe(source, [crop]), "minmax"), get_profile("openvino")
    )
    convert(qdq, ir)
    core, config = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    a, b = (core.compile_model(str(path), "CPU", config)(crop)[0] for path in (ir, qdq))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert core.read_model(str(ir)).get_rt_info(["model_info", "made_by"]).value == "okdhp-edge"


def test_a_single_sample_that_counts_for_nothing_does_not_end_accuracy_control(quantized):
    """NNCF asks for the metric of samples one by one; PCK needs a torso."""
    folder = quantized.parent / "fp32"
    poses = load(DATA, "val")
    without = replace(poses.samples[0], labelled=np.zeros(len(poses.skeleton), bool))
    inputs = SimpleNamespace(
        gate=replace(poses, samples=[without]), card=read_card(folder), metric="pck@0.2"
    )
    compiled = ov.Core().compile_model(str(folder / "model.onnx"), "CPU")
    assert _ValidationMetric(inputs)(compiled, [0]) == (0.0, None)
