"""CVAT for images 1.1 (https://docs.cvat.ai/docs/other/xml_format), with skeletons or with points.

Coordinates are pixels, counted from the edge of the first one.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from defusedxml.ElementTree import ParseError, fromstring

from okdhp_edge.data.annotation_tools import AnnotatedImage, AnnotatedPerson, AnnotationSet, Point
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.system.files import write_text
from okdhp_edge.system.reading import read_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_FIRST_IMAGE_ID = 1_000_000_000
_REMEDY = "export the task in the format 'CVAT for images 1.1'"


def is_cvat(path: Path) -> bool:
    """Whether a file, or `annotations.xml` of a folder, is CVAT's."""
    file = _find_file(path)
    return file.is_file() and file.suffix.lower() == ".xml"


def _find_file(path: Path) -> Path:
    return path / "annotations.xml" if path.is_dir() else path


def read_cvat(path: Path) -> AnnotationSet:
    """Read an XML file, or a folder with `annotations.xml`.

    A skeleton is a person. So are points, and the box, that share a `group_id`; points in no group
    are one person of their image where no name repeats.

    Raises:
        DataError: not such a file.
    """
    file = _find_file(path)
    try:
        root = fromstring(read_text(file))
        if root.find("track") is not None:
            raise DataError(f"{file} is in CVAT for video format", _REMEDY)
        left_out: Counter[str] = Counter()
        images = [_parse_image(image, left_out) for image in root.iter("image")]
        keypoints = _read_declared(root)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", _REMEDY) from None
    except (OSError, ParseError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not a CVAT file ({error})", _REMEDY) from error
    notes = [f"left out: {count} {what}" for what, count in left_out.items()]
    return AnnotationSet(images, keypoints, notes=notes)


def _read_declared(root: "Element") -> dict[str, list[str]]:
    """The elements of each skeleton: labels inside its label, or labels that name it as parent."""
    found: dict[str, list[str]] = {}
    for label in root.iterfind("meta//labels/label"):
        name, parent = label.findtext("name") or "", label.findtext("parent")
        inner = [inside.findtext("name") or "" for inside in label.iterfind("sublabels/label")]
        if inner:
            found[name] = inner
        elif parent:
            found.setdefault(parent, []).append(name)
    return found


def _parse_image(image: "Element", left_out: Counter[str]) -> AnnotatedImage:
    size = int(image.attrib["width"]), int(image.attrib["height"])
    persons = [_parse_skeleton(skeleton) for skeleton in image.iterfind("skeleton")]
    persons += _parse_groups(image, left_out)
    return AnnotatedImage((image.attrib["name"].replace("\\", "/"),), persons, size)


def _parse_skeleton(skeleton: "Element") -> AnnotatedPerson:
    points = dict(map(_parse_point, skeleton.iterfind("points")))
    return AnnotatedPerson(points, category=skeleton.attrib["label"])


def _parse_groups(image: "Element", left_out: Counter[str]) -> Iterator[AnnotatedPerson]:
    drawn = list(image.iterfind("box"))
    boxes: dict[str | None, Element] = {box.attrib.get("group_id"): box for box in drawn}
    if len([box for box in drawn if "group_id" not in box.attrib]) > 1:
        del boxes[None]  # whose points they are is not known
    groups: dict[str | None, list[tuple[str, Point]]] = {}
    for element in image.iterfind("points"):
        if ";" in element.attrib["points"]:
            left_out["shapes of several points, which have one name"] += 1
            continue
        groups.setdefault(element.attrib.get("group_id"), []).append(_parse_point(element))
    for group_id, named in groups.items():
        points = dict(named)
        if len(points) < len(named):  # of several people, and not known of whom
            left_out["points without a group"] += len(named)
            continue
        box = boxes.get(group_id)
        yield (
            AnnotatedPerson(points)
            if box is None
            else AnnotatedPerson(points, _parse_box(box), box.attrib["label"])
        )


def _parse_point(element: "Element") -> tuple[str, Point]:
    x, y = (float(v) for v in element.attrib["points"].split(","))
    hidden, outside = (element.attrib.get(key) == "1" for key in ("occluded", "outside"))
    visibility = 0 if outside else 1 if hidden else 2
    return element.attrib["label"], Point(x - 0.5, y - 0.5, visibility)


def _parse_box(element: "Element") -> Box:
    left, top, right, bottom = (float(element.attrib[k]) for k in ("xtl", "ytl", "xbr", "ybr"))
    return np.array([left, top, right - left, bottom - top])


def write_cvat(annotations: AnnotationSet, out: Path) -> list[Path]:
    """Write the annotations of a task, and its labels for CVAT's "Raw" label editor, beside `out`.

    Create a task with these labels and the images, then upload the annotations to it as
    "CVAT 1.1"; CVAT finds images by their names. An image that it does not find must not be taken
    for the one of that number: the numbers are none that a task has.
    """
    annotations_file = out.with_suffix(".cvat.xml")
    labels_file = out.with_suffix(".cvat-labels.json")
    lines = [
        line
        for index, (image, name) in enumerate(
            zip(annotations.images, _make_names(annotations), strict=True)
        )
        for line in _format_image(_FIRST_IMAGE_ID + index, image, name, annotations)
    ]
    body = "\n".join(lines)
    write_text(
        annotations_file,
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"{body}\n</annotations>\n",
    )
    labels = [_make_label(*item, annotations.limbs) for item in annotations.keypoints.items()]
    write_text(labels_file, json.dumps(labels, indent=1) + "\n")
    return [annotations_file, labels_file]


def _make_names(annotations: AnnotationSet) -> list[str]:
    """As files have them once they are uploaded: without folders where that is unique."""
    names = [image.names[0] for image in annotations.images]
    bare = [PurePosixPath(name).name for name in names]
    return bare if len(set(bare)) == len(bare) else names


def _format_image(
    number: int, image: AnnotatedImage, name: str, annotations: AnnotationSet
) -> Iterator[str]:
    assert image.size is not None
    width, height = image.size
    yield f'  <image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">'
    for person in image.persons:
        yield f'    <skeleton label={quoteattr(person.category)} source="auto" z_order="0">'
        for keypoint in annotations.keypoints[person.category]:
            point = person.points.get(keypoint)
            # A point that is not there lies in the middle of the person, marked "outside".
            x, y, visibility = point or (*_find_middle(person), 0)
            yield (
                f'      <points label={quoteattr(keypoint)} source="auto" '
                f'outside="{int(visibility == 0)}" occluded="{int(visibility == 1)}" '
                f'points="{x + 0.5:.2f},{y + 0.5:.2f}"/>'
            )
        yield "    </skeleton>"
    yield "  </image>"


def _find_middle(person: AnnotatedPerson) -> tuple[float, float]:
    assert person.box is not None
    x, y = person.box[:2] + person.box[2:] / 2
    return float(x), float(y)


def _make_label(
    category: str, keypoints: Sequence[str], limbs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """A skeleton in CVAT's "Raw" constructor: its elements, and the drawing that joins them."""
    sublabels = [{"name": name, "type": "points", "attributes": []} for name in keypoints]
    return {"name": category, "type": "skeleton", "attributes": [], "sublabels": sublabels,
            "svg": _format_drawing(keypoints, limbs)}  # fmt: skip


def _format_drawing(keypoints: Sequence[str], limbs: Sequence[tuple[str, str]]) -> str:
    """The elements on a circle, in percent of the drawing."""
    angle = np.linspace(0, 2 * np.pi, len(keypoints), endpoint=False)
    place = np.stack([50 + 40 * np.sin(angle), 50 - 40 * np.cos(angle)], axis=1).round(1)
    node = {name: number for number, name in enumerate(keypoints, 1)}
    lines = [
        f'<line x1="{place[node[a] - 1][0]}" y1="{place[node[a] - 1][1]}" '
        f'x2="{place[node[b] - 1][0]}" y2="{place[node[b] - 1][1]}" stroke="black" '
        f'data-type="edge" data-node-from="{node[a]}" data-node-to="{node[b]}"></line>'
        for a, b in limbs
        if a in node and b in node
    ]
    circles = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1" '
        f'data-type="element node" data-element-id="{number}" data-node-id="{number}" '
        f"data-label-name={quoteattr(escape(name))}></circle>"
        for (name, number), (x, y) in zip(node.items(), place, strict=True)
    ]
    return "\n".join([*lines, *circles])
