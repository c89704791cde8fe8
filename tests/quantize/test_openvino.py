"""What OpenVINO really runs of our file."""

import numpy as np
import openvino as ov

from okdhp_edge.backends.base import Request
from okdhp_edge.backends.openvino import OpenVinoBackend
from okdhp_edge.card import read_card
from okdhp_edge.export.stage import ExportOptions, export_branch
from okdhp_edge.quantize.stage import QuantizeOptions, quantize
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, tiny_recipe


def test_every_convolution_but_the_head_runs_in_int8_depthwise_ones_too(tmp_path):
    """With NNCF's own quantization depthwise convolutions run in f32."""
    recipe = tiny_recipe(
        network={"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
                 "branches": [1], "decoder_channels": [16, 16, 16]},
        distillation={"method": "supervised"}, optimiser={"epochs": 1, "batch_size": 16},
    )  # fmt: skip
    best = train(recipe, DATA, TrainingOptions(out=tmp_path, device="cpu", workers=0))
    fp32 = export_branch(best, ExportOptions(out=tmp_path))
    made = quantize(fp32, QuantizeOptions(data=DATA, max_drop=100.0, profiles=["openvino"]))
    folder = made / "openvino"
    with OpenVinoBackend(Request(folder, read_card(folder), "int8")) as loaded:
        ops = loaded._compiled.get_runtime_model().get_ops()
        kinds = [(str(o.get_rt_info()["layerType"].astype(str)),
                  str(o.get_rt_info()["runtimePrecision"].astype(str))) for o in ops
                 if "layerType" in o.get_rt_info()]  # fmt: skip
    convolutions = [precision for kind, precision in kinds if kind == "Convolution"]
    floats = [p for p in convolutions if p not in ("u8", "i8")]
    assert len(convolutions) == 52 and len(floats) == 1


def test_the_ir_computes_what_the_qdq_file_does(quantized):
    core = ov.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    ir, qdq = (
        core.compile_model(str(quantized / p), "CPU", config)
        for p in ("openvino/model.xml", "onnxruntime/model.onnx")
    )
    crop = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    np.testing.assert_allclose(ir(crop)[0], qdq(crop)[0], atol=1e-4)
    assert (
        ov.Core()
        .read_model(str(quantized / "openvino/model.xml"))
        .get_rt_info(["model_info", "made_by"])
        .value
        == "okdhp-edge"
    )
