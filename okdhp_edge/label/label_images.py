"""Label pictures: find persons, ask the teachers, keep what they agree on, write COCO.

Every image that is done is one line of `<out>.partial`, so that a run that was stopped goes on
where it was; the COCO file appears whole at the end.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.label.coco_file import LabelResult, assemble
from okdhp_edge.label.consensus import merge_skeletons
from okdhp_edge.label.images import ImageItem, list_items, read_images
from okdhp_edge.label.options import LabelOptions
from okdhp_edge.label.progress_log import ProgressLog, Record
from okdhp_edge.label.worker import Worker
from okdhp_edge.pose.skeleton import Skeleton

_MAX_PENDING_PER_WORKER = 4


def label(options: LabelOptions) -> LabelResult:
    """Label all sources.

    Raises:
        DataError: a source cannot be used, or nobody was found in any.
        ModelError: a teacher or detector cannot be used.
        OutputError: the place cannot be written, or a run of other settings was begun there.
    """
    items = list_items(options.sources, options.every)
    # What cannot be opened is told before anything is written.
    teachers = [ExternalPoseModel(path, 1, options.precision) for path in options.teachers]
    if options.detector is not None:
        open_detector(options.detector, threads=1).close()
    skeleton = merge_skeletons([teacher.skeleton for teacher in teachers])
    partial = ProgressLog(options.out.with_suffix(".partial"), options.collect_settings())
    waiting = [item for item in items if item.key not in partial.done]
    done = len(items) - len(waiting)
    with partial:
        for item, record in _iterate_records(options, skeleton, waiting):
            partial.add(item, record)
            done += 1
            if "error" in record:
                options.warn(record["error"])
            options.report("label", done, len(items), "")
    result = assemble(options, skeleton, [(i, partial.done[i.key]) for i in items])
    partial.path.unlink()
    return result


def _iterate_records(
    options: LabelOptions, skeleton: Skeleton, items: Sequence[ImageItem]
) -> Iterator[tuple[ImageItem, Record]]:
    """Each item and its record, several in work at once."""
    worker = Worker(options, skeleton)
    pending: list[tuple[ImageItem, Future[Record]]] = []
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            for item, picture in read_images(items):
                pending.append((item, pool.submit(worker, item, picture)))
                if len(pending) > options.workers * _MAX_PENDING_PER_WORKER:
                    first, future = pending.pop(0)
                    yield first, future.result()
            for item, future in pending:
                yield item, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
