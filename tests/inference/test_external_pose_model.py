import cv2
import numpy as np
import pytest

from okdhp_edge.backends.selection import load_backend
from okdhp_edge.data.load import load
from okdhp_edge.errors import ModelError
from okdhp_edge.inference.external_pose_model import (
    VIEWS,
    ExternalPoseModel,
    View,
    find_teacher,
    fingerprint,
    read_pose_spec,
)
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.pose.heatmap import gaussians
from okdhp_edge.system.latency import StageClock
from tests.helpers.made_teacher import TOML, dot_teacher, dotted

WHOLE = np.array([0.0, 0, 64, 64])
DOTS = {"nose": (20, 12), "tail": (40, 50), "crest": (10, 44)}


def test_both_looks_find_the_joints_in_pixels_of_the_picture(tmp_path):
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx"))
    for look in teacher.predict(dotted(DOTS), WHOLE):
        assert np.abs(look.xy - list(DOTS.values())).max() < 1.5
        assert (look.score > 0.3).all()


@pytest.mark.parametrize("count", VIEWS)
def test_every_view_finds_the_joints_in_pixels_of_the_picture(tmp_path, count):
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", f"{TOML}box_padding = 2"))
    looks = teacher.predict(dotted(DOTS), WHOLE, VIEWS[count])
    assert len(looks) == count == len(set(VIEWS[count]))
    for found in looks:
        assert np.abs(found.xy - list(DOTS.values())).max() < 3
        assert (found.score > 0.2).all()


def test_an_openvino_ir_is_a_teacher_too(tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    onnx_file = dot_teacher(tmp_path / "t.onnx")
    ir = tmp_path / "ir.xml"
    openvino.save_model(openvino.convert_model(onnx_file), ir, compress_to_fp16=False)
    ir.with_suffix(".toml").write_text(TOML)
    for theirs, ours in zip(
        ExternalPoseModel(ir).predict(dotted(DOTS), WHOLE),
        ExternalPoseModel(onnx_file).predict(dotted(DOTS), WHOLE), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(theirs.xy, ours.xy, atol=1e-3)
    before = fingerprint(ir)
    ir.with_suffix(".bin").write_bytes(b"other weights")
    assert fingerprint(ir) != before
    ir.write_text("no network")
    with pytest.raises(ModelError, match="cannot be read") as caught:
        ExternalPoseModel(ir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("box", [(30, 20, 60, 90), (0, 0, 128, 128), (-20, 10, 100, 60)])
def test_the_box_only_says_where_to_look(tmp_path, box):
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx"))
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[40:50, 50:60] = (0, 0, 255)
    for look in teacher.predict(picture, np.array(box, float)):
        assert np.abs(look.xy[0] - [54.5, 44.5]).max() < 2.5


def test_an_absent_joint_scores_low(tmp_path):
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx"))
    for look in teacher.predict(dotted({"nose": (30, 30)}), WHOLE):
        assert look.score[0] > 0.3 > look.score[1:].max()


@pytest.mark.parametrize(
    ("key", "shift"),
    [('grid = "origin"', (-1.5, -1.5)), ("offset = [0.5, -0.25]", (2, -1)),
     ("offset = [[1, 0], [0, 1], [0, 0]]", ((4, 0), (0, 4), (0, 0)))],
)  # fmt: skip
def test_grid_and_offset_move_what_heatmaps_say(tmp_path, key, shift):
    """In pixels of an input that is as large as the picture, at 4 pixels a cell."""
    plain, moved = (
        ExternalPoseModel(dot_teacher(tmp_path / f"{name}.onnx", f"{TOML}{more}"))
        for name, more in (("plain", "box_padding = 1"), ("moved", f"box_padding = 1\n{key}"))
    )
    (before, _), (after, _) = (t.predict(dotted(DOTS), WHOLE) for t in (plain, moved))
    np.testing.assert_allclose(after.xy - before.xy, np.broadcast_to(shift, (3, 2)), atol=1e-9)


def test_an_offset_of_another_number_of_joints_is_refused(tmp_path):
    file = dot_teacher(tmp_path / "t.onnx", f"{TOML}offset = [[1, 0], [0, 1]]")
    with pytest.raises(ModelError, match="offset"):
        ExternalPoseModel(file)


def test_smoothing_finds_the_middle_of_a_broad_peak(tmp_path):
    smooth = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", f"{TOML}smoothing = 1.0"))
    for look in smooth.predict(dotted(DOTS), WHOLE):
        assert np.abs(look.xy - list(DOTS.values())).max() < 1.5


def test_the_mirror_image_exchanges_sides(tmp_path):
    toml = TOML.replace('"nose", "tail", "crest"', '"left_hand", "right_hand", "crest"')
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", toml))
    # Red is its left hand whichever way the picture is turned: this teacher knows no sides.
    straight, mirrored = teacher.predict(dotted({"nose": (20, 12), "tail": (40, 50)}), WHOLE)
    assert np.abs(straight.xy[0] - mirrored.xy[1]).max() < 1.5


def test_keypoints_are_shares_of_the_input(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    answer = np.array([[[0.25, 0.75, 0.9], [0.5, 0.5, 0.1]]], np.float32)[None]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["keypoints"]),
    ]
    graph = helper.make_graph(
        nodes, "points",
        [helper.make_tensor_value_info("image", TensorProto.INT32, [1, 32, 64, 3])],
        [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, [1, 1, 2, 3])],
        [numpy_helper.from_array(answer, "answer"),
         numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "t.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    path.with_suffix(".toml").write_text(
        'joints = ["a", "b"]\nlayout = "NHWC"\nreads = "keypoints"\nbox_padding = 1.0\n'
    )
    look, _ = ExternalPoseModel(path).predict(
        np.zeros((32, 64, 3), np.uint8), np.array([0.0, 0, 64, 32])
    )
    # The box ends half a pixel beyond the last pixel's edge, so the crop lies half a pixel off.
    assert np.allclose(look.xy, [[0.75 * 64, 0.25 * 32], [32, 16]])
    assert np.allclose(look.score, [0.9, 0.1])


def test_another_output_is_read_by_name(tmp_path):
    path = dot_teacher(
        tmp_path / "t.onnx", TOML + 'output = "heatmaps"\n', outputs=("nothing", "heatmaps")
    )
    look, _ = ExternalPoseModel(path).predict(cv2.flip(dotted(DOTS), 1), WHOLE)
    assert look.score.max() > 0.3


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (None, "t.toml"),
        ("joints = 3", "description"),
        ('joints = "coco18"', "coco18"),
        ('nonsense = 1\njoints = "coco17"', "nonsense"),
        ('joints = ["a"]', "expected (1, 1, 16, 16)"),
        ("not toml at all", "description"),
    ],
)
def test_a_description_that_does_not_fit_is_one_clear_line(tmp_path, toml, says):
    path = dot_teacher(tmp_path / "t.onnx")
    path.with_suffix(".toml").unlink() if toml is None else path.with_suffix(".toml").write_text(
        toml
    )
    with pytest.raises(ModelError) as caught:
        ExternalPoseModel(path).predict(dotted(DOTS), WHOLE)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_teacher_is_said(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_pose_spec(tmp_path / "none.onnx")


def test_a_changed_description_is_another_teacher(tmp_path):
    path = dot_teacher(tmp_path / "t.onnx")
    before = fingerprint(path)
    path.with_suffix(".toml").write_text(TOML + "box_padding = 1.5\n")
    assert fingerprint(path) != before


def test_the_mirror_image_exchanges_scores_with_the_sides(tmp_path):
    toml = TOML.replace('"nose", "tail", "crest"', '"left_hand", "right_hand", "crest"')
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", toml))
    # Red, its left hand, is all there is; in the mirror image that is the right one.
    straight, mirrored = teacher.predict(dotted({"nose": (20, 12)}), WHOLE)
    assert straight.score[0] > 0.3 > straight.score[1]
    assert mirrored.score[1] > 0.3 > mirrored.score[0]


def test_heatmaps_of_an_upright_input_are_read_upright(tmp_path):
    """12 x 16 cells of 4 pixels: the cell (9, 2) lies at (37.5, 9.5) of an input of 48 x 64."""
    more = "size = [48, 64]\nbox_padding = 1\n"
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", TOML + more))
    cells = np.array([[9.0, 2.0], [3.0, 13.0], [6.0, 8.0]])
    teacher._file = lambda _: gaussians(cells, (12, 16), 1.0)[None]
    found = teacher.predict_view(np.zeros((64, 48, 3), np.uint8), np.array([0.0, 0, 48, 64]))
    # The box ends half a pixel beyond the last pixel's middle, so the crop lies half a pixel off.
    np.testing.assert_allclose(found.xy, 4 * cells + 2, atol=0.01)


def test_a_teacher_sees_a_box_as_much_larger_as_its_description_says(tmp_path):
    """Twice 64 pixels in 64; a view's padding is a multiple of that."""
    teacher = ExternalPoseModel(dot_teacher(tmp_path / "t.onnx", f"{TOML}box_padding = 2"))
    shown, _ = teacher.locate(dotted({}), WHOLE)
    np.testing.assert_allclose(shown, [[0.5, 0, 15.5], [0, 0.5, 15.5]])
    wide = teacher._crop(dotted({}), WHOLE, View(padding=1.25)).crop_from_image
    np.testing.assert_allclose(wide, [[0.4, 0, 18.7], [0, 0.4, 18.7]])


def test_an_export_is_a_teacher_that_its_card_describes(exported):
    path = find_teacher(str(exported.parent))
    assert path == exported / "model.onnx"
    teacher = ExternalPoseModel(path, threads=1)
    sample = load("synthetic:4", "all").samples[0]
    image = sample.image.read()
    prediction = teacher.predict_view(image, sample.box)
    with load_backend(exported, "onnxruntime", "fp32", 1, lambda _: None).backend as backend:
        pose = PoseEstimator(backend, StageClock()).estimate(image, sample.box)
    # Beyond the image a teacher sees gray, the estimator black.
    assert np.median(np.abs(prediction.xy - pose.xy)) < 0.1
    assert teacher.skeleton.joints == pose.skeleton.joints
    assert fingerprint(path).count(":") == 1


def test_a_detector_is_no_teacher():
    with pytest.raises(ModelError, match="person is a person detector"):
        ExternalPoseModel(find_teacher("person"))
