"""`okdhp-edge eval --metric ap` and `--results`: COCO's own evaluator."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from okdhp_edge.cli.console import format_command_line, print_json, progress, say, table
from okdhp_edge.errors import DataError
from okdhp_edge.system.progress import counter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from okdhp_edge.backends.base import Backend
    from okdhp_edge.data.sample import PoseDataset

_MIN_BOX_SCORE = 0.1


def evaluate_results(data: str, split: str, results: Path) -> None:
    """Score a COCO results file."""
    from okdhp_edge.data.load import read_annotations
    from okdhp_edge.evaluation.average_precision import average_precision, read_results

    # Images are not needed.
    poses = read_annotations(data, split)
    numbers = average_precision(poses, read_results(results))
    _show(numbers, f"{results.name} on {poses.split}")
    print_json({
        "results": results.name, "split": poses.split, "ap": numbers,
        "command": format_command_line(),
    })  # fmt: skip


def evaluate_with_coco(
    data: str,
    split: str,
    loaded: "Backend",
    flip_test: bool,
    detector: str | None,
    predictions: Path | None,
) -> dict[str, object]:
    """Score a model, on labelled boxes or on a detector's."""
    from okdhp_edge.backends.base import predict_with
    from okdhp_edge.data.coco_truth import read_coco_truth
    from okdhp_edge.data.load import load
    from okdhp_edge.evaluation.average_precision import (
        average_precision,
        resolve_annotation_file,
        to_coco_results,
        write_results,
    )
    from okdhp_edge.evaluation.evaluate import predict_with_scores
    from okdhp_edge.inference.flip_test import Predict, add_flip_test
    from okdhp_edge.system.outputs import check_outputs

    truth = load(data, split)
    read_coco_truth(resolve_annotation_file(truth))  # refused now, and not after the inference
    check_outputs({"--predictions": predictions}, truth.list_input_paths())
    card = loaded.card
    skeleton = card.skeleton.skeleton()
    truth.with_skeleton(skeleton)  # raises if the joints do not match
    predict: Predict = predict_with(loaded)
    if flip_test:
        predict = add_flip_test(predict, skeleton)
    with progress() as report:
        boxed, box_scores = _replace_boxes(truth, detector)
        # The joints that come out are the model's.
        found = predict_with_scores(
            replace(boxed, skeleton=skeleton), card.input, card.decoder, predict,
            progress=counter(report, "evaluate", len(boxed)),
        )["model"]  # fmt: skip
    columns = truth.skeleton.find_columns(skeleton)
    known = columns >= 0
    xy = found.xy_BK2[:, columns] * known[:, None]
    results = to_coco_results(boxed, xy, found.score_BK[:, columns] * known, box_scores)
    if predictions is not None:
        write_results(predictions, results)
        say(f"wrote {predictions}")
    numbers = average_precision(truth, results)
    _show(numbers, f"{'detected' if detector else 'labelled'} boxes, {truth.split}")
    if not known.all():
        names = [j for j, k in zip(truth.skeleton.joints, known, strict=True) if not k]
        say(f"the model does not predict {', '.join(names)}: counted as missed")
    return {
        "data": "coco", "metric": "ap", "boxes": Path(detector).name if detector else "labelled",
        "split": truth.split, "value": numbers["AP"], "ap": numbers,
    }  # fmt: skip


def _replace_boxes(
    truth: "PoseDataset", detector: str | None
) -> "tuple[PoseDataset, NDArray[np.float64] | None]":
    """The labelled persons, or one sample per detected box with its score."""
    if detector is None:
        return truth, None
    import numpy as np

    from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR
    from okdhp_edge.evaluation.average_precision import find_images_without_persons
    from okdhp_edge.inference.open_detector import open_detector

    # COCO's evaluation ranks boxes by their scores: it wants the unlikely ones too.
    min_score = _MIN_BOX_SCORE if detector == SHIPPED_DETECTOR else None
    detect = open_detector(detector, min_score=min_score, say=say)
    others = find_images_without_persons(truth)
    there = {name: image for name, image in others.items() if image.path.is_file()}
    if len(there) < len(others):
        say(f"{len(others) - len(there)} images without labelled persons are missing: skipped")
    images = {s.image_name: s.image for s in truth.samples} | there
    samples, scores = [], []
    for name, image in images.items():
        for number, found in enumerate(detect(image.read())):
            template = truth.samples[0]
            samples.append(replace(template, id=f"{name}#{number}", image=image, box=found.box))
            scores.append(found.score)
    detect.close()
    if not samples:
        raise DataError(f"{detector} finds no people in {len(images)} images", "use another one")
    return replace(truth, samples=samples), np.array(scores)


def _show(numbers: Mapping[str, float], title: str) -> None:
    table(title, ("metric", "points"), [(n, f"{v:.1f}") for n, v in numbers.items()])
