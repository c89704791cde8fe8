import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.errors import DataError
from okdhp_edge.label.boxes import (
    compute_coverage,
    make_coco_reader,
    make_sidecar_reader,
    read_voc_boxes,
    read_yolo_boxes,
)
from okdhp_edge.label.negatives import sample_negative_boxes

PICTURE = np.zeros((100, 200, 3), np.uint8)
VOC = """<annotation><object><name>person</name><bndbox><xmin>10</xmin><ymin>20</ymin>
<xmax>60</xmax><ymax>90</ymax></bndbox></object><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin>
<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def test_voc_gives_the_persons_alone(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text(VOC)
    assert [b.tolist() for b in read_voc_boxes(file, "person")] == [[10, 20, 50, 70]]
    assert [b.tolist() for b in read_voc_boxes(file, "dog")] == [[1, 1, 8, 8]]


def test_yolo_shares_become_pixels_and_outlines_their_extent(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n")
    found = read_yolo_boxes(file, "0", 200, 100)
    assert np.allclose(found, [[80, 30, 40, 40], [20, 20, 40, 40]])


@pytest.mark.parametrize(
    "points", ["0.45 0.4 1 0.55 0.6 0 ", "0.45 0.4 2 0 0 0 ", "0.45 0.4 0.55 0.6 "]
)
def test_keypoints_after_a_box_do_not_change_it(tmp_path, points):
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0.2 0.4 " + points * 7 + "\n")
    assert np.allclose(read_yolo_boxes(file, "0", 200, 100), [[80, 30, 40, 40]])


def test_keypoint_rows_are_not_outlines(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0.2 0.4 " + "0.3 0.4 2 " * 14 + "\n")
    with pytest.raises(DataError, match="are these keypoints"):
        read_yolo_boxes(file, "0", 200, 100)


@pytest.mark.parametrize("folder", ["", "labels", "Annotations"])
def test_box_files_are_found_beside_and_in_the_usual_folders(tmp_path, folder):
    pictures = tmp_path / "images"
    (tmp_path / folder if folder else pictures).mkdir(exist_ok=True, parents=True)
    pictures.mkdir(exist_ok=True)
    place = tmp_path / folder if folder else pictures
    (place / "a.xml").write_text(VOC)
    (place / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    find = make_sidecar_reader("person")
    assert len(find(pictures / "a.jpg", PICTURE)) == 1
    assert np.allclose(find(pictures / "b.jpg", PICTURE), [[50, 25, 100, 50]])
    assert find(pictures / "c.jpg", PICTURE) is None


def test_coco_boxes_by_file_name_without_crowds(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": "0"},
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 1},
            {"image_id": 1, "category_id": 2, "bbox": [5, 5, 9, 9]},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    }))  # fmt: skip
    find = make_coco_reader(file)
    assert [b.tolist() for b in find(tmp_path / "a.jpg", PICTURE)] == [[1, 2, 30, 40]]
    assert find(tmp_path / "b.jpg", PICTURE) == []
    assert find(tmp_path / "other.jpg", PICTURE) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xml", "<annotation"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>'),
        ("a.txt", "0 one two three four"),
        ("a.txt", "0 0.1 0.2 0.3"),
        ("a.json", "[]"),
        ("a.json", '{"annotations": [{}], "images": []}'),
    ],
)
def test_a_broken_box_file_is_one_clear_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        if name.endswith("json"):
            make_coco_reader(tmp_path / name)
        else:
            make_sidecar_reader("person")(tmp_path / "a.jpg", PICTURE)
    assert name in str(caught.value) and "\n" not in str(caught.value)


BOXES = st.tuples(st.floats(0, 300), st.floats(0, 200), st.floats(10, 200), st.floats(10, 200))


@given(st.lists(BOXES, max_size=4), st.integers(0, 2**32 - 1))
def test_empty_boxes_touch_nobody_and_lie_in_the_picture(people, seed):
    people = [np.array(box) for box in people]
    found = sample_negative_boxes(people, (400, 300), 4, np.random.default_rng(seed))
    frame = np.array([0.0, 0, 400, 300])
    for box in found:
        assert all(compute_coverage(box, person) < 0.1 for person in people)
        assert compute_coverage(box, frame) > 0.7


def test_a_picture_without_people_has_room_for_empty_boxes():
    assert len(sample_negative_boxes([], (400, 300), 3, np.random.default_rng(0))) == 3


def test_entities_are_refused(tmp_path):
    file = tmp_path / "a.xml"
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 9))
    file.write_text(f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]><annotation>&a8;</annotation>')
    with pytest.raises(DataError, match="is not a VOC file"):
        read_voc_boxes(file, "person")


def test_coco_boxes_of_files_of_one_name_in_several_folders(tmp_path):
    file = tmp_path / "c.json"
    names = ["seq1/000001.jpg", "seq2\\000001.jpg", "seq2/000002.jpg"]
    file.write_text(json.dumps({
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"image_id": n, "bbox": [n, 0, 30, 40]} for n in range(3)],
    }))  # fmt: skip
    find = make_coco_reader(file)
    for folder, number in (("seq1", 0), ("seq2", 1)):
        (box,) = find(tmp_path / folder / "000001.jpg", PICTURE)
        assert box[0] == number
    assert find(tmp_path / "elsewhere" / "000001.jpg", PICTURE) is None  # either may be meant
    assert find(tmp_path / "elsewhere" / "000002.jpg", PICTURE)[0][0] == 2
