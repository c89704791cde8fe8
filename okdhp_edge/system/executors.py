"""Who does the work of a large job: this process, a pool of processes, or a Ray cluster."""

import importlib
import importlib.util
import multiprocessing
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from okdhp_edge.errors import OutputError

_MAX_ATTEMPTS = 3
_QUEUED_PER_WORKER = 2
_CONNECT_TIMEOUT_S = 5.0
LOCAL = "local"

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
Function = Callable[[Shared, Task], Result]


@dataclass(frozen=True)
class Completed(Generic[Task, Result]):
    """A task that came back.

    Attributes:
        result: what the function returned; None where its worker died.
        error: why there is no result, one line; empty where there is one.
    """

    task: Task
    result: Result | None
    error: str = ""


class Executor(Protocol):
    """Calls a function for each task; results come once each, in any order."""

    def run(
        self, function: "Function[Shared, Task, Result]", shared: Shared, tasks: Iterable[Task]
    ) -> Iterator[Completed[Task, Result]]:
        """Results as they come. A worker that dies costs the tasks in hand an attempt.

        Args:
            function: of a module, so that workers can import it. What it raises is raised here.
            shared: its first argument, small: it travels with the tasks.
            tasks: read only a few ahead, so that an archive does not fill memory.
        """
        ...

    def close(self) -> None:
        """End the workers; safe to call twice."""
        ...


def make_executor(
    cluster: str | None, workers: int, threads: int = 1, preload: str | None = None
) -> Executor:
    """Processes of this machine, or the nodes of a cluster.

    Args:
        cluster: address of a Ray cluster, or `local` for one on this machine; None for processes.
        threads: CPU threads of one worker.
        preload: module that processes begin to import at once, while the caller prepares the tasks.

    Raises:
        OutputError: Ray is not installed, or there is no such cluster.
    """
    if cluster:
        return RayExecutor(cluster, workers, threads, preload)
    return ProcessExecutor(workers, preload)


class SerialExecutor:
    """No workers: one task after another, in this process."""

    def run(
        self, function: "Function[Shared, Task, Result]", shared: Shared, tasks: Iterable[Task]
    ) -> Iterator[Completed[Task, Result]]:
        """See `Executor.run`."""
        for task in tasks:
            yield Completed(task, function(shared, task))

    def close(self) -> None:
        """See `Executor.close`."""


class ProcessExecutor:
    """A pool of the standard library."""

    def __init__(self, workers: int, preload: str | None = None) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._is_running = False
        if preload is not None:
            pool = self._start_pool()
            for _ in range(workers):
                pool.submit(_import_module, preload)

    def run(
        self, function: "Function[Shared, Task, Result]", shared: Shared, tasks: Iterable[Task]
    ) -> Iterator[Completed[Task, Result]]:
        """See `Executor.run`."""
        queue = iter(enumerate(tasks))
        self._is_running = True
        waiting: dict[int, Task] = {}  # what was begun and has not come back
        attempts: Counter[int] = Counter()
        while True:
            alone: int | None = None
            try:
                # One at a time, so that the one that kills its worker is known.
                for alone in list(waiting):
                    task = waiting[alone]
                    result = self._start_pool().submit(function, shared, task).result()
                    yield Completed(waiting.pop(alone), result)
                alone = None
                for index, result in self._run_pool(function, shared, queue, waiting):
                    yield Completed(waiting.pop(index), result)
            except BrokenProcessPool:
                self.close()
                attempts.update(list(waiting) if alone is None else [alone])
                for index in [i for i in waiting if attempts[i] >= _MAX_ATTEMPTS]:
                    error = f"its worker died {_MAX_ATTEMPTS} times; check memory"
                    yield Completed(waiting.pop(index), None, error)
            else:
                self._is_running = False
                return

    def _run_pool(
        self,
        function: "Function[Shared, Task, Result]",
        shared: Shared,
        queue: Iterator[tuple[int, Task]],
        waiting: dict[int, Task],
    ) -> Iterator[tuple[int, Result]]:
        """The queue; entries of `waiting` are the caller's to remove."""
        pool = self._start_pool()
        pending: dict[Future[Any], int] = {}
        while True:
            while len(pending) < self._workers * _QUEUED_PER_WORKER:
                index_and_task = next(queue, None)
                if index_and_task is None:
                    break
                index, task = index_and_task
                waiting[index] = task
                pending[pool.submit(function, shared, task)] = index
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future.result()

    def _start_pool(self) -> ProcessPoolExecutor:
        """The pool; its processes start with the first task."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=context, initializer=_end_with_parent
            )
        return self._pool

    def close(self) -> None:
        """See `Executor.close`. Where results were not taken to the end, after an error or Ctrl-C,
        nothing waits for tasks that may take hours."""
        if self._pool is None:
            return
        if self._is_running:
            # `terminate_workers` comes with Python 3.14.
            for process in list((self._pool._processes or {}).values()):  # noqa: SLF001
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def _import_module(name: str) -> None:
    """In a worker. One that cannot is told by the first task of its own."""
    importlib.import_module(name)


def _end_with_parent() -> None:
    """End this worker when its driver is gone: one that was killed cannot say so to its pool."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, name="parent-watch", daemon=True).start()


class RayExecutor:
    """Tasks on a Ray cluster, with Ray's own retries.

    Args:
        address: of the cluster, or `local` for one on this machine.
        preload: see `make_executor`.

    Raises:
        OutputError: Ray is not installed, or there is no such cluster.
    """

    def __init__(
        self, address: str, workers: int, threads: int, preload: str | None = None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise OutputError("--cluster needs Ray", "pip install okdhp-edge[cluster]")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports them
        import ray

        self._ray, self._threads = ray, threads
        try:
            if address == LOCAL:
                # `local`, or an instance that runs here already would be joined.
                ray.init("local", num_cpus=workers * threads, include_dashboard=False,
                         log_to_driver=False)  # fmt: skip
            else:
                _check_reachable(address)
                ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            cause = " ".join(str(error).split())[:100]
            raise OutputError(f"no Ray cluster at {address} ({cause})",
                              "start it with `ray start --head`") from error  # fmt: skip
        if preload is not None:
            begin = ray.remote(num_cpus=threads)(_import_module)
            self._preloads = [begin.remote(preload) for _ in range(workers)]

    def run(
        self, function: "Function[Shared, Task, Result]", shared: Shared, tasks: Iterable[Task]
    ) -> Iterator[Completed[Task, Result]]:
        """See `Executor.run`."""
        ray = self._ray
        remote = ray.remote(num_cpus=self._threads, max_retries=_MAX_ATTEMPTS - 1)(function)
        stored = ray.put(shared)
        queue = iter(tasks)
        pending: dict[Any, Task] = {}
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // self._threads)
        while True:
            while len(pending) < workers * _QUEUED_PER_WORKER:
                try:
                    task = next(queue)
                except StopIteration:
                    break
                pending[remote.remote(stored, task)] = task
            if not pending:
                return
            (ready, *_), _ = ray.wait(list(pending), num_returns=1)
            task = pending.pop(ready)
            try:
                yield Completed(task, ray.get(ready))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                cause = type(error).__name__
                yield Completed(task, None, f"its worker died ({cause}); check memory")

    def close(self) -> None:
        """See `Executor.close`."""
        if self._ray.is_initialized():
            self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError at once where nothing listens: Ray itself goes on trying for two minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), _CONNECT_TIMEOUT_S).close()
