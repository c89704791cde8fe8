"""Exports of annotation tools, as the tools structure them, and pre-annotations back."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from okdhp_edge.data.annotation_tools.convert import (
    READERS,
    export_pre_annotations,
    import_annotations,
)
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError, OkdhpError
from okdhp_edge.pose.skeleton import COCO17

WIDTH, HEIGHT = 64, 48


def write_image(file: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((height, width, 3), 90, dtype=np.uint8))
    return file


def joints_of(file: Path) -> list[dict[str, tuple[float, float]]]:
    """The labelled joints of each person, by name, as the data set gives them."""
    poses = load(f"coco:{file}", "all")
    return [
        {
            name: (round(float(x), 2), round(float(y), 2))
            for name, (x, y), known in zip(poses.skeleton.joints, s.xy, s.labelled, strict=True)
            if known
        }
        for s in poses.samples
    ]


def label_studio_task(regions: list[dict[str, Any]], image: str) -> dict[str, Any]:
    common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
              "to_name": "image", "origin": "manual"}  # fmt: skip
    return {
        "id": 1, "data": {"image": image}, "predictions": [], "total_annotations": 1,
        "annotations": [
            {"id": 7, "was_cancelled": True, "result": []},
            {"id": 8, "was_cancelled": False, "result": [common | region for region in regions]},
        ],
    }  # fmt: skip


def rectangle(name: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    return {"id": name, "type": "rectanglelabels", "from_name": "box",
            "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0,
                      "rectanglelabels": ["person"]}}  # fmt: skip


def keypoint(label: str, x: float, y: float, parent: str | None = None) -> dict[str, Any]:
    region = {"id": f"k{label}{x}", "type": "keypointlabels", "from_name": "kp",
              "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}}  # fmt: skip
    return region if parent is None else region | {"parentID": parent}


def test_label_studio_points_belong_to_their_parent_or_to_the_rectangle_around_them(
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "pictures" / "party.jpg")
    regions = [
        rectangle("a", 0, 0, 50, 100), rectangle("b", 25, 0, 75, 100),
        keypoint("Left Knee", 37.5, 50, parent="b"),  # in both
        keypoint("Right Knee", 75, 25),
        keypoint("Left Knee", 12.5, 50),
    ]  # fmt: skip
    export = tmp_path / "project.json"
    export.write_text(json.dumps([label_studio_task(regions, "/data/upload/1/0a1b2c3d-party.jpg")]))
    found = import_annotations(export, tmp_path / "set.json")
    assert (found.images, found.persons) == (1, 2)
    # 37.5 % of 64 pixels, counted from the first one's edge.
    first, second = joints_of(found.file)
    assert first == {"left_knee": (7.5, 23.5)}
    assert second == {"left_knee": (23.5, 23.5), "right_knee": (47.5, 11.5)}
    np.testing.assert_allclose(load(f"coco:{found.file}", "all").samples[1].box, [16, 0, 48, 48])


def test_a_point_that_two_persons_may_own_is_nobodys(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    regions = [
        rectangle("small", 25, 0, 50, 100), rectangle("big", 0, 0, 100, 100),
        keypoint("nose", 40, 50), keypoint("nose", 50, 50), keypoint("tail", 50, 25),
        keypoint("nose", 90, 50), keypoint("tail", 90, 75),
    ]  # fmt: skip
    export = tmp_path / "project.json"
    export.write_text(json.dumps([label_studio_task(regions, "a.jpg")]))
    found = import_annotations(export, tmp_path / "set.json")
    assert "left out: 2 points that a person has twice" in found.notes
    assert [set(joints) for joints in joints_of(found.file)] == [{"tail"}, {"nose", "tail"}]


def test_an_image_of_another_camera_is_not_taken_for_one_of_its_name(tmp_path: Path) -> None:
    write_image(tmp_path / "cam1" / "0001.jpg")
    tasks = [
        label_studio_task([keypoint("nose", x, 50)], f"/data/local-files/?d=cam{camera}/0001.jpg")
        for camera, x in ((1, 25), (2, 75))
    ]
    export = tmp_path / "project.json"
    export.write_text(json.dumps(tasks))
    assert import_annotations(export, tmp_path / "set.json", images=tmp_path).images == 1
    with pytest.raises(DataError, match=r"missing images, such as cam2/0001\.jpg"):
        import_annotations(export, tmp_path / "set.json", images=tmp_path / "cam1")


@pytest.mark.parametrize(
    "address",
    ["/data/local-files/?d=deep/a%20b.jpg", "s3://bucket/deep/a%20b.jpg", "deep/a b.jpg",
     "https://host/deep/a%20b.jpg?token=1"],
)  # fmt: skip
def test_label_studio_addresses_lead_to_files(tmp_path: Path, address: str) -> None:
    write_image(tmp_path / "deep" / "a b.jpg")
    export = tmp_path / "project.json"
    task = label_studio_task([keypoint("nose", 50, 50), keypoint("left_eye", 40, 40),
                              keypoint("right_eye", 60, 40)], address)  # fmt: skip
    export.write_text(json.dumps([task]))
    assert joints_of(import_annotations(export, tmp_path / "set.json").file)[0]["nose"] == (
        31.5,
        23.5,
    )


def test_annotations_of_a_larger_image_are_scaled_and_that_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", WIDTH * 2, HEIGHT * 2)
    export = tmp_path / "project.json"
    export.write_text(json.dumps([label_studio_task([keypoint("nose", 50, 50)], "a.jpg")]))
    found = import_annotations(export, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (63.5, 47.5)}]
    assert "size differs" in found.notes[0]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
  <meta><task><labels>
    <label><name>runner</name><type>skeleton</type></label>
    <label><name>knee_l</name><type>points</type><parent>runner</parent></label>
    <label><name>knee_r</name><type>points</type><parent>runner</parent></label>
    <label><name>head</name><type>points</type><parent>runner</parent></label>
  </labels></task></meta>
  <image id="0" name="sub/a.png" width="64" height="48">
    <skeleton label="runner" source="manual" z_order="0">
      <points label="head" outside="1" occluded="0" points="1.00,1.00"></points>
      <points label="knee_r" outside="0" occluded="1" points="10.50,20.50"></points>
      <points label="knee_l" outside="0" occluded="0" points="30.00,40.00"></points>
    </skeleton>
  </image>
  <image id="1" name="gone.png" width="64" height="48">
    <skeleton label="runner"><points label="head" outside="0" occluded="0" points="1,1"/></skeleton>
  </image>
</annotations>
"""


def test_cvat_skeletons_keep_order_and_visibility(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "sub" / "a.png")
    export = tmp_path / "annotations.xml"
    export.write_text(CVAT)
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert found.keypoints == ("knee_l", "knee_r", "head")
    assert found.notes == ("1 missing images, such as gone.png",)
    (person,) = json.loads(found.file.read_text())["annotations"]
    assert person["keypoints"] == [29.5, 39.5, 2, 10.0, 20.0, 1, 0, 0, 0]
    assert joints_of(found.file) == [{"left_knee": (29.5, 39.5), "right_knee": (10.0, 20.0)}]


def write_cvat_image(folder: Path, elements: str) -> None:
    """An image with these elements, and the export that holds them."""
    write_image(folder / "a.png")
    (folder / "annotations.xml").write_text(
        f'<annotations><image id="0" name="a.png" width="64" height="48">{elements}</image>'
        "</annotations>"
    )


def test_cvat_points_of_a_group_are_one_person(tmp_path: Path) -> None:
    write_cvat_image(
        tmp_path,
        '<box label="person" xtl="2" ytl="3" xbr="22" ybr="43" group_id="1"/>'
        '<points label="nose" points="5.5,6.5" group_id="1"/>'
        '<points label="nose" points="40.5,6.5" group_id="2"/>',
    )
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (5.0, 6.0)}, {"nose": (40.0, 6.0)}]
    boxes = [s.box.tolist() for s in load(f"coco:{found.file}", "all").samples]
    assert boxes[0] == [2, 3, 20, 40]


def test_cvat_shapes_of_several_points_are_counted_not_cut(tmp_path: Path) -> None:
    write_cvat_image(
        tmp_path,
        '<points label="person" points="1.5,2.5;10.5,20.5;30.5,40.5"/>'
        '<points label="nose" points="5.5,6.5"/>',
    )
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert found.notes[0] == "left out: 1 shapes of several points, which have one name"
    assert joints_of(found.file) == [{"nose": (5.0, 6.0)}]


def test_cvat_points_without_a_group_take_a_box_that_is_alone(tmp_path: Path) -> None:
    person = '<box label="person" xtl="2" ytl="3" xbr="22" ybr="43"/>'
    for boxes, has_box in ((person, True), (person + person.replace("person", "car"), False)):
        write_cvat_image(tmp_path, f'{boxes}<points label="nose" points="5.5,6.5"/>')
        found = import_annotations(tmp_path, tmp_path / "set.json")
        (sample,) = load(f"coco:{found.file}", "all").samples
        assert (sample.box.tolist() == [2, 3, 20, 40]) == has_box


def test_a_stray_point_does_not_choose_the_class(tmp_path: Path) -> None:
    write_cvat_image(
        tmp_path,
        '<box label="Player" xtl="2" ytl="3" xbr="22" ybr="43" group_id="1"/>'
        '<points label="nose" points="5.5,6.5" group_id="1"/>'
        '<points label="nose" points="40.5,6.5"/>',
    )
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (5.0, 6.0)}, {"nose": (40.0, 6.0)}]


def test_points_of_several_people_without_groups_are_nobodys(tmp_path: Path) -> None:
    write_cvat_image(
        tmp_path,
        '<points label="nose" points="1.5,6.5" group_id="1"/>'
        '<points label="nose" points="5.5,6.5"/><points label="nose" points="40.5,6.5"/>'
        '<points label="left_eye" points="41.5,6.5"/>',
    )
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (1.0, 6.0)}]
    assert found.notes == ("left out: 3 points without a group",)


def test_images_of_one_name_are_not_taken_for_one_another(tmp_path: Path) -> None:
    """Two cameras, of which only one's images are there."""
    write_image(tmp_path / "elsewhere" / "a.png")
    second = CVAT.replace('name="gone.png"', 'name="other/a.png"')
    (tmp_path / "annotations.xml").write_text(second)
    with pytest.raises(DataError):
        import_annotations(tmp_path, tmp_path / "set.json")
    (tmp_path / "annotations.xml").write_text(CVAT)
    assert import_annotations(tmp_path, tmp_path / "set.json").persons == 1


def test_yolo_images_of_one_name_in_several_splits_are_all_there(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / split / "images" / "0001.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "0001.txt").write_text("0 .5 .5 .5 .5 .25 .25 2\n")
    (tmp_path / "data.yaml").write_text(
        "path: .\ntrain: train/images\nval: val/images\nkpt_shape: [1, 3]\nnames: {0: person}\n"
    )
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert len(load(f"coco:{found.file}", "all")) == 2


def test_supervisely_graphs_take_the_rectangle_bound_to_them(tmp_path: Path) -> None:
    nodes = {"u1": {"label": "nose", "loc": [0, 0]}, "u2": {"label": "left hip", "loc": [0, 0]},
             "u3": {"label": "right hip", "loc": [0, 0]}}  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps({"classes": [
        {"title": "player", "shape": "graph",
         "geometry_config": {"nodes": nodes, "edges": [{"src": "u1", "dst": "u2"}]}},
        {"title": "ball", "shape": "rectangle"},
    ]}))  # fmt: skip
    write_image(tmp_path / "ds0" / "img" / "a.jpg")
    (tmp_path / "ds0" / "ann").mkdir()
    (tmp_path / "ds0" / "ann" / "a.jpg.json").write_text(json.dumps({
        "size": {"width": WIDTH, "height": HEIGHT},
        "objects": [
            {"classTitle": "player", "geometryType": "graph", "instance": "i1",
             "nodes": {"u1": {"loc": [5, 6]}, "u2": {"loc": [7, 8.5]},
                       "u3": {"loc": [1, 1], "disabled": True}}},
            {"classTitle": "player", "geometryType": "rectangle", "instance": "i1",
             "points": {"exterior": [[1, 2], [10, 21]], "interior": []}},
            {"classTitle": "ball", "geometryType": "rectangle",
             "points": {"exterior": [[1, 2], [3, 4]], "interior": []}},
        ],
    }))  # fmt: skip
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (5.0, 6.0), "left_hip": (7.0, 8.5)}]
    content = json.loads(found.file.read_text())
    assert content["annotations"][0]["bbox"] == [1, 2, 10, 20]
    assert content["categories"][0]["skeleton"] == [[1, 2]]


DEEPLABCUT = """scorer,,,me,me,me,me,me,me,me,me
individuals,,,a,a,a,a,b,b,b,b
bodyparts,,,nose,nose,left_knee,left_knee,nose,nose,left_knee,left_knee
coords,,,x,y,x,y,x,y,x,y
labeled-data,vid,img0.png,10.5,20.25,,,5,6,7,8
labeled-data,vid,img2.png,1,2,3,4,,,,
"""


@pytest.mark.parametrize("suffix", [".csv", ".h5"])
def test_deeplabcut_of_several_animals(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("sleap_io", reason="needs sleap-io: pip install okdhp-edge[import]")
    folder = tmp_path / "labeled-data" / "vid"
    for number in range(3):
        write_image(folder / f"img{number}.png")
    (folder / "CollectedData_me.csv").write_text(DEEPLABCUT.replace(
        "left_knee", "knee"))  # fmt: skip
    (folder / "CollectedData_me.h5").write_bytes(b"never opened")
    found = import_annotations(folder / f"CollectedData_me{suffix}", tmp_path / "set.json")
    assert joints_of(found.file) == [
        {"nose": (10.5, 20.25)}, {"nose": (5.0, 6.0), "knee": (7.0, 8.0)},
        {"nose": (1.0, 2.0), "knee": (3.0, 4.0)},
    ]  # fmt: skip
    assert found.images == 2


@pytest.mark.parametrize("packed", [False, True])
def test_sleap_frames_become_images(tmp_path: Path, packed: bool) -> None:
    sleap_io = pytest.importorskip(
        "sleap_io", reason="needs sleap-io: pip install okdhp-edge[import]"
    )
    video = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for number in range(5):
        writer.write(np.full((HEIGHT, WIDTH, 3), (number * 40, 0, 200), dtype=np.uint8))
    writer.release()
    skeleton = sleap_io.Skeleton(["nose", "hip"], [("nose", "hip")])
    person = sleap_io.Instance.from_numpy(np.array([[10.5, 20], [np.nan, np.nan]]), skeleton)
    guess = sleap_io.PredictedInstance.from_numpy(
        np.ones((2, 2)), skeleton, point_scores=np.ones(2), score=0.5
    )
    frame = sleap_io.LabeledFrame(
        video=sleap_io.Video.from_filename(str(video)), frame_idx=3, instances=[person, guess]
    )
    export = tmp_path / ("a.pkg.slp" if packed else "a.slp")
    sleap_io.Labels([frame]).save(str(export), embed=packed)
    found = import_annotations(export, tmp_path / "set.json")
    assert joints_of(found.file) == [{"nose": (10.5, 20.0)}]
    (sample,) = load(f"coco:{found.file}", "all").samples
    np.testing.assert_allclose(sample.image.read().mean(axis=(0, 1)), [120, 0, 200], atol=4)


def test_yolo_classes_can_be_chosen(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "data.yaml").write_text(
        "path: .\ntrain: images\nkpt_shape: [1, 3]\nnames: {0: person, 1: racket}\n"
    )
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .5 .5 .25 .25 2\n1 .5 .5 .5 .5 .75 .75 2\n")
    found = import_annotations(tmp_path, tmp_path / "set.json", person_class="racket")
    assert joints_of(found.file) == [{"point_0": (47.5, 35.5)}]
    assert load(f"coco:{found.file}", "all").skeleton.twins == ()
    with pytest.raises(DataError, match=r"no row of class 'net'.*classes are person, racket"):
        import_annotations(tmp_path, tmp_path / "set.json", person_class="net")


def test_yolos_mirror_pairs_are_kept(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "data.yaml").write_text(
        "path: .\ntrain: images\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: {0: person}\n"
    )
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .5 .5 .2 .2 2 .3 .3 2 .4 .4 2\n")
    found = import_annotations(tmp_path, tmp_path / "set.json")
    assert load(f"coco:{found.file}", "all").skeleton.flip_index.tolist() == [0, 2, 1]


def test_no_image_number_for_cvat_is_one_that_a_task_has(tmp_path: Path) -> None:
    """CVAT would take an image that it does not find by name for the one of that number."""
    out = tmp_path / "people.json"
    out.write_text(json.dumps({
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, WIDTH, HEIGHT],
             "keypoints": [5, 5, 2]}
            for number in (1, 2, 3)
        ],
    }))  # fmt: skip
    for number in (1, 2, 3):
        write_image(tmp_path / f"{number}.jpg")
    written, _ = export_pre_annotations(load(f"coco:{out}", "all"), "cvat", out)
    numbers = [int(n) for n in re.findall(r'<image id="(\d+)"', written.read_text())]
    assert len(set(numbers)) == 3
    assert min(numbers) > 1_000_000  # frames of a task are counted from 0


persons = st.lists(
    st.dictionaries(
        st.sampled_from(COCO17.joints),
        st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1)),
        min_size=1,
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("tool", ["label-studio", "cvat"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(people=[{"nose": (0.0, 0.0), "left_eye": (0.0, 1.0)}])  # no width
@given(people=persons)
def test_pre_annotations_come_back_as_they_were(
    tmp_path: Path, tool: str, people: list[dict[str, tuple[float, float]]]
) -> None:
    write_image(tmp_path / "a é & b.jpg")
    out = tmp_path / "people.json"
    out.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a é & b.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints),
                        "skeleton": (COCO17.limb_index + 1).tolist()}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, WIDTH, HEIGHT],
             "keypoints": [v for j in COCO17.joints for v in ((*person[j], 2) if j in person
                                                              else (0, 0, 0))]}
            for number, person in enumerate(people)
        ],
    }))  # fmt: skip
    before = joints_of(out)
    written, _ = export_pre_annotations(load(f"coco:{out}", "all"), tool, out)
    if tool == "label-studio":  # a person accepts all
        tasks = json.loads(written.read_text())
        for task in tasks:
            task["annotations"] = task.pop("predictions")
        written.write_text(json.dumps(tasks))
    after = joints_of(import_annotations(written, tmp_path / "back.json").file)
    assert len(after) == len(before)
    for a, b in zip(after, before, strict=True):
        assert a.keys() == b.keys()
        for joint in a:
            np.testing.assert_allclose(a[joint], b[joint], atol=0.011)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", '[{"image": "a.jpg", "id": 1}]', "JSON-MIN"),
        ("a.json", "[]", "no usable person"),
        ("a.json", '[{"data": {"image": "a"}, "annotations": [{"result": [{"type": 1}, 2]}]}]',
         "no usable person"),
        ("a.json", '[{"data": {"image": "a"}, "annotations": [{"result": 3}]}]',
         "not a valid Label Studio export"),
        ("a.xml", '<annotations><track id="0"/></annotations>', "for video"),
        ("a.xml", "<annotations><image/></annotations>", "not a CVAT file"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotations>&a;</annotations>', "a CVAT file"),
        ("meta.json", '{"classes": [{"shape": "graph"}]}', "not a Supervisely project"),
        ("meta.json", '{"classes": []}', "no class of shape 'graph'"),
        ("a.slp", "text", "cannot be read by sleap-io"),
        ("a.txt", "text", "cannot detect the annotation tool"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_one_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    source = tmp_path if name == "meta.json" else tmp_path / name
    with pytest.raises(OkdhpError, match=words) as caught:
        import_annotations(source, tmp_path / "set.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set.json").exists()


def test_every_tool_says_which_tools_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(CVAT)
    with pytest.raises(DataError, match=", ".join(READERS)):
        import_annotations(tmp_path / "a.xml", tmp_path / "set.json", tool="paint")
