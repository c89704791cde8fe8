"""The distillation methods, one file each behind `Method`."""

from okdhp_edge.train.methods.base import Method
from okdhp_edge.train.methods.build import build_method

__all__ = ["Method", "build_method"]
