import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import COCO17, LSP14
from tests.helpers.made_data import picture

YAML = """
path: .
train: images/train
val: images/val
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names: {0: fish}
"""
# Images are 120x90: class, box, three joints with visibility.
ROW = "0 0.5 0.5 0.5 0.6 0.25 0.5 2 0.5 0.25 1 0 0 0\n"


def made(folder, yaml=YAML, rows=ROW, splits=("train", "val")):
    for split in splits:
        for name in ("a b", "c"):
            picture(folder / "images" / split / f"{name}.jpg")
            labels = folder / "labels" / split
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{name}.txt").write_text(rows)
    (folder / "data.yaml").write_text(yaml)
    return folder


def test_shares_become_pixels_of_the_picture(tmp_path):
    poses = load(f"yolo:{made(tmp_path)}", "train")
    assert len(poses) == 2 and len(load(f"yolo:{tmp_path / 'data.yaml'}", "all")) == 4
    first = poses.samples[0]
    assert first.labelled.tolist() == [True, True, False]
    # Shares count from the edge of the first pixel, pixels from its centre.
    assert np.allclose(first.xy[:2], [[29.5, 44.5], [59.5, 22.0]])
    assert np.allclose(first.box, [30, 18, 60, 54])
    assert poses.skeleton.flip_index.tolist() == [0, 2, 1]


def test_joints_without_visibility_are_there_unless_at_zero(tmp_path):
    yaml = YAML.replace("[3, 3]", "[3, 2]")
    rows = "0 0.5 0.5 0.5 0.6 0.25 0.5 0.5 0.25 0 0\n"
    poses = load(f"yolo:{made(tmp_path, yaml, rows)}", "train")
    assert poses.samples[0].labelled.tolist() == [True, True, False]


def test_named_joints_are_matched_with_other_sets(tmp_path):
    yaml = YAML.replace("flip_idx: [0, 2, 1]\n", "kpt_names: {0: [nose, LEye, REye]}\n")
    poses = load(f"yolo:{made(tmp_path, yaml)}", "train").with_skeleton(COCO17)
    assert poses.samples[0].labelled[:3].tolist() == [True, True, False]


def test_seventeen_joints_without_names_are_cocos(tmp_path):
    yaml = YAML.replace("[3, 3]", "[17, 3]").replace("[0, 2, 1]", str(COCO17.flip_index.tolist()))
    row = "0 0.5 0.5 0.5 0.6 " + "0.5 0.5 2 " * 17 + "\n"
    assert load(f"yolo:{made(tmp_path, yaml, row)}", "train").skeleton is COCO17


@pytest.mark.parametrize("text", ["../train/images", "train/images"])
def test_roboflows_paths_are_found(tmp_path, text):
    picture(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text(ROW)
    yaml = f"train: {text}\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n"
    (tmp_path / "data.yaml").write_text(yaml)
    assert len(load(f"yolo:{tmp_path}", "all")) == 1


def test_what_is_left_out_is_counted(tmp_path):
    made(tmp_path)
    (tmp_path / "labels" / "train" / "c.txt").unlink()
    (tmp_path / "labels" / "val" / "c.txt").write_text("\n")
    (tmp_path / "labels" / "val" / "a b.txt").write_text(
        ROW + ROW.replace("2 0.5 0.25 1", "0 0 0 0")
    )
    notes = " ".join(load(f"yolo:{tmp_path}", "all").notes)
    assert "1 images without labels" in notes and "1 images without persons" in notes
    assert "1 persons without labelled joints" in notes


@pytest.mark.parametrize(
    ("yaml", "rows", "says"),
    [
        ("[", ROW, "is not valid YAML"),
        ("a: 1", ROW, "has no `kpt_shape`"),
        (YAML.replace("[3, 3]", "[3, 4]"), ROW, "has no `kpt_shape`"),
        (YAML.replace("images/val", "images/gone"), ROW, "names images/gone, which does not exist"),
        (YAML.replace("[0, 2, 1]", "[0, 2, 2]"), ROW, "does not pair 3 joints"),
        (YAML.replace("[0, 2, 1]", "x"), ROW, "`flip_idx` is not a list"),
        (YAML, "0 0.5 0.5\n", "line 1: 3 numbers, not 14"),
        (YAML, "0 a b\n", "invalid YOLO labels"),
        (YAML + "kpt_names: {0: [a]}", ROW, "does not name 3 joints"),
    ],
)
def test_what_makes_a_set_unusable_is_one_line(tmp_path, yaml, rows, says):
    with pytest.raises(DataError) as caught:
        load(f"yolo:{made(tmp_path, yaml, rows)}", "train")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def as_yolo(lspet, folder, count):
    """The first persons of LSPET as a YOLO pose set."""
    (folder / "labels").mkdir(parents=True)
    (folder / "images").mkdir()
    for sample in lspet.samples[:count]:
        image = sample.image.read()
        scale = np.array([image.shape[1], image.shape[0]])
        name = sample.image.path.name
        (folder / "images" / name).symlink_to(sample.image.path)
        centre = (sample.box[:2] + sample.box[2:] / 2) / scale
        joints = np.column_stack([(sample.xy + 0.5) / scale, 2 * sample.labelled])
        row = [0, *centre, *(sample.box[2:] / scale), *joints.ravel()]
        text = " ".join(f"{v:.8f}" for v in row)
        (folder / "labels" / name).with_suffix(".txt").write_text(f"{text}\n")
    (folder / "data.yaml").write_text(
        f"train: images\nkpt_shape: [14, 3]\nflip_idx: {LSP14.flip_index.tolist()}\n"
        f"kpt_names: {{0: [{', '.join(LSP14.joints)}]}}\n"
    )


def test_lspet_as_yolo_writes_it_is_lspet(real_data, tmp_path):
    """Twenty persons there and back."""
    lspet = load(f"lspet:{real_data / 'lspet'}", "val")
    as_yolo(lspet, tmp_path / "set", 20)
    again = load(f"yolo:{tmp_path / 'set'}", "all")
    assert again.skeleton.joints == LSP14.joints and len(again) == 20
    by_name = {s.image.path.name: s for s in again.samples}
    for sample in lspet.samples[:20]:
        found = by_name[sample.image.path.name]
        assert (found.labelled == sample.labelled).all()
        assert np.allclose(found.xy[found.labelled], sample.xy[sample.labelled], atol=0.01)
        assert np.allclose(found.box, sample.box, atol=0.01)
