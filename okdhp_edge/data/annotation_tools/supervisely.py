"""Supervisely projects: `meta.json`, and in each dataset `ann/IMAGE.json` beside `img/IMAGE`.

https://developer.supervisely.com/getting-started/supervisely-annotation-format describes them.
Coordinates are pixels, centres at whole numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from okdhp_edge.data.annotation_files import read_json
from okdhp_edge.data.annotation_tools import AnnotatedImage, AnnotatedPerson, AnnotationSet, Point
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box

_META_FILE_NAME = "meta.json"


def is_supervisely(path: Path) -> bool:
    """Whether a folder is a project."""
    return (path / _META_FILE_NAME).is_file()


def read_supervisely(path: Path) -> AnnotationSet:
    """Read all datasets of a project: objects of shape `graph`, and the rectangle that is bound to
    each of them.

    Raises:
        DataError: not such a project.
    """
    try:
        graphs = {
            c["title"]: c["geometry_config"]
            for c in read_json(path / _META_FILE_NAME)["classes"]
            if c.get("shape") == "graph"
        }
        labels = {
            title: {node_id: str(node["label"]) for node_id, node in config["nodes"].items()}
            for title, config in graphs.items()
        }
        limbs = [
            (labels[title][edge["src"]], labels[title][edge["dst"]])
            for title, config in graphs.items()
            for edge in config.get("edges") or []
        ]
        images = [_parse_image(path, file, labels) for file in sorted(path.rglob("ann/*.json"))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a Supervisely project ({error!r})", "export it in Supervisely's format"
        ) from error
    if not graphs:
        raise DataError(
            f"{path / _META_FILE_NAME} has no class of shape 'graph'", "annotate keypoints"
        )
    keypoints = {title: list(names.values()) for title, names in labels.items()}
    return AnnotationSet(images, keypoints, limbs)


def _parse_image(root: Path, file: Path, labels: Mapping[str, Mapping[str, str]]) -> AnnotatedImage:
    content = read_json(file)
    size = int(content["size"]["width"]), int(content["size"]["height"])
    objects = content["objects"]
    boxes = {o["instance"]: _parse_box(o) for o in objects
             if o.get("geometryType") == "rectangle" and o.get("instance")}  # fmt: skip
    image = file.parent.parent / "img" / file.stem
    name = image.relative_to(root).as_posix()
    return AnnotatedImage((name,), list(_parse_persons(objects, boxes, labels)), size)


def _parse_persons(
    objects: Sequence[Mapping[str, Any]],
    boxes: Mapping[str, Box],
    labels: Mapping[str, Mapping[str, str]],
) -> Iterator[AnnotatedPerson]:
    for thing in objects:
        title = thing["classTitle"]
        if title not in labels or "nodes" not in thing:
            continue
        points = {
            labels[title][node_id]: _parse_point(node) for node_id, node in thing["nodes"].items()
        }
        yield AnnotatedPerson(points, boxes.get(thing.get("instance") or ""), title)


def _parse_point(node: Mapping[str, Any]) -> Point:
    x, y = node["loc"]
    return Point(float(x), float(y), 0 if node.get("disabled") else 2)


def _parse_box(rectangle: Mapping[str, Any]) -> Box:
    corners = np.array(rectangle["points"]["exterior"], dtype=np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.concatenate([low, high - low + 1])
