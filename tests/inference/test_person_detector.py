import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from okdhp_edge.backends import registry
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.inference.person_detector import PersonDetector
from tests.helpers.made_detector import SIDE, constant_detector, yolov8_columns, yolox_rows
from tests.helpers.made_onnx import conv_net

# Two persons, one of them found twice, something else, and a person too faint.
FOUND = [
    (20.0, 30.0, 16.0, 24.0, 0.9, 0), (21.0, 30.5, 16.0, 24.0, 0.7, 0),
    (48.0, 40.0, 10.0, 20.0, 0.6, 0), (40.0, 12.0, 10.0, 10.0, 0.95, 1),
    (10.0, 50.0, 8.0, 8.0, 0.3, 0),
]  # fmt: skip
FRAME = np.zeros((SIDE * 2, SIDE * 4, 3), np.uint8)  # letterboxed: scale 1/4, half the height


@pytest.mark.parametrize(
    ("layout", "top"), [(yolox_rows, 0.0), (yolov8_columns, 16.0)], ids=["yolox", "yolov8"]
)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_persons_are_found_in_the_frames_own_pixels(tmp_path, monkeypatch, layout, top, runtime):
    monkeypatch.setattr(registry, "is_installed", lambda name: name == runtime)
    monkeypatch.setattr(
        "okdhp_edge.inference.onnx_model.is_installed", lambda name: name == runtime
    )
    detector = PersonDetector(constant_detector(tmp_path / "d.onnx", layout(FOUND)), 1)
    found = detector(FRAME)
    assert [round(d.score, 3) for d in found] == [0.9, 0.6]
    expected = np.array([[12, 18 - top, 16, 24], [43, 30 - top, 10, 20]]) * 4
    np.testing.assert_allclose([d.box for d in found], expected, atol=1e-3)


def test_nobody_is_an_empty_list(tmp_path):
    detector = PersonDetector(constant_detector(tmp_path / "d.onnx", yolox_rows([])))
    assert detector(FRAME) == []


def test_a_description_beside_the_file_decides(tmp_path):
    corners = np.zeros((10, 6), np.float32)
    corners[0] = [10, 20, 30, 60, 0.1, 0.8]
    path = constant_detector(tmp_path / "d.onnx", corners)
    with pytest.raises(ModelError, match=r"neither the YOLOX nor the YOLOv8 layout; .*d\.toml"):
        PersonDetector(path)
    (tmp_path / "d.toml").write_text(
        'boxes = "xyxy"\nobjectness = false\nperson_class = 1\ncolour = "RGB"\nmin_score = 0.7\n'
    )
    found = PersonDetector(path)(np.zeros((SIDE, SIDE, 3), np.uint8))
    np.testing.assert_allclose(found[0].box, [10, 20, 20, 40])
    (tmp_path / "d.toml").write_text('boxen = "xyxy"\n')
    with pytest.raises(ModelError, match=r"invalid detector description .*d\.toml"):
        PersonDetector(path)


def _two_planes(path):
    """A network that takes no image of three colors."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 8, 8]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "planes", values[:1],
                              values[1:])  # fmt: skip
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_files_that_are_no_detectors_are_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        PersonDetector(tmp_path / "gone.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match=r"text\.onnx cannot be read"):
        PersonDetector(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="not one image"):
        PersonDetector(_two_planes(tmp_path / "planes.onnx"))
    with pytest.raises(ModelError, match="without its card.json"):
        PersonDetector(conv_net(tmp_path / "pose.onnx"))


def test_no_runtime_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("okdhp_edge.inference.onnx_model.is_installed", lambda _: False)
    path = constant_detector(tmp_path / "d.onnx", yolox_rows([]))
    with pytest.raises(BackendError, match=r"pip install okdhp-edge\[openvino\]"):
        PersonDetector(path)


def test_a_real_detector_finds_the_people_of_a_real_video(real_data):
    import cv2

    path = real_data / "models" / "yolox_nano.onnx"
    capture = cv2.VideoCapture(str(real_data / "video" / "pose2sim_single_cam03.mp4"))
    frame = capture.read()[1]
    found = PersonDetector(path, 1)(frame)
    assert len(found) == 1 and found[0].score > 0.6
    x, y, w, h = found[0].box
    assert 0.3 * frame.shape[0] < h < 0.8 * frame.shape[0]
    assert 0 <= x < x + w <= frame.shape[1] and y > 0


def test_an_image_of_a_single_row_is_an_image(tmp_path):
    detector = PersonDetector(constant_detector(tmp_path / "d.onnx", yolox_rows([])))
    assert detector(np.zeros((1, 1400, 3), np.uint8)) == []


def test_a_yolov8_file_is_fed_rgb_from_0_to_1_in_the_middle_of_grey(tmp_path):
    detector = PersonDetector(constant_detector(tmp_path / "d.onnx", yolov8_columns([])))
    fed = []
    detector._file = lambda image: fed.append(image) or yolov8_columns([])[None]
    blue = np.full((SIDE // 2, SIDE, 3), (255, 0, 0), np.uint8)  # in BGR
    assert detector(blue) == []
    assert fed[0].shape == (1, 3, SIDE, SIDE)
    assert fed[0][0, :, 16:48].transpose(1, 2, 0).reshape(-1, 3).min(axis=0).tolist() == [0, 0, 1]
    np.testing.assert_allclose(fed[0][0, :, [0, 15, 48, 63]], 114 / 255)
