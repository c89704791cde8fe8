"""A person detector through the whole pipeline, tiny and on drawn people."""

import json
import shutil

import numpy as np
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.detection import load_detection
from okdhp_edge.errors import ModelError, RecipeError
from okdhp_edge.evaluation.evaluate import evaluate
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DETECTOR_DATA, detector_recipe


def test_training_finds_people_and_the_card_says_what_it_is(trained_detector, int8_detector):
    facts = json.loads(trained_detector.with_suffix(".json").read_text())
    assert facts["metric"] == "box_ap"
    assert facts["best_score"] > 15
    card = read_card(int8_detector / "onnxruntime")
    assert card.kind == "detector"
    assert card.channels == 5
    assert card.input.box_padding == 1.0
    assert card.decoder.stride == 8
    assert card.metrics[0].metric == "box_ap"


def test_every_runtime_gives_the_same_boxes_as_pytorch(trained_detector, int8_detector):
    fp32 = int8_detector.parent / "fp32"
    card = read_card(fp32)
    poses = load_detection(DETECTOR_DATA, "val")
    scores = {}
    for name in ("pytorch", "onnxruntime", "openvino"):
        with open_backend(name, BackendConfig(fp32, card, "fp32")) as backend:
            predict = predict_with(backend)
            found = evaluate(poses, card.input, card.decoder, predict, "box_ap")["model"]
        scores[name] = found.value
    assert scores["onnxruntime"] == pytest.approx(scores["pytorch"], abs=0.3)
    assert scores["openvino"] == pytest.approx(scores["pytorch"], abs=0.3)


def test_the_detector_finds_the_person_in_an_image_of_any_shape(int8_detector):
    samples = load_detection(DETECTOR_DATA, "val").samples
    detector = open_detector(int8_detector.parent, min_score=0.05)
    hits = 0
    for sample in samples:
        image = np.pad(sample.image.read(), ((0, 0), (0, 96), (0, 0)), constant_values=127)
        found = detector(image)
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
        for detection in found:
            assert (detection.box[:2] >= 0).all()
            assert (detection.box[:2] + detection.box[2:] <= [288, 192]).all()
        (x, y, width, height) = sample.persons[0]
        middle = np.array([x + width / 2, y + height / 2])
        hits += any(
            (np.abs(d.box[:2] + d.box[2:] / 2 - middle) < np.array([width, height]) / 2).all()
            for d in found[:1]
        )
    detector.close()
    assert hits >= 0.7 * len(samples)


def test_a_pose_model_is_no_detector_and_the_reverse(exported, int8_detector):
    with pytest.raises(ModelError, match="tiny is a pose model, not a person detector"):
        open_detector(exported)
    from okdhp_edge.api import load

    with pytest.raises(ModelError, match="tiny-detector is a person detector, not a pose model"):
        load(str(int8_detector.parent))


@pytest.mark.parametrize("layout", [{"stride": 4, "neck": 4}, {"stride": 4, "neck": None}])
def test_a_detector_begins_with_the_encoder_of_a_pose_model(tmp_path, layout):
    network = detector_recipe().network.model_dump() | layout
    pose = Recipe.model_validate(
        {
            "name": "pose", "network": network, "input": {"size": [64, 64]},
            "distillation": {"method": "supervised"},
            "optimizer": {"epochs": 1, "batch_size": 16},
        }
    )  # fmt: skip
    start = train(pose, "synthetic:32", TrainingOptions(out=tmp_path / "pose", device="cpu"))
    said = []
    options = TrainingOptions(out=tmp_path / "d", device="cpu", workers=0, say=said.append)
    short = {"epochs": 1, "batch_size": 16}
    train(detector_recipe(start=str(start), optimizer=short), "synthetic:32", options)
    assert any("the encoder alone" in line for line in said)
    other = detector_recipe().network.model_dump() | {"encoder": "resnet18"}
    with pytest.raises(RecipeError, match="encoder"):
        train(detector_recipe(start=str(start), network=other), "synthetic:32", options)


def test_an_export_without_its_card_is_one_line(int8_detector, tmp_path):
    alone = shutil.copy(int8_detector.parent / "fp32" / "model.onnx", tmp_path)
    with pytest.raises(ModelError, match=r"without its card\.json"):
        open_detector(alone)


def test_training_goes_on_from_a_detector_with_its_boxes(trained_detector, tmp_path):
    recipe = detector_recipe(start=str(trained_detector)).changed(epochs=0)
    options = TrainingOptions(out=tmp_path, device="cpu", workers=0)
    kept = train(recipe, DETECTOR_DATA, options)
    before, after = (
        json.loads(p.with_suffix(".json").read_text()) for p in (trained_detector, kept)
    )
    assert after["scores"] == pytest.approx(before["scores"], abs=0.01)


def test_quantization_aware_training_takes_a_detector(trained_detector, tmp_path):
    # So little that what was learned before stays.
    optimizer = {"epochs": 1, "batch_size": 16, "lr": 1e-4}
    recipe = detector_recipe(
        start=str(trained_detector), quantization={"profile": "openvino"}, optimizer=optimizer
    )
    options = TrainingOptions(out=tmp_path, device="cpu", workers=0)
    best = train(recipe, DETECTOR_DATA, options)
    scores = json.loads(best.with_suffix(".json").read_text())["scores"]
    assert scores["branch0"] > 5
    assert scores["int8"] == pytest.approx(scores["branch0"], abs=5)


@pytest.mark.parametrize(
    "change",
    [
        {
            "network": {"kind": "hourglass", "width": 16, "branches": [1, 1]},
            "input": {"size": [64, 64]},
        },
        {"distillation": {"method": "selfkd", "teacher": {"path": "x.safetensors"}}},
        {"augmentation": {"views": 2}},
    ],
)
def test_what_does_not_fit_a_detector_is_refused(change):
    with pytest.raises(ValueError, match="a detector"):
        detector_recipe(**change)


def test_a_metric_of_poses_is_refused_before_an_epoch(tmp_path):
    def fail(stage: str, *_: object) -> None:
        assert not stage.startswith("epoch")

    options = TrainingOptions(out=tmp_path / "m", device="cpu", workers=0, report=fail)
    with pytest.raises(RecipeError, match="oks is not a detector metric"):
        train(detector_recipe(metric="oks"), DETECTOR_DATA, options)
