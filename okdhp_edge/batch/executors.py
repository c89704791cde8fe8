"""Who does the work: a pool of processes on this machine, or the nodes of a Ray cluster."""

import importlib.util
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from okdhp_edge.batch.plan import Segment
from okdhp_edge.batch.worker import BatchOptions, SegmentResult, process_segment
from okdhp_edge.errors import OutputError

_MAX_ATTEMPTS = 3
_QUEUED_PER_WORKER = 2
LOCAL = "local"


class Executor(Protocol):
    """Runs segments; each result comes once, in any order."""

    def run(self, options: BatchOptions, segments: Sequence[Segment]) -> Iterator[SegmentResult]:
        """Results as they come. A worker that dies costs the segment in hand an attempt."""
        ...

    def close(self) -> None:
        """End the workers; safe to call twice."""
        ...


class ProcessExecutor:
    """A pool of the standard library."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, options: BatchOptions, segments: Sequence[Segment]) -> Iterator[SegmentResult]:
        """See `Executor.run`."""
        waiting, attempts = list(segments), Counter[tuple[str, int]]()
        while waiting:
            try:
                for result in self._run_pool(options, waiting):
                    waiting.remove(result.segment)
                    yield result
            except BrokenProcessPool:
                # Which segment killed its worker is not known: those that were begun all count.
                self.close()
                for segment in waiting[: self._workers * _QUEUED_PER_WORKER]:
                    attempts[segment.source.url, segment.index] += 1
                lost = [s for s in waiting if attempts[s.source.url, s.index] >= _MAX_ATTEMPTS]
                for segment in lost:
                    waiting.remove(segment)
                    yield SegmentResult(
                        segment, 0, error=f"its worker died {_MAX_ATTEMPTS} times; check memory"
                    )

    def _run_pool(
        self, options: BatchOptions, segments: Sequence[Segment]
    ) -> Iterator[SegmentResult]:
        """With no more than a few queued, so that an archive does not fill memory."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=context, initializer=_end_with_parent
            )
        queue = iter(list(segments))
        pending: set[Future[SegmentResult]] = set()
        while True:
            while len(pending) < self._workers * _QUEUED_PER_WORKER:
                segment = next(queue, None)
                if segment is None:
                    break
                pending.add(self._pool.submit(process_segment, options, segment))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()

    def close(self) -> None:
        """See `Executor.close`."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _end_with_parent() -> None:
    """End this worker when its driver is gone: one that was killed cannot say so to its pool."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_it, name="parent-watch", daemon=True).start()


class RayExecutor:
    """Tasks on a Ray cluster, with Ray's own retries.

    Args:
        address: of the cluster, or `local` for one on this machine.

    Raises:
        OutputError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, workers: int, threads: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise OutputError("--cluster needs Ray", "pip install okdhp-edge[cluster]")
        import ray

        self._ray, self._workers, self._threads = ray, workers, threads
        try:
            if address == LOCAL:
                ray.init(num_cpus=workers * threads, include_dashboard=False, log_to_driver=False)
            else:
                ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            cause = " ".join(str(error).split())[:100]
            raise OutputError(f"no Ray cluster at {address} ({cause})",
                              "start it with `ray start --head`") from error  # fmt: skip

    def run(self, options: BatchOptions, segments: Sequence[Segment]) -> Iterator[SegmentResult]:
        """See `Executor.run`."""
        ray = self._ray
        task = ray.remote(num_cpus=self._threads, max_retries=_MAX_ATTEMPTS - 1)(process_segment)
        shared = ray.put(options)
        queue = iter(segments)
        pending: dict[Any, Segment] = {}
        total = max(1, int(ray.cluster_resources().get("CPU", 1)) // self._threads)
        while True:
            while len(pending) < total * _QUEUED_PER_WORKER:
                segment = next(queue, None)
                if segment is None:
                    break
                pending[task.remote(shared, segment)] = segment
            if not pending:
                return
            (ready, *_), _ = ray.wait(list(pending), num_returns=1)
            segment = pending.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                cause = type(error).__name__
                yield SegmentResult(segment, 0, error=f"its worker died ({cause}); check memory")

    def close(self) -> None:
        """See `Executor.close`."""
        if self._ray.is_initialized():
            self._ray.shutdown()
