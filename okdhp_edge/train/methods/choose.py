"""Method by the recipe's `[distillation]` table."""

from typing import Any

from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.methods.base import Method
from okdhp_edge.train.methods.fpd import Fpd
from okdhp_edge.train.methods.odkd import Odkd
from okdhp_edge.train.methods.okddip import Okddip
from okdhp_edge.train.methods.okdhp import Okdhp
from okdhp_edge.train.methods.selfkd import Selfkd
from okdhp_edge.train.methods.supervised import Supervised

METHODS: dict[str, type[Any]] = {
    "supervised": Supervised,
    "okdhp": Okdhp,
    "okddip": Okddip,
    "fpd": Fpd,
    "odkd": Odkd,
    "selfkd": Selfkd,
}


def build_method(recipe: Recipe, skeleton: Skeleton) -> Method:
    """The method of a recipe, its teachers opened.

    Raises:
        OkdhpError: a teacher cannot be used.
    """
    method: Method = METHODS[recipe.distillation.method](recipe, skeleton)
    return method
