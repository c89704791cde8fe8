"""Who trains together, as launchers say it."""

import pytest

from okdhp_edge.errors import OkdhpError
from okdhp_edge.train.processes import ProcessLayout, read_process_layout

TORCHRUN = {"LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "WORLD_SIZE": "16", "RANK": "9"}
SRUN = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_NTASKS": "16", "SLURM_NTASKS_PER_NODE": "8",
        "SLURM_NNODES": "2", "SLURM_PROCID": "9"}  # fmt: skip


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN, SRUN | TORCHRUN])
def test_both_launchers_say_the_same(environment):
    found = read_process_layout(environment)
    assert found == ProcessLayout(8, 2, 9)
    assert found.total == 16


def test_alone_and_in_a_batch_script_one_process_trains():
    assert read_process_layout({}) == ProcessLayout()
    script = {"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_NNODES": "2"}
    assert read_process_layout(script).total == 1


def test_tasks_of_unknown_places_are_refused():
    with pytest.raises(OkdhpError, match="without --ntasks-per-node"):
        read_process_layout({"SLURM_STEP_NUM_TASKS": "4"})
