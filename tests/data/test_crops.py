"""A set of crops trains like the set it was cut from."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from okdhp_edge.data.annotation_files import split_by_name
from okdhp_edge.data.augment import NO_AUGMENTATION, make_training_crop
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO
from okdhp_edge.data.crops import ANNOTATIONS, CropOptions, find_held_out_ids, write_crops
from okdhp_edge.data.load import load
from okdhp_edge.data.mask import PolygonMask
from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.pose.skeleton import skeleton_from_names
from okdhp_edge.system.files import MANIFEST
from tests.helpers.made_data import lspet_folder
from tests.helpers.tiny_models import tiny_recipe


def _cut(tmp_path, **options):
    poses = load("synthetic:6", "train")
    counted = []
    written = write_crops(poses, tmp_path, CropOptions(**options), counted.append)
    assert counted == list(range(1, len(poses) + 1))
    assert written == sum(
        p.stat().st_size for p in tmp_path.glob("*.*") if p.suffix != ".json" and p.name != MANIFEST
    )
    return poses, load(f"coco:{tmp_path / ANNOTATIONS}@all", "train")


@pytest.mark.parametrize("side", [48, 4000])
def test_network_crops_are_those_of_the_whole_pictures(tmp_path, side):
    poses, crops = _cut(tmp_path, side=side, quality=100, suffix=".jpg")
    spec = tiny_recipe().input_spec()
    assert len(crops) == len(poses)
    for whole, cut in zip(poses.samples, crops.samples, strict=True):
        assert max(cut.image.read().shape) <= max(whole.image.read().shape)
        a, b = (
            make_training_crop(s, poses.skeleton, spec, NO_AUGMENTATION, np.random.default_rng(0))
            for s in (whole, cut)
        )
        np.testing.assert_array_equal(whole.labelled, cut.labelled)
        np.testing.assert_allclose(a.xy, b.xy, atol=0.6)
        # The same persons, blurred by what a smaller picture and JPEG take.
        difference = np.abs(a.image.astype(int) - b.image.astype(int)).mean()
        assert difference < (12 if side == 48 else 3)


def test_boxes_without_anybody_stay_so(tmp_path):
    poses = load("synthetic:2", "train")
    nobody = replace(
        poses.samples[0], labelled=np.zeros(len(poses.skeleton), bool),
        absent=np.ones(len(poses.skeleton), bool),
    )  # fmt: skip
    write_crops(replace(poses, samples=[nobody]), tmp_path, CropOptions(), lambda _: None)
    (found,) = load(f"coco:{tmp_path / ANNOTATIONS}@all", "train").samples
    assert found.is_negative


def test_head_sizes_and_outlines_are_scaled_like_the_image(tmp_path):
    poses = load("synthetic:1", "train")
    (whole,) = poses.samples
    x, y, width, height = whole.box
    corners = np.array([[x, y], [x + width, y], [x, y + height]])
    whole = replace(whole, head_size=12.0, outline=PolygonMask((corners,)))
    write_crops(replace(poses, samples=[whole]), tmp_path, CropOptions(side=40), lambda _: None)
    (cut,) = load(f"coco:{tmp_path / ANNOTATIONS}@all", "train").samples
    scale = cut.box[2] / width
    assert scale < 0.9
    assert cut.head_size == pytest.approx(12 * scale, abs=0.05)
    np.testing.assert_allclose(
        cut.outline.polygons[0],
        cut.box[:2] + np.array([[0, 0], [cut.box[2], 0], [0, cut.box[3]]]), atol=0.2,
    )  # fmt: skip


def test_the_area_of_a_person_is_estimated_where_the_set_has_none(tmp_path):
    poses = load("synthetic:1", "train")
    (whole,) = (replace(sample, area=None) for sample in poses.samples)
    write_crops(replace(poses, samples=[whole]), tmp_path, CropOptions(), lambda _: None)
    (cut,) = load(f"coco:{tmp_path / ANNOTATIONS}@all", "train").samples
    assert cut.area / np.prod(cut.box[2:]) == pytest.approx(PERSON_BOX_AREA_RATIO, rel=0.01)


def test_a_suffix_that_opencv_cannot_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "haveImageWriter", lambda _: False)
    with pytest.raises(DataError, match="OpenCV cannot write"):
        write_crops(load("synthetic:2", "train"), tmp_path, CropOptions(), lambda _: None)


def test_other_files_are_not_replaced_but_older_crops_are(tmp_path):
    poses = load("synthetic:4", "train")
    for _ in range(2):
        write_crops(poses, tmp_path / "crops", CropOptions(), lambda _: None)
    assert len(list((tmp_path / "crops").iterdir())) == len(poses) + 3
    (tmp_path / "crops" / "notes.txt").write_text("mine")
    write_crops(poses, tmp_path / "crops", CropOptions(), lambda _: None)
    assert (tmp_path / "crops" / "notes.txt").read_text() == "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match="files other than crops"):
        write_crops(poses, tmp_path / "mine", CropOptions(), lambda _: None)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_pairs_that_names_do_not_tell_are_kept(tmp_path):
    poses = load("synthetic:2", "train")
    joints = tuple(f"point_{i}" for i in range(len(poses.skeleton)))
    unnamed = skeleton_from_names("unnamed", joints, flip_index=poses.skeleton.flip_index.tolist())
    write_crops(replace(poses, skeleton=unnamed), tmp_path, CropOptions(), lambda _: None)
    again = load(f"coco:{tmp_path / ANNOTATIONS}@all", "train")
    np.testing.assert_array_equal(again.skeleton.flip_index, poses.skeleton.flip_index)


def test_crops_are_divided_as_the_images_they_are_cut_from(tmp_path):
    """Persons of one image in two splits would be trained on and evaluated on."""
    poses = load("synthetic:40", "all")
    several = replace(
        poses, samples=[replace(s, id=f"{s.image_name}#{n}") for s in poses.samples for n in (1, 2)]
    )
    write_crops(several, tmp_path, CropOptions(), lambda _: None)
    images = {f"{n:06d}.webp": s.image_name for n, s in enumerate(several.samples, start=1)}
    parts = [
        {images[s.image_name] for s in load(f"coco:{tmp_path / ANNOTATIONS}", split).samples}
        for split in ("train", "val", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(poses)
    assert parts[1] == {s.image_name for s in split_by_name(poses.samples, "val", _get_image_name)}


def _get_image_name(sample):
    return sample.image_name


def test_a_split_that_is_named_is_not_divided_by_itself():
    """`coco:x@all` names the persons of every split alike."""
    assert find_held_out_ids("synthetic:40@all") == {}
    found = find_held_out_ids("synthetic:40")
    assert found["val"] and found["test"] and not found["val"] & found["test"]


def test_a_suffix_without_a_quality_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"crops cannot be .png"):
        write_crops(load("synthetic:2", "train"), tmp_path, CropOptions(suffix=".png"), print)


def test_crops_of_a_set_with_lists_are_divided_by_them(tmp_path):
    folder = tmp_path / "lspet"
    folder.mkdir()
    source = f"lspet:{lspet_folder(folder, 6)}"
    for split, numbers in {"train": (1, 2, 3), "val": (4,), "test": (5, 6)}.items():
        text = "".join(f"im{n:05d}\n" for n in numbers)
        (folder / "splits" / f"{split}.txt").write_text(text)
    poses, out = load(source, "all"), tmp_path / "crops"
    write_crops(poses, out, CropOptions(), lambda _: None, find_held_out_ids(source))
    sizes = [len(load(f"coco:{out / ANNOTATIONS}", s)) for s in ("train", "val", "test")]
    assert sizes == [3, 1, 2]


def test_what_a_set_without_test_holds_out_is_not_trained_on(tmp_path):
    poses = load("synthetic:40", "all")
    val = {sample.id for sample in poses.samples[::3]}
    write_crops(poses, tmp_path, CropOptions(), lambda _: None, {"val": val, "test": set()})
    names = [f"{n:06d}.webp" for n, s in enumerate(poses.samples, start=1) if s.id in val]
    assert [s.image_name for s in load(f"coco:{tmp_path / ANNOTATIONS}", "val").samples] == names
    assert len(load(f"coco:{tmp_path / ANNOTATIONS}", "train")) == len(poses) - len(val)
