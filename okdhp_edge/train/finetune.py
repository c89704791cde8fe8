"""Generate a recipe for fine-tuning trained weights on a user's data set.

Few persons are seen often, at a low rate, with the encoder's early layers and all norms as they
are; many are seen seldom, and everything learns. The numbers are those of
`benchmarks/accuracy/finetuning.py`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from okdhp_edge.artifacts import model_store
from okdhp_edge.network.config import drop_encoder_weights
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.distillation import SupervisedTable
from okdhp_edge.recipe.recipe import Recipe, revalidate
from okdhp_edge.recipe.tables import FreezeTable, SkeletonTable

_MIN_PATIENCE_EPOCHS = 4


class _Schedule(NamedTuple):
    """For sets of up to `persons`."""

    persons: float
    steps: int
    batch: int
    lr: float
    freeze: FreezeTable


_SCHEDULES = (
    _Schedule(50, 300, 10, 5e-4, FreezeTable(to_stride=8, norms=True)),
    _Schedule(300, 600, 16, 7e-4, FreezeTable(to_stride=4, norms=True)),
    _Schedule(2000, 1500, 32, 1e-3, FreezeTable(norms=True)),
    _Schedule(float("inf"), 4000, 32, 1e-3, FreezeTable()),
)


def make_finetuning_recipe(
    start: str, persons: int, metric: str | None = None, *, joints: Sequence[str] | None = None
) -> Recipe:
    """The start's recipe, changed for so many persons.

    Args:
        start: a checkpoint, or the name of a model with float weights.
        joints: of the data, where they may be others than the start's: of its `skeleton.pairs`
            those of unknown joints are left out.

    Raises:
        ModelError: there are no such weights.
    """
    facts = checkpoint.read_info(model_store.resolve_weights(start))
    plan = next(s for s in _SCHEDULES if persons <= s.persons)
    batch = max(1, min(plan.batch, persons))
    epochs = max(4, round(plan.steps / max(1, persons // batch)))
    old = facts.recipe
    # A network read from a file has no layers by stride.
    freeze = plan.freeze if old.network.kind != "onnx" else FreezeTable(norms=plan.freeze.norms)
    known = set(facts.skeleton.joints if joints is None else joints)
    pairs = tuple(pair for pair in old.skeleton.pairs if known.issuperset(pair))
    stem = Path(start).stem if "/" not in start else old.name
    changed = old.model_copy(
        update={
            "network": drop_encoder_weights(old.network),
            "name": f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem).lstrip('._-') or old.name}-tuned",
            "start": start, "data": "", "train_split": "train", "corrections": None,
            "metric": metric, "skeleton": SkeletonTable(pairs=pairs), "freeze": freeze,
            "distillation": SupervisedTable(
                method="supervised"),
            "augmentation": old.augmentation.model_copy(update={"views": 1}),
            "optimizer": old.optimizer.model_copy(update={
                "name": "adamw", "lr": plan.lr, "epochs": epochs, "batch_size": batch,
                "schedule": "one_cycle", "average": _choose_ema_decay(plan.steps),
                "patience": max(_MIN_PATIENCE_EPOCHS, epochs // 4),
            }),
            "quantization": None,
        }
    )  # fmt: skip
    # A detector's own boxes are kept as they are, with the epochs that `--epochs 0` sets.
    return changed if old.keeps_boxes else revalidate(changed)


def _choose_ema_decay(steps: int) -> float:
    """A moving average over about the last tenth of the steps."""
    return round(1 - 10 / steps, 4)
