import shutil

import numpy as np
import pytest

from okdhp_edge.artifacts.card import ModelCard, SkeletonSpec, read_card
from okdhp_edge.errors import ModelError
from okdhp_edge.inference import open_detector as opening
from okdhp_edge.inference.open_detector import (
    choose_detector,
    choose_detector_backend,
    identify_detector,
    is_human,
    open_detector,
)
from okdhp_edge.pose.skeleton import COCO17, LSP14, Skeleton
from tests.helpers.made_detector import SIDE, constant_detector, yolox_rows

HAND = Skeleton("hand", ("wrist", "thumb", "index"))
_PARTS = ("shoulder", "front_paw", "hip", "back_paw")
ANIMAL = Skeleton(
    "animal", tuple(f"{side}_{part}" for side in ("left", "right") for part in _PARTS)
)


def _card(exported, skeleton, data) -> ModelCard:
    made = {"skeleton": SkeletonSpec.of(skeleton), "training_data": data}
    return read_card(exported).model_copy(update=made)


def test_bodies_of_people_are_told_from_hands_and_animals():
    assert is_human(COCO17)
    assert is_human(LSP14)
    assert not is_human(HAND)
    assert not is_human(ANIMAL)


def test_the_shipped_detector_is_used_where_it_fits_the_model(exported, monkeypatch):
    monkeypatch.setattr(opening, "_has_shipped_detector", lambda: True)
    people = _card(exported, COCO17, "coco+lspet")
    assert choose_detector(None, people) == "person"
    assert choose_detector("none", people) is None
    assert choose_detector("mine.onnx", people) == "mine.onnx"
    assert choose_detector(None, _card(exported, HAND, "coco")) is None
    assert choose_detector(None, _card(exported, COCO17, "synthetic")) is None


def test_results_of_a_detector_that_was_exported_again_are_another_ones(tmp_path, quantized):
    assert identify_detector("none") == "none"
    shutil.copytree(quantized / "onnxruntime", tmp_path / "mine" / "int8" / "onnxruntime")
    before = identify_detector(str(tmp_path / "mine"))
    assert before != str(tmp_path / "mine")
    card = tmp_path / "mine" / "int8" / "onnxruntime" / "card.json"
    card.write_text(card.read_text() + "\n")
    assert identify_detector(str(tmp_path / "mine")) != before


def test_other_peoples_onnx_detectors_open_by_their_path(tmp_path):
    rows = yolox_rows([(32, 32, 20, 30, 0.3, 0)])
    path = constant_detector(tmp_path / "d.onnx", rows)
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert len(open_detector(path)(frame)) == 0  # below its usual threshold
    assert len(open_detector(path, min_score=0.2)(frame)) == 1


@pytest.mark.parametrize("name", ["no-such-model", "lite"])
def test_what_is_no_detector_is_one_line(name):
    with pytest.raises(ModelError, match="no-such-model|lite is a pose model"):
        open_detector(name)


def test_a_detector_without_a_file_for_the_runtime_uses_another_and_says_so(tmp_path, quantized):
    shutil.copytree(quantized / "onnxruntime", tmp_path / "mine" / "int8" / "onnxruntime")
    said: list[str] = []
    with pytest.raises(ModelError, match="pose model"):
        open_detector(tmp_path / "mine", backend="pytorch", say=said.append)
    assert said[0] == "detector mine has no file for pytorch: another runtime is chosen"
    assert "onnxruntime" in said[1]


def test_a_runtime_is_chosen_once_for_all_processes(tmp_path):
    assert choose_detector_backend("person", "openvino", 1, print) == "openvino"
    assert choose_detector_backend("none", "opencv", 1, print) == "opencv"
    said = []
    chosen = choose_detector_backend("person", "opencv", 1, said.append)
    assert chosen in ("openvino", "onnxruntime") and chosen in said[-1]
    with pytest.raises(ModelError, match="lite is a pose model"):
        choose_detector_backend("lite", "openvino", 1, print)
    with pytest.raises(ModelError, match="gone.onnx does not exist"):
        choose_detector_backend(str(tmp_path / "gone.onnx"), "openvino", 1, print)
