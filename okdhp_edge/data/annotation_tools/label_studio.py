"""Label Studio: tasks in JSON (https://labelstud.io/guide/task_format).

A person is a rectangle; its keypoints name it as their parent, or lie in it. Coordinates are
percentages of the image, counted from the edge of the first pixel.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np

from okdhp_edge.data.annotation_files import read_json
from okdhp_edge.data.annotation_tools import AnnotatedImage, AnnotatedPerson, AnnotationSet, Point
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.system.files import write_text

_FULL_PERCENT = 100.0
# An uploaded file gets a random prefix.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_POINT_WIDTH_PERCENT = 0.5
_Region = Mapping[str, Any]


def is_label_studio(path: Path) -> bool:
    """Whether a JSON file looks like tasks."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    content = read_json(path)
    return isinstance(content, list) and all(isinstance(task, dict) for task in content)


def read_label_studio(path: Path) -> AnnotationSet:
    """Read an export of kind "JSON": the annotation that was saved last counts.

    Raises:
        DataError: not such an export, or coordinates that are no numbers.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{path} is not a list of Label Studio tasks", "export them as JSON")
    if tasks and not any(isinstance(task.get("data"), dict) for task in tasks):
        raise DataError(f"{path} is in Label Studio's JSON-MIN format", "export the tasks as JSON")
    left_out: Counter[str] = Counter()
    try:
        images = [image for task in tasks if (image := _parse_image(task, left_out))]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} is not a valid Label Studio export ({error!r})", "export the tasks as JSON"
        ) from error
    notes = [f"left out: {count} {what}" for what, count in left_out.items()]
    return AnnotationSet(images, notes=notes)


def _parse_image(task: Mapping[str, Any], left_out: Counter[str]) -> AnnotatedImage | None:
    names = _guess_names(task.get("data") or {})
    regions = _get_regions(task)
    if not regions or not names:
        left_out["tasks without annotations" if names else "tasks without an image"] += 1
        return None
    sized = next((r for r in regions if "original_width" in r), None)
    if sized is None:
        left_out["tasks without an image size"] += 1
        return None
    size = int(sized["original_width"]), int(sized["original_height"])
    return AnnotatedImage(names, list(_parse_persons(regions, left_out)), size)


def _get_regions(task: Mapping[str, Any]) -> list[_Region]:
    """Of the last annotation that was not skipped; of older exports, `completions`."""
    saved = task.get("annotations") or task.get("completions") or []
    kept = [a for a in saved if isinstance(a, dict) and not a.get("was_cancelled")]
    return [r for r in kept[-1].get("result") or [] if isinstance(r, dict)] if kept else []


def _guess_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The names a file behind an address may have."""
    texts = [value for value in data.values() if isinstance(value, str)]
    address = str(data.get("image") or next(iter(texts), ""))
    local = parse_qs(urlsplit(address).query).get("d", [])
    path = local[0] if local else unquote(urlsplit(address).path)
    if not PurePosixPath(path).name:
        return ()
    bare = PurePosixPath(path).name
    return tuple(dict.fromkeys([path.lstrip("/"), bare, _UPLOAD_PREFIX.sub("", bare)]))


def _parse_persons(regions: Sequence[_Region], left_out: Counter[str]) -> Iterator[AnnotatedPerson]:
    rectangles = {str(r["id"]): r for r in regions if r.get("type") == "rectanglelabels"}
    points: dict[str | None, list[tuple[str, Point]]] = {}
    for region in regions:
        if region.get("type") != "keypointlabels":
            continue
        point = _parse_point(region)
        owner = _find_owner(region, point, rectangles)
        (label,) = region["value"]["keypointlabels"][:1]
        points.setdefault(owner, []).append((str(label), point))
    for name, rectangle in rectangles.items():
        (category,) = rectangle["value"]["rectanglelabels"][:1]
        own = points.get(name, [])
        times = Counter(label for label, _ in own)
        known = {label: point for label, point in own if times[label] == 1}
        # Where rectangles overlap, one of them may be another person's.
        if repeated := len(own) - len(known):
            left_out["points that a person has twice"] += repeated
        yield AnnotatedPerson(known, _parse_box(rectangle), str(category))
    alone = points.get(None, [])
    if len(dict(alone)) < len(alone):  # of several people, and not known of whom
        left_out["points outside any rectangle"] += len(alone)
    elif alone:
        yield AnnotatedPerson(dict(alone))


def _find_owner(region: _Region, point: Point, rectangles: Mapping[str, _Region]) -> str | None:
    """The parent, or the smallest rectangle around the point."""
    parent = str(region.get("parentID"))
    if parent in rectangles:
        return parent
    around = []
    for name, rectangle in rectangles.items():
        x, y, width, height = _parse_box(rectangle)
        if 0 <= point.x - x <= width and 0 <= point.y - y <= height:
            around.append((width * height, name))
    return min(around)[1] if around else None


def _get_size(region: _Region) -> tuple[float, float]:
    return float(region["original_width"]), float(region["original_height"])


def _parse_point(region: _Region) -> Point:
    (width, height), value = _get_size(region), region["value"]
    x, y = float(value["x"]), float(value["y"])
    return Point(x / _FULL_PERCENT * width - 0.5, y / _FULL_PERCENT * height - 0.5)


def _parse_box(region: _Region) -> Box:
    share = np.array([float(region["value"][k]) for k in ("x", "y", "width", "height")])
    return np.asarray(share / _FULL_PERCENT * np.tile(_get_size(region), 2))


def write_label_studio(annotations: AnnotationSet, out: Path) -> list[Path]:
    """Write tasks with predictions, and the labelling configuration that they need, beside `out`.

    Images are expected in local storage (`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT` at the folder of
    `out`), as Label Studio serves it.
    """
    tasks_file = out.with_suffix(".label-studio.json")
    config_file = out.with_suffix(".label-studio.xml")
    tasks = [_make_task(number, image) for number, image in enumerate(annotations.images, 1)]
    write_text(tasks_file, json.dumps(tasks) + "\n")
    keypoints = [name for names in annotations.keypoints.values() for name in names]
    write_text(config_file, _make_config(list(annotations.keypoints), keypoints))
    return [tasks_file, config_file]


def _make_task(number: int, image: AnnotatedImage) -> dict[str, Any]:
    assert image.size is not None
    common = {"original_width": image.size[0], "original_height": image.size[1],
              "image_rotation": 0, "to_name": "image"}  # fmt: skip
    result = [
        common | region
        for index, person in enumerate(image.persons)
        for region in _make_regions(f"{number}-{index}", person, image.size)
    ]
    return {
        "data": {"image": f"/data/local-files/?d={quote(image.names[0].lstrip('/'))}"},
        "predictions": [{"model_version": "okdhp-edge", "result": result}],
    }


def _make_regions(
    parent: str, person: AnnotatedPerson, size: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    width, height = size
    assert person.box is not None
    x, y, w, h = person.box / np.tile(size, 2) * _FULL_PERCENT
    yield {"id": parent, "from_name": "box", "type": "rectanglelabels",
           "value": {"x": x, "y": y, "width": w, "height": h, "rotation": 0,
                     "rectanglelabels": [person.category]}}  # fmt: skip
    for name, point in person.points.items():
        yield {"id": f"{parent}-{name}", "from_name": "keypoint", "type": "keypointlabels",
               "parentID": parent,
               "value": {"x": (point.x + 0.5) / width * _FULL_PERCENT,
                         "y": (point.y + 0.5) / height * _FULL_PERCENT,
                         "width": _POINT_WIDTH_PERCENT, "keypointlabels": [name]}}  # fmt: skip


def _make_config(categories: Sequence[str], keypoints: Sequence[str]) -> str:
    def format_labels(names: Sequence[str]) -> str:
        return "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)

    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="box" toName="image">\n{format_labels(categories)}'
        "  </RectangleLabels>\n"
        f'  <KeyPointLabels name="keypoint" toName="image">\n{format_labels(keypoints)}'
        "  </KeyPointLabels>\n</View>\n"
    )
