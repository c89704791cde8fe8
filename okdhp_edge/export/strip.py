"""Strip a network down to one branch."""

from torch import nn

from okdhp_edge.errors import ModelError
from okdhp_edge.network.branches import PoseNet, SingleBranch
from okdhp_edge.network.build import build_network, count_parameters
from okdhp_edge.network.config import AnyNetworkConfig, MobilePoseConfig, OnnxConfig
from okdhp_edge.recipe.checkpoint import CheckpointInfo
from okdhp_edge.system.reading import is_count


def choose_branch(facts: CheckpointInfo, branch: str) -> int:
    """`best` (on the validation split, among those with the target's depth) or a number from 0.

    Raises:
        ModelError: no such branch, or a network that no device can feed.
    """
    if facts.recipe.network.mask:
        raise ModelError(
            "this network needs the person's mask as input and is only usable as a teacher",
            'train a student with `distillation.method = "odkd"` and export that',
        )
    if branch == "best":
        return facts.best_branch
    count = len(facts.recipe.network.branches)
    if not is_count(branch) or int(branch) >= count:
        raise ModelError(f"no branch '{branch}'", f"use best, or 0 to {count - 1}")
    return int(branch)


def make_branch_config(config: AnyNetworkConfig, branch: int) -> AnyNetworkConfig:
    """The network that has this branch alone."""
    update: dict[str, object] = {"branches": (config.branches[branch],), "aggregation": "mean"}
    if isinstance(config, MobilePoseConfig):
        update["encoder_weights"] = None
    if isinstance(config, OnnxConfig):
        update["file"] = None
    return config.model_copy(update=update)


def strip(net: PoseNet, config: AnyNetworkConfig, branch: int) -> nn.Module:
    """Trunk and one branch, in eval mode.

    Its size is asserted against a network built with that branch alone: no weight of another
    branch and none of the FAU can have come along.
    """
    single = SingleBranch(net, branch).eval()
    joints = net.aggregation.joints
    alone = build_network(make_branch_config(config, branch), joints, load_encoder=False)
    assert count_parameters(single) == count_parameters(SingleBranch(alone, 0))
    return single
