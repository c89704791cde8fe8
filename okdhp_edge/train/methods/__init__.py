"""The distillation methods, one file each behind `Method`."""

import importlib

from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import METHODS
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.methods.base import Method

__all__ = ["Method", "build_method"]


def build_method(recipe: Recipe, skeleton: Skeleton) -> Method:
    """The method of a recipe, its teachers opened.

    Raises:
        OkdhpError: a teacher cannot be used.
    """
    entry = METHODS[recipe.distillation.method]
    method: Method = getattr(importlib.import_module(entry.module), entry.cls)(recipe, skeleton)
    return method
