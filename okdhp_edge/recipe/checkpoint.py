"""Checkpoints: weights, optimizer state and metadata in one safetensors file.

The facts travel in the file's header, so a checkpoint is replaced in one atomic step and never
half new; the `.json` next to it is for people.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from okdhp_edge.artifacts.card import SkeletonSpec
from okdhp_edge.data.sample import list_kinds
from okdhp_edge.errors import ModelError, OutputError, to_one_line
from okdhp_edge.recipe.distillation import TeacherTable
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import apply_umask, replace, wrap_write_errors, write_text

_METADATA_KEY = "okdhp_edge"
QUANTIZED_BRANCH = "quantization.branch"
"""Name of the module whose ranges quantization-aware training learns."""
_NET_PREFIX, _OPTIMIZER_PREFIX = "net.", "optimizer."


class CheckpointInfo(BaseModel):
    """What a checkpoint is."""

    # Before INT8 learns, the best score of a run that is evaluated by it is minus infinity.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    recipe: Recipe
    data: str
    samples: int | None = None
    """How many persons or images it was trained on."""
    val_data: str | None = None
    """What it was evaluated on where that was a set of its own."""
    metric: str
    skeleton: SkeletonSpec
    epochs_done: int
    scores: dict[str, float]
    """Validation metric in points by output: branch0, branch1, ..., ensemble, int8."""
    best_branch: int
    best_score: float
    """Highest score of any deployable branch so far; in INT8 where the recipe trains for it."""
    version: str

    @property
    def evaluation_data(self) -> str:
        """KIND:PATH whose `val` it was evaluated on."""
        return self.val_data or self.data

    @property
    def channels(self) -> int:
        """Of the network's output."""
        return self.recipe.count_channels(len(self.skeleton.joints))


def save(
    path: Path,
    facts: CheckpointInfo,
    net: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    extra_modules: Mapping[str, nn.Module] | None = None,
) -> None:
    """Write a checkpoint atomically; without `optimizer` it cannot be resumed from.

    `extra_modules` are modules by name that learn beside the network.

    Raises:
        OutputError: the place cannot be written.
    """
    tensors = {_NET_PREFIX + k: v.detach().contiguous() for k, v in net.state_dict().items()}
    if optimizer is not None:
        tensors |= _collect_optimizer_tensors(optimizer)
    for name, module in (extra_modules or {}).items():
        tensors |= {f"{name}.{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
    _write(path, tensors, facts)
    write_text(path.with_suffix(".json"), facts.model_dump_json(indent=2) + "\n")


def save_half(source: Path, target: Path) -> None:
    """A checkpoint's network and learned ranges, its filters in half precision: small enough to
    ship, to be gone on from and to be exported. Norms and biases stay in float. Of data and files
    the kinds and names are kept, not their places on the machine that trained.

    Raises:
        ModelError: `source` is no checkpoint.
        OutputError: the place cannot be written.
    """
    facts = read_info(source)
    facts = facts.model_copy(
        update={
            "data": list_kinds(facts.data),
            "recipe": _drop_folders(facts.recipe),
            "val_data": None,
        }
    )
    kept = (_NET_PREFIX, f"{QUANTIZED_BRANCH}.")
    net = {k: v for k, v in load_file(source).items() if k.startswith(kept)}
    halved = {k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in net.items()}
    _write(target, halved, facts)


def _drop_folders(recipe: Recipe) -> Recipe:
    """The names alone of the files that a recipe was trained with."""
    changes: dict[str, object] = {
        "data": list_kinds(recipe.data), "network": _drop_folder(recipe.network, _NETWORK_FILES),
        "distillation": recipe.distillation.model_copy(update={
            key: _drop_folder(value, ("path",))
            for key, value in recipe.distillation if isinstance(value, TeacherTable)
        }),
    }  # fmt: skip
    return _drop_folder(recipe.model_copy(update=changes), ("start", "corrections"))


_NETWORK_FILES = ("file", "encoder_weights")
_Table = TypeVar("_Table", bound=BaseModel)


def _drop_folder(table: _Table, keys: Sequence[str]) -> _Table:
    names = {key: Path(path).name for key in keys if (path := getattr(table, key, None))}
    return table.model_copy(update=names)


def _write(path: Path, tensors: dict[str, Tensor], facts: CheckpointInfo) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with wrap_tensor_errors(path):
            save_file(tensors, temporary, metadata={_METADATA_KEY: facts.model_dump_json()})
            apply_umask(temporary)
            replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def wrap_tensor_errors(path: Path) -> Iterator[None]:
    """As `wrap_write_errors`, and safetensors' own error, which is no OSError whatever the disk
    says."""
    try:
        with wrap_write_errors(path):
            yield
    except SafetensorError as error:
        raise OutputError(
            f"cannot write {path} ({error})", "check permissions and free space"
        ) from error


def read_info(path: Path) -> CheckpointInfo:
    """The facts in a checkpoint's header.

    Raises:
        ModelError: missing, damaged, or not written by this project.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder without a checkpoint", "pass a .safetensors file")
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist", "run `okdhp-edge train` first")
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path} is not an okdhp-edge checkpoint (.safetensors)",
            "other pose models can only be teachers (`data label --teacher`)",
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        return CheckpointInfo.model_validate_json(header[_METADATA_KEY])
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged ({error})", "retrain, or use last.safetensors"
        ) from error
    except (KeyError, ValidationError) as error:
        raise ModelError(
            f"{path} is not a checkpoint of this version", "train it with `okdhp-edge train`"
        ) from error


def load_net(path: Path, net: nn.Module) -> None:
    """Put a checkpoint's weights into `net`."""
    _load(path, net, _NET_PREFIX)


def load_extra_module(path: Path, name: str, module: nn.Module) -> None:
    """Put back what a module beside the network had learned."""
    _load(path, module, f"{name}.")


def load_net_tensors(path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights by their names in the network."""
    tensors = load_file(path)
    return {k.removeprefix(_NET_PREFIX): v for k, v in tensors.items() if k.startswith(_NET_PREFIX)}


def _load(path: Path, module: nn.Module, prefix: str) -> None:
    tensors = load_file(path)
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise ModelError(
            f"{path} has NaN or infinite weights ({broken[0]})",
            "retrain, or use an earlier checkpoint",
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"the weights do not match the network configuration stored with them: {path} "
            f"({to_one_line(str(error), 60)})",
            "retrain, or use another checkpoint",
        ) from error


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's optimizer state back, exactly."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_file(path).items():
        if key.startswith(_OPTIMIZER_PREFIX):
            number, name = key.removeprefix(_OPTIMIZER_PREFIX).split(".", 1)
            state.setdefault(int(number), {})[name] = tensor
    current: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                # Fused optimizers walk through memory: the state must lie as the weights do.
                values[name] = torch.empty_like(parameter).copy_(value)


def _collect_optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{_OPTIMIZER_PREFIX}{number}.{name}": torch.as_tensor(value).detach().contiguous()
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
