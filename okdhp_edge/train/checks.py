"""What is refused before a run begins: recipes and data that cannot be trained on."""

from collections.abc import Callable

import numpy as np

from okdhp_edge.data.coco_truth import read_coco_truth
from okdhp_edge.data.detection import BOX_METRIC, DetectionSample
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.errors import DataError, RecipeError
from okdhp_edge.evaluation.average_precision import resolve_annotation_file
from okdhp_edge.evaluation.evaluate import check_metric, score
from okdhp_edge.network.onnx_network import read_input_size
from okdhp_edge.recipe.recipe import Recipe

_MIN_NORM_BATCH_SIZE = 2


def check_epochs(recipe: Recipe) -> None:
    """Raise RecipeError where INT8 would never begin, or no epoch leaves nothing."""
    table = recipe.quantization
    if table and table.start_epoch >= recipe.optimizer.epochs:
        raise RecipeError(
            f"quantization.start_epoch is after the last epoch ({recipe.optimizer.epochs})",
            "lower quantization.start_epoch or increase --epochs",
        )
    has_start = recipe.start or (recipe.network.kind == "onnx" and recipe.network.file)
    if not recipe.optimizer.epochs and not has_start:
        raise RecipeError("--epochs 0 needs start weights, and the recipe has none", "use --start")


def check_boxes(recipe: Recipe) -> None:
    """Raise RecipeError where a detector's own output would be trained or fed another size."""
    if not recipe.keeps_boxes:
        return
    if recipe.optimizer.epochs:
        raise RecipeError("network.boxes keeps the file's own output", "use --epochs 0")
    assert recipe.network.kind == "onnx"
    size = read_input_size(recipe.network.graph)
    if size != recipe.input.size:
        raise RecipeError(
            f"network.file takes {size[0]}x{size[1]}, input.size is "
            f"{recipe.input.size[0]}x{recipe.input.size[1]}", f"set input.size = {list(size)}",
        )  # fmt: skip


def check_metric_of(metric: str, val_set: PoseDataset) -> None:
    """Raise RecipeError, before an epoch is trained, where the set's own labels have no score."""
    check_metric(metric)
    if isinstance(val_set.samples[0], DetectionSample):
        if metric != BOX_METRIC:
            raise RecipeError(f"{metric} is not a detector metric", f"use `metric = {BOX_METRIC}`")
        return
    try:
        if metric == "ap":
            read_coco_truth(resolve_annotation_file(val_set))
        else:
            score(val_set, np.stack([s.xy for s in val_set.samples]), metric)
    except DataError as error:
        raise RecipeError(
            error.cause, "set `metric` in the recipe to another, or use other --val-data"
        ) from error


def check_batch(recipe: Recipe, train_set: PoseDataset) -> None:
    """Raise DataError where a batch norm would see one value alone."""
    batch = min(recipe.optimizer.batch_size, len(train_set)) * recipe.augmentation.views
    if batch < _MIN_NORM_BATCH_SIZE and not recipe.freeze.norms:
        raise DataError(
            f"{len(train_set)} persons in batches of {batch}: batch norm needs at least two",
            "use more persons, or a larger optimizer.batch_size",
        )


def warn_of_overlap(
    train_set: PoseDataset, val_set: PoseDataset, say: Callable[[str], None]
) -> None:
    """Say how many samples are both trained and validated on: the best epoch would be that which
    knows the training set best."""
    both = {_identify(s) for s in train_set.samples} & {_identify(s) for s in val_set.samples}
    if both:
        say(
            f"{len(both)} of {len(val_set)} validation samples are trained on too: "
            "give other ones with --val-data"
        )


def _identify(sample: Sample) -> tuple[object, str]:
    """The person in the image, under whatever name the set has it."""
    is_file = isinstance(sample.image, ImageFile)
    return sample.image if is_file else sample.image_name, sample.id.rpartition("#")[2]
