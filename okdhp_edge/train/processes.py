"""How many processes train together: as torchrun or SLURM's srun started them."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from okdhp_edge.errors import OkdhpError


class ProcessLayout(NamedTuple):
    """Processes of a training.

    Attributes:
        per_node: on each machine.
        nodes: machines.
        rank: of this process among all; 0 holds the output folder.
    """

    per_node: int = 1
    nodes: int = 1
    rank: int = 0

    @property
    def total(self) -> int:
        """Of all machines."""
        return self.per_node * self.nodes


def read_process_layout(environment: Mapping[str, str] = os.environ) -> ProcessLayout:
    """Read what the launcher says; without one, this process trains alone.

    Raises:
        OkdhpError: srun started several tasks and does not say how many on each machine.
    """
    if "LOCAL_WORLD_SIZE" in environment:
        return ProcessLayout(
            int(environment["LOCAL_WORLD_SIZE"]), int(environment.get("GROUP_WORLD_SIZE", "1")),
            int(environment.get("RANK", "0")),
        )  # fmt: skip
    # Of the step: a batch script has the job's number too, and runs once.
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return ProcessLayout()
    per_node = environment.get("SLURM_NTASKS_PER_NODE")
    if per_node is None:
        raise OkdhpError(
            "srun started several tasks without --ntasks-per-node",
            "set it to the number of GPUs of a machine",
        )
    return ProcessLayout(
        int(per_node), int(environment.get("SLURM_NNODES", "1")),
        int(environment.get("SLURM_PROCID", "0")),
    )  # fmt: skip
