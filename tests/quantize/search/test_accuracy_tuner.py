"""A network broken on purpose is recovered; what each trial does and in which order."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from okdhp_edge.artifacts.card import MetricResult, compute_sha256, read_card
from okdhp_edge.backends.registry import get_profile
from okdhp_edge.errors import GateError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.graph.onnx_qdq import find_convolutions
from okdhp_edge.quantize.quantize_model import (
    QuantizeOptions,
    prepare_quantization_inputs,
    quantize,
)
from okdhp_edge.quantize.ranges.calibrators import METHODS
from okdhp_edge.quantize.search import accuracy_tuner as module
from okdhp_edge.quantize.search.accuracy_tuner import AccuracyTuner, choose_calibrators
from okdhp_edge.quantize.search.sensitivity import LayerSensitivity
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import tiny_recipe

DATA = "synthetic:200"


@pytest.fixture(scope="module")
def able(tmp_path_factory) -> Path:
    """The fp32 folder of a tiny model that has learned something to lose."""
    folder = tmp_path_factory.mktemp("able")
    recipe = tiny_recipe(
        optimizer={"epochs": 6, "batch_size": 8, "lr": 4e-3},
        network={"kind": "hourglass", "width": 16, "shared_stacks": 0, "branches": [1]},
        distillation={"method": "supervised"},
    )
    best = train(recipe, DATA, TrainingOptions(out=folder, device="cpu", workers=0))
    return export_branch(best, ExportOptions(out=folder, data=DATA))


@pytest.fixture(scope="module")
def broken(able, tmp_path_factory) -> Path:
    """The same function, with channels of so different a size that 256 steps cannot hold them."""
    folder = tmp_path_factory.mktemp("broken") / "fp32"
    shutil.copytree(able, folder)
    model = onnx.load(str(folder / "model.onnx"))
    constants = {i.name: i for i in model.graph.initializer}

    def scale(name, by, axis):
        value = numpy_helper.to_array(constants[name])
        shape = [-1 if d == axis else 1 for d in range(value.ndim)]
        constants[name].CopyFrom(numpy_helper.from_array(value * by.reshape(shape), name))

    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    scaled = 0
    for conv in [n for n in model.graph.node if n.op_type == "Conv"]:
        (relu, *others) = readers.get(conv.output[0], [conv])
        following = readers.get(relu.output[0], [])
        pair = relu.op_type == "Relu" and not others and [n.op_type for n in following] == ["Conv"]
        if not pair or scaled == 3:
            continue
        channels = len(numpy_helper.to_array(constants[conv.input[1]]))
        by = np.geomspace(1, 3e4, channels).astype(np.float32)
        scale(conv.input[1], by, 0)
        scale(conv.input[2], by, 0)
        scale(following[0].input[1], 1 / by, 1)
        scaled += 1
    assert scaled == 3
    onnx.save(model, str(folder / "model.onnx"))
    text = (folder / "card.json").read_text()
    old = json.loads(text)["files"]["model.onnx"]
    (folder / "card.json").write_text(text.replace(old, compute_sha256(folder / "model.onnx")))
    return folder


def test_a_net_broken_on_purpose_fails_plain_ptq_and_the_ladder_recovers_it(broken):
    plain = QuantizeOptions(data=DATA, max_drop=1.0, profiles=["onnxruntime"], tune=False)
    with pytest.raises(GateError, match="points below float"):
        quantize(broken, plain)
    assert not (broken.parent / "int8").exists()
    out = quantize(broken, replace(plain, tune=True)) / "onnxruntime"
    trials = json.loads((out / "trials.json").read_text())
    assert not trials[0]["passes"] and any(r["passes"] for r in trials)
    card = read_card(out)
    assert card.metrics[0].parent_value - card.metrics[0].value <= 1.0
    assert len(card.kept_float) < len(find_convolutions(broken / "model.onnx")) / 2


class _Bench:
    """A tuner whose artifacts are imagined: `worth` says what each plan would measure."""

    def __init__(self, monkeypatch, tmp_path, able, worth, name="onnxruntime", layers=9):
        self.tried = []
        inputs = prepare_quantization_inputs(able, QuantizeOptions(data=DATA, max_drop=1.0))
        self.tuner = AccuracyTuner(
            get_profile(name), replace(inputs, float_metric=50.0), tmp_path, lambda *_: None
        )

        def judge(folder, runtime, inputs):
            plan = self.tried[-1]
            value = worth(plan)
            return MetricResult(
                metric="pck@0.2", data="d", split="val", persons=9, value=value, low=0, high=0
            )

        monkeypatch.setattr(module, "write_artifact", lambda plan, *_: self.tried.append(plan))
        monkeypatch.setattr(module, "verify", judge)
        monkeypatch.setattr(
            module,
            "measure_sensitivity",
            lambda *_: [LayerSensitivity(f"c{i}", 10.0 + i) for i in range(layers)],
        )

    def tune(self, calibrator="moving-average", keep=()):
        calibrators, search = _order(calibrator)
        self.tuner.tune(calibrators, keep, search=search)
        return self.tuner.best.plan


def _order(calibrator):
    class Learnt:
        learned = False

    calibrators, search = choose_calibrators(calibrator, Learnt)
    return calibrators, search


@pytest.fixture
def bench(monkeypatch, tmp_path, able):
    return lambda worth, **kw: _Bench(monkeypatch, tmp_path, able, worth, **kw)


def test_the_first_that_holds_is_taken(bench):
    made = bench(lambda plan: 49.5)
    assert made.tune().calibrator == "moving-average" and len(made.tried) == 1


def test_auto_takes_the_best_of_all(bench):
    made = bench(lambda plan: {"mse": 49.9}.get(plan.calibrator, 49.5))
    assert made.tune("auto").calibrator == "mse" and len(made.tried) == len(METHODS)


def test_biases_are_corrected_with_the_best_calibrator(bench):
    made = bench(
        lambda plan: 49.5 if plan.bias_correction else {"mse": 45}.get(plan.calibrator, 40)
    )
    assert made.tune().bias_correction and made.tried[-1].calibrator == "mse"


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 6])
def test_the_fewest_layers_stay_float_and_they_are_the_most_sensitive(bench, needed):
    made = bench(lambda plan: 49.5 if len(plan.keep_float) >= needed else 40, layers=24)
    assert made.tune().keep_float == tuple(f"c{i}" for i in range(needed))


def test_a_net_that_would_be_mostly_float_is_not_called_int8(bench):
    made = bench(lambda plan: 49.5 if len(plan.keep_float) > 12 else 40, layers=24)
    made.tune()
    assert not made.tuner.holds and max(len(p.keep_float) for p in made.tried) <= 8


def test_layers_kept_by_hand_stay_kept_on_every_rung(bench):
    made = bench(lambda plan: 40)
    made.tune(keep=("c3",))
    assert all(p.keep_float[:1] == ("c3",) for p in made.tried)
    assert all(p.keep_float.count("c3") == 1 for p in made.tried)


def test_nncf_is_the_last_rung_for_openvino_alone(bench):
    made = bench(lambda plan: 40, name="openvino")
    made.tune()
    assert made.tried[-1].method == "accuracy-control"
    made = bench(lambda plan: 40, name="tensorrt")
    made.tune()
    assert all(p.method == "qdq" for p in made.tried)


def test_nncfs_accuracy_control_makes_a_file_that_is_judged(able, tmp_path):
    inputs = prepare_quantization_inputs(able, QuantizeOptions(data=DATA, max_drop=100.0))
    tuned_plan = AccuracyTuner(get_profile("openvino"), inputs, tmp_path, lambda *_: None)
    tuned_plan._control_accuracy()
    assert tuned_plan.holds and (tuned_plan.best.folder / "model.xml").is_file()
    assert read_card(tuned_plan.best.folder).calibration.method == "NNCF accuracy control"


def test_nncf_which_cannot_keep_layers_is_not_tried_where_some_are_to_be_kept(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(module, "write_artifact", lambda *_: None)
    monkeypatch.setattr(module, "verify", lambda *_: SimpleNamespace(value=40.0))
    monkeypatch.setattr(module, "measure_sensitivity", lambda *_: [])
    monkeypatch.setattr(module, "write_sensitivity", lambda *_: None)
    inputs = SimpleNamespace(float_metric=50.0, max_drop=1.0, statistics={}, fixed_ranges={})
    for kept, last in (((), "accuracy-control"), (("c3",), "qdq")):
        tuner = AccuracyTuner(get_profile("openvino"), inputs, tmp_path, lambda *_: None)
        tuner.tune(("minmax",), kept, search=False)
        assert tuner.attempts[-1].plan.method == last
