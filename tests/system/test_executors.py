"""Every executor does each task once, reads few ahead, and survives workers that die."""

import importlib.util
import os
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest

from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.system.executors import ProcessExecutor, SerialExecutor, make_executor
from tests.conftest import REPOSITORY
from tests.helpers.tasks import add, die, die_at_zero, die_once, fail_at_zero

EXECUTORS = ["serial", "processes", "ray"]


@pytest.fixture(params=EXECUTORS)
def executor(request):
    if request.param == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install okdhp-edge[cluster]")
    if request.param == "serial":
        made = SerialExecutor()
    else:
        made = make_executor("local" if request.param == "ray" else None, workers=2)
    yield made
    made.close()


def test_each_task_comes_back_once(executor):
    done = list(executor.run(add, 100, range(20)))
    assert sorted((d.task, d.result) for d in done) == [(i, 100 + i) for i in range(20)]
    assert not any(d.error for d in done)


def test_tasks_are_read_a_few_ahead(executor):
    read = []

    def read_tasks():
        for task in range(50):
            read.append(task)
            yield task

    for count, _ in enumerate(executor.run(add, 0, read_tasks()), start=1):
        assert len(read) - count <= 8


def test_errors_of_the_function_are_raised_as_they_are(executor):
    with pytest.raises(DataError, match="-1 is negative; use another"):
        list(executor.run(add, 0, [-1]))


def is_imported(name, _):
    """Whether a worker has a module before any task asked for it."""
    return name in sys.modules


def test_processes_import_a_module_before_their_first_task():
    executor = make_executor(None, workers=1, preload="xmlrpc.server")
    (done,) = executor.run(is_imported, "xmlrpc.server", [0])
    executor.close()
    (without,) = (plain := ProcessExecutor(1)).run(is_imported, "xmlrpc.server", [0])
    plain.close()
    assert (done.result, without.result) == (True, False)


def test_a_module_that_cannot_be_imported_stops_no_task():
    executor = ProcessExecutor(2, preload="no_such_module")
    assert [done.result for done in executor.run(add, 1, [1])] == [2]
    executor.close()


def test_an_error_does_not_wait_for_tasks_that_take_hours():
    started = time.monotonic()
    executor = ProcessExecutor(2)
    with pytest.raises(DataError), closing(executor):
        for _ in executor.run(fail_at_zero, None, range(8)):
            pass
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(("work", "error"), [(die_once, ""), (die, "died 3 times")])
def test_a_worker_that_dies_costs_an_attempt(tmp_path, work, error):
    executor = ProcessExecutor(1)
    done = list(executor.run(work, tmp_path, range(2)))
    executor.close()
    assert sorted(d.task for d in done) == [0, 1]
    assert all(error in d.error and (d.result is None) == bool(error) for d in done)


def test_a_task_that_kills_its_worker_takes_no_other_with_it(tmp_path):
    executor = ProcessExecutor(2)
    done = {d.task: d for d in executor.run(die_at_zero, tmp_path, range(6))}
    executor.close()
    assert "died 3 times" in done[0].error
    assert [done[i].result for i in range(1, 6)] == [1, 2, 3, 4, 5]


def test_workers_of_a_killed_driver_end(tmp_path):
    """No orphans that hold a model's memory for ever."""
    script = tmp_path / "driver.py"
    script.write_text(
        "from pathlib import Path\n"
        "from okdhp_edge.system.executors import ProcessExecutor\n"
        "from tests.helpers.tasks import sleep_for_long\n"
        "if __name__ == '__main__':\n"
        f"    list(ProcessExecutor(2).run(sleep_for_long, Path({str(tmp_path)!r}), ['a', 'b']))\n"
    )
    driver = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": REPOSITORY})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [psutil.Process(int(file.stem)) for file in tmp_path.glob("*.pid")]
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_local_cluster_is_started_beside_one_that_runs():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install okdhp-edge[cluster]")
    from ray.cluster_utils import Cluster

    other = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        made = make_executor("local", workers=1)
        assert [done.result for done in made.run(add, 1, [1, 2])] == [2, 3]
        made.close()
    finally:
        other.shutdown()


def test_a_cluster_that_is_not_there_is_one_line():
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(OutputError, match=r"needs Ray; pip install okdhp-edge\[cluster\]"):
            make_executor("local", workers=1)
    else:
        with pytest.raises(OutputError, match="no Ray cluster at 127.0.0.1:1"):
            make_executor("127.0.0.1:1", workers=1)
