"""Stages put together: what quantization alone cannot save, training with quantization may.

train --> export --> quantize, each the stage of that name; they still meet only in files.
"""

from dataclasses import replace
from pathlib import Path

from okdhp_edge.artifacts.card import ModelCard, read_card
from okdhp_edge.data.detection import load_for
from okdhp_edge.errors import DataError, GateError, ModelError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.network.config import drop_encoder_weights
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.recipe.distillation import QuantizationTable
from okdhp_edge.recipe.recipe import Recipe, revalidate

# Of the recipe's rate: the network only has to settle into its steps.
_LEARNING_RATE_FACTOR = 0.1


def quantize_with_qat(
    fp32: Path, checkpoint: Path, options: QuantizeOptions, *, epochs: int
) -> Path:
    """Quantize for every profile; where the gate does not hold, train with quantization for it.

    Args:
        fp32: the exported branch.
        checkpoint: what it was exported from, to go on training.
        epochs: of training with quantization; the runs lie in `qat-PROFILE/` beside `fp32`. With
            none, a gate that does not hold is the end.

    Returns:
        The `int8` folder.

    Raises:
        GateError: even trained, a profile loses more than it may.
    """
    if not epochs:
        return quantize(fp32, options)
    card = read_card(fp32)
    _check_joints(card, options.train_data or options.data)
    _check_held_out(card, options)
    _check_trainable(checkpoint, card)
    for name in options.profiles:
        alone = replace(options, profiles=[name])
        try:
            quantize(fp32, alone)
        except GateError:
            folder = fp32.parent / f"qat-{name}"
            trained_by = read_info(checkpoint).recipe
            recipe = make_qat_recipe(trained_by, checkpoint, card, name, epochs)
            trained = _train(recipe, folder, options)
            exported = export_branch(trained, ExportOptions(
                out=folder, branch=str(card.branch), batch=card.batch, data=options.data,
                box_padding=card.input.box_padding,
                simplify=bool(card.simplified), command=options.command,
                report=options.report))  # fmt: skip
            quantize(exported, replace(alone, reference=fp32))
    return fp32.parent / "int8"


def _check_joints(card: ModelCard, data: str) -> None:
    """Trained on other joints, the model could not be held against the float one."""
    found = load_for(card.kind, data, "train").skeleton.joints
    if found != card.skeleton.skeleton().joints:
        raise ModelError(
            f"--qat needs data with the model's {len(card.skeleton.skeleton())} joints in their "
            f"order, and {data} has {len(found)} others",
            "use such data, or fine-tune first: `okdhp-edge train --start`",
        )


def _check_trainable(checkpoint: Path, card: ModelCard) -> None:
    """Raise ModelError, before hours of search, where no training can follow."""
    recipe = read_info(checkpoint).recipe
    if recipe.keeps_boxes:
        raise ModelError(f"{checkpoint} keeps an imported detector, which is not trained",
                         "omit --qat")  # fmt: skip
    if card.branch not in recipe.deployable:
        raise ModelError(
            f"branch {card.branch} of {checkpoint} cannot be trained with quantization",
            f"omit --qat, or export --branch {recipe.deployable[0]}",
        )


def _check_held_out(card: ModelCard, options: QuantizeOptions) -> None:
    """Trained on the persons that the gate measures, the model would pass it whatever it lost."""
    taught = load_for(card.kind, options.train_data or options.data, "train")
    judged = load_for(card.kind, options.data, "val")
    shared = {s.image for s in taught.samples} & {s.image for s in judged.samples}
    if shared:
        raise DataError(
            f"--qat would train on {len(shared)} of the images that its accuracy is measured on",
            "give --data with splits `train` and `val`, without @all",
        )


def _train(recipe: Recipe, folder: Path, options: QuantizeOptions) -> Path:
    # The tools of training are needed for this trial alone.
    from okdhp_edge.train.loop import train
    from okdhp_edge.train.setup import TrainingOptions

    return train(
        recipe, options.train_data or options.data,
        TrainingOptions(
            out=folder, report=options.report,
            val_data=options.data if options.train_data else None,
        ),
    )  # fmt: skip


def make_qat_recipe(
    recipe: Recipe, start: Path, card: ModelCard, profile: str, epochs: int
) -> Recipe:
    """The recipe of a short training with quantization that goes on where another ended.

    It learns from the split `train` alone, since the gate measures on `val`, and is selected by the
    metric that the card has.
    """
    table = {"profile": profile, "branch": card.branch}
    optimizer = {
        "epochs": epochs,
        "lr": recipe.optimizer.lr * _LEARNING_RATE_FACTOR,
        "average": None,
    }
    changed = recipe.model_copy(
        update={
            "start": str(start),
            "train_split": "train",
            "corrections": None,
            "metric": card.metrics[0].metric if card.metrics else recipe.metric,
            "network": drop_encoder_weights(recipe.network),
            "distillation": recipe.distillation.without_trained_teachers(),
            "quantization": QuantizationTable.model_validate(table),
            "optimizer": recipe.optimizer.model_copy(update=optimizer),
        }
    )
    return revalidate(changed)
