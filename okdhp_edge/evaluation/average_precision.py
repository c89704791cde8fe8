"""COCO's average precision, by COCO's own evaluator (pycocotools) and in its own file format.

A set whose images have a `crowdIndex` is CrowdPose and evaluated by its protocol (Li et al., CVPR
2019, and its released code): the person's area is 0.53 of its box, images are easy, medium or hard.
"""

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.annotation_files import read_json
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO
from okdhp_edge.data.coco_files import find_annotation_file, is_divided
from okdhp_edge.data.coco_layout import ImageLocator, get_file_name
from okdhp_edge.data.coco_truth import read_coco_truth
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.sample import PoseDataset, split_sources
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.box_average_precision import (
    average_precisions,
    bootstrap_images,
    index_content,
    run_evaluator,
)
from okdhp_edge.pose.metrics import Score
from okdhp_edge.pose.result import score_joints
from okdhp_edge.pose.skeleton import Skeleton, skeleton_from_names
from okdhp_edge.system.files import write_text

METRIC_NAMES = ("AP", "AP50", "AP75", "AP-M", "AP-L", "AR", "AR50", "AR75", "AR-M", "AR-L")
"""What the evaluator prints, in its order."""
CROWD_METRIC_NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP-easy", "AP-medium", "AP-hard")
"""The same of CrowdPose's evaluation."""
# Below the first an image is easy, from the second on it is hard.
_MEDIUM_MIN_CROWD_INDEX, _HARD_MIN_CROWD_INDEX = 0.2, 0.8
_OKS_50_INDEX, _OKS_75_INDEX = 0, 5
_MAX_ABS_VALUE = 1e9

Results = list[dict[str, Any]]


def average_precision(poses: PoseDataset, results: Results) -> dict[str, float]:
    """The evaluator's numbers (`METRIC_NAMES`, or `CROWD_METRIC_NAMES`), in points of 100; -100
    where the set has no such persons.

    Args:
        poses: a set of `coco:`; the images of its samples are evaluated, and of a whole file or
            split of a folder those without persons too, where each result is a false one.
        results: as COCO's evaluation reads them.

    Raises:
        DataError: the set is no COCO file, or the results are not for it.
    """
    file = resolve_annotation_file(poses)
    content = read_coco_truth(file)
    skeleton = _make_skeleton(file, content)
    _check(results, skeleton)
    _check_categories(results, {a["category_id"] for a in content["annotations"]})
    # It prints to stdout, which belongs to the command's JSON line.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index_content(content)
        ids = sorted(content["images"][i]["id"] for i in _find_evaluated_images(poses, content))
        evaluated = set(ids)
        wanted = [r for r in results if r["image_id"] in evaluated]
        if not wanted:
            raise DataError(
                f"none of {len(results)} results matches an image of {poses.source}",
                "`image_id` must match the annotation file",
            )
        crowd = {i: truth.imgs[i].get("crowdIndex") for i in ids}
        if _is_crowd_pose(crowd):
            return _evaluate_crowd(truth, wanted, skeleton, crowd)
        evaluator = _run_coco_eval(truth, wanted, skeleton, ids)
        evaluator.summarize()
    return {n: 100 * float(v) for n, v in zip(METRIC_NAMES, evaluator.stats, strict=True)}


def average_precision_score(
    poses: PoseDataset, xy_NK2: NDArray[np.floating], score_NK: NDArray[np.floating]
) -> Score:
    """COCO's AP of one person a box, with a 95 % bootstrap interval over images.

    Args:
        poses: a set of `coco:`, with the skeleton of the predictions.
        xy_NK2: joints in pixels of the images.
        score_NK: each joint's score in 0..1.

    Raises:
        DataError: the set is no COCO file.
    """
    file = resolve_annotation_file(poses)
    columns = _make_skeleton(file, read_coco_truth(file)).find_columns(poses.skeleton)
    known = columns >= 0
    results = to_coco_results(
        poses, xy_NK2[:, columns] * known[:, None], score_NK[:, columns] * known
    )
    value = average_precision(poses, results)[METRIC_NAMES[0]]
    low, high = _bootstrap_ap_interval(poses, results)
    return Score(value, low, high, len(poses), np.full(len(poses.skeleton), np.nan))


def _bootstrap_ap_interval(poses: PoseDataset, results: Results) -> tuple[float, float]:
    """95 % of the AP of as many images drawn with replacement."""
    file = resolve_annotation_file(poses)
    content = read_coco_truth(file)
    skeleton = _make_skeleton(file, content)
    ids = sorted(read_image_ids(poses).values())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index_content(content)
        if _is_crowd_pose({i: truth.imgs[i].get("crowdIndex") for i in ids}):
            _set_crowd_areas(truth)
        evaluator = _run_coco_eval(truth, results, skeleton, ids, sizes=False)
        return bootstrap_images(evaluator, average_precisions)


def _run_coco_eval(
    truth: Any, results: Results, skeleton: Skeleton, ids: Sequence[Any], *, sizes: bool = True
) -> Any:
    from pycocotools.cocoeval import COCOeval

    evaluator = COCOeval(truth, truth.loadRes([dict(r) for r in results]), "keypoints")
    evaluator.params.imgIds = list(ids)
    evaluator.params.kpt_oks_sigmas = skeleton.sigmas
    return run_evaluator(evaluator, sizes=sizes)


def _is_crowd_pose(crowd: Mapping[Any, float | None]) -> bool:
    return all(value is not None for value in crowd.values())


def _set_crowd_areas(truth: Any) -> None:
    for annotation in truth.anns.values():
        box = annotation["bbox"]
        annotation["area"] = float(box[2]) * float(box[3]) * PERSON_BOX_AREA_RATIO


def _evaluate_crowd(
    truth: Any, results: Results, skeleton: Skeleton, crowd: Mapping[Any, float]
) -> dict[str, float]:
    _set_crowd_areas(truth)
    found = _run_coco_eval(truth, results, skeleton, list(crowd)).eval
    # (thresholds, recalls, categories, areas, detections), the same without recalls; area 0: all.
    precision, recall = found["precision"][..., 0, :], found["recall"][..., 0, :]
    points = [
        average_precisions(part)
        for each in (precision, recall)
        for part in (each, each[_OKS_50_INDEX], each[_OKS_75_INDEX])
    ]
    groups: tuple[list[Any], ...] = ([], [], [])
    for image, index in crowd.items():
        groups[(index >= _MEDIUM_MIN_CROWD_INDEX) + (index >= _HARD_MIN_CROWD_INDEX)].append(image)
    for group in groups:
        images = set(group)
        some = [r for r in results if r["image_id"] in images]
        points.append(
            average_precisions(
                _run_coco_eval(truth, some, skeleton, group).eval["precision"][..., 0, :]
            ) if some else -100.0
        )  # fmt: skip
    return dict(zip(CROWD_METRIC_NAMES, points, strict=True))


def to_coco_results(
    poses: PoseDataset,
    xy_NK2: NDArray[np.floating],
    score_NK: NDArray[np.floating],
    box_score_N: NDArray[np.floating] | None = None,
) -> Results:
    """One result for each sample, in COCO's form."""
    ids = read_image_ids(poses)
    category_id = read_coco_truth(resolve_annotation_file(poses))["categories"][0]["id"]
    boxes = np.ones(len(poses)) if box_score_N is None else box_score_N
    found = []
    for sample, xy, score, box in zip(poses.samples, xy_NK2, score_NK, boxes, strict=True):
        points = np.column_stack([xy, score])
        found.append({
            "image_id": ids[sample.image_name], "category_id": category_id,
            "keypoints": [round(float(v), 3) for v in points.ravel()],
            "score": round(score_joints(score) * float(box), 5),
        })  # fmt: skip
    return found


def read_results(path: Path) -> Results:
    """Read a COCO results file.

    Raises:
        DataError: it is no list of results.
    """
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(r, dict) for r in content):
        raise DataError(f"{path} is not a COCO results file", "use [{image_id, keypoints, score}]")
    return content


def write_results(path: Path, results: Results) -> None:
    """Write a results file atomically."""
    write_text(path, json.dumps(results) + "\n")


def resolve_annotation_file(poses: PoseDataset) -> Path:
    """The annotation file a set was read from.

    Raises:
        DataError: it is not one COCO file.
    """
    splits = {part.partition("[")[0] for part in poses.split.split("+")}
    first, *others = split_sources(poses.source)
    kind, _, place = first.partition(":")
    if kind != "coco" or others or (len(splits) > 1 and Path(place).is_dir()):
        raise DataError(
            f"average precision needs one COCO annotation file, not {poses.source}",
            "give --data coco:FILE",
        )
    return find_annotation_file(Path(place), splits.pop())


def has_annotation_file(poses: PoseDataset) -> bool:
    """Whether a set is one COCO file, which its evaluator needs."""
    try:
        resolve_annotation_file(poses)
    except DataError:
        return False
    return True


def read_image_ids(poses: PoseDataset) -> dict[str, Any]:
    """By file name, of the images that the set's samples are in."""
    content = read_json(resolve_annotation_file(poses))
    by_name = {get_file_name(image): image["id"] for image in content["images"]}
    names = {s.image_name for s in poses.samples}
    return {name: by_name[name] for name in names}


def find_images_without_persons(poses: PoseDataset) -> dict[str, ImageFile]:
    """By file name, the images that are evaluated and in which no sample is."""
    file = resolve_annotation_file(poses)
    content = read_coco_truth(file)
    place = ImageLocator(file, _get_path(poses), content["images"])
    known = {s.image_name for s in poses.samples}
    names = (get_file_name(content["images"][i]) for i in _find_evaluated_images(poses, content))
    return {name: ImageFile(place.of(name)) for name in names if name and name not in known}


def _get_path(poses: PoseDataset) -> Path:
    """What was given as `coco:PATH`."""
    return Path(split_sources(poses.source)[0].partition(":")[2])


def _find_evaluated_images(poses: PoseDataset, content: Mapping[str, Any]) -> list[int]:
    """Places in the file's list of images."""
    is_whole = "[" not in poses.split and not is_divided(_get_path(poses), poses.split)
    names = {s.image_name for s in poses.samples}
    return [
        i for i, image in enumerate(content["images"]) if is_whole or get_file_name(image) in names
    ]


def _make_skeleton(file: Path, content: Mapping[str, Any]) -> Skeleton:
    return skeleton_from_names(file.stem, content["categories"][0]["keypoints"])


def _check(results: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> None:
    for number, result in enumerate(results):
        points = result.get("keypoints")
        if not isinstance(points, list) or len(points) != 3 * len(skeleton):
            count = len(points) / 3 if isinstance(points, list) else 0
            raise DataError(
                f"result {number} has {count:g} joints, the data set has {len(skeleton)}",
                "use the annotation file's joints, in its order",
            )
        if not isinstance(result.get("image_id"), int | str) or not _is_number(result.get("score")):
            raise DataError(f"result {number} has no image_id or score", "add them")
        if not isinstance(result.get("category_id"), int | str):
            raise DataError(f"result {number} has no category_id", "add it: 1 for persons")
        if not all(map(_is_number, points)):
            raise DataError(f"a keypoint of result {number} is not a number", "fix the file")
    _check_boxes(results)


def _check_categories(results: Sequence[Mapping[str, Any]], wanted: set[int | str]) -> None:
    """Raise DataError where the evaluator would find no result of the set's category."""
    found = {result["category_id"] for result in results}
    if wanted and found and not found & wanted:
        raise DataError(
            f"results have category_id {min(map(repr, found))}, the data set has "
            f"{min(map(repr, wanted))}",
            "use the annotation file's id",
        )


def _check_boxes(results: Sequence[Mapping[str, Any]]) -> None:
    if results and results[0].get("bbox", []) != []:  # the evaluator looks at the first one
        for number, result in enumerate(results):
            box = result.get("bbox")
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                raise DataError(
                    f"result {number} has no valid `bbox`, others have one",
                    "give x, y, width and height in all results, or in none",
                )


def _is_number(value: object) -> bool:
    # Larger integers than a float holds are objects to numpy.
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < _MAX_ABS_VALUE
