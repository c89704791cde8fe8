"""Label images: find persons, ask the teachers, keep what they agree on, write COCO.

Every image that is done is one line of `<out>.partial`, so that a run that was stopped goes on
where it was; the COCO file appears whole at the end.
"""

from collections.abc import Iterator, Sequence

from okdhp_edge.errors import DataError
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.label.coco_file import LabelResult, assemble, read_excluded
from okdhp_edge.label.consensus import merge_skeletons
from okdhp_edge.label.images import ImageItem, get_frame_path, list_items, read_images, save_frame
from okdhp_edge.label.options import LabelOptions
from okdhp_edge.label.progress_log import ProgressLog, Record
from okdhp_edge.label.worker import LabelTask, label_image, make_worker_options
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.executors import Executor, SerialExecutor, make_executor


def label(options: LabelOptions) -> LabelResult:
    """Label all sources.

    Raises:
        DataError: a source cannot be used, or nobody was found in any.
        ModelError: a teacher or detector cannot be used.
        OutputError: the place cannot be written, or a run of other settings was begun there, or
            there is no such cluster.
    """
    items = list_items(options.sources, options.every)
    # What cannot be opened is reported before anything is written.
    teachers = [ExternalPoseModel(path, 1, options.precision) for path in options.teachers]
    skeleton = merge_skeletons([teacher.skeleton for teacher in teachers])
    if options.detector is not None:
        open_detector(options.detector, threads=1).close()
    excluded = read_excluded(options)
    partial = ProgressLog(options.out.with_suffix(".partial"), options.collect_settings())
    waiting = [item for item in items if item.key not in partial.done]
    executor = _make_executor(options)
    try:
        with partial:
            for item, record in _iterate_records(options, waiting, executor):
                partial.add(item, record)
                if "error" in record:
                    options.warn(record["error"])
                options.report("label", len(partial.done), len(items), "")
    finally:
        executor.close()
    result = assemble(options, skeleton, [(i, partial.done[i.key]) for i in items], excluded)
    partial.path.unlink()
    return result


def _make_executor(options: LabelOptions) -> Executor:
    if options.workers == 1 and options.cluster is None:
        return SerialExecutor()
    return make_executor(options.cluster, options.workers)


def _iterate_records(
    options: LabelOptions, items: Sequence[ImageItem], executor: Executor
) -> Iterator[tuple[ImageItem, Record]]:
    """Each item and its record, in any order."""
    unreadable: list[tuple[ImageItem, Record]] = []

    def read_tasks() -> Iterator[LabelTask]:
        for item, image in read_images(items):
            try:
                yield _make_task(options, item, image)
            except DataError as error:
                unreadable.append((item, {"error": str(error)}))

    for done in executor.run(label_image, make_worker_options(options), read_tasks()):
        if done.result is None:  # one image costs no other
            yield done.task.item, {"error": done.error}
            continue
        is_kept = done.result.get("persons") or done.result.get("empty")
        if done.task.item.frame is not None and is_kept:
            save_frame(done.task.image, get_frame_path(options.out, done.task.item))
        yield done.task.item, done.result
        yield from unreadable
        unreadable.clear()
    yield from unreadable


def _make_task(options: LabelOptions, item: ImageItem, image: Image | DataError) -> LabelTask:
    if isinstance(image, DataError):
        raise image
    if options.no_people:
        return LabelTask(item, image, [])
    return LabelTask(item, image, options.find(item.path, image) if options.find else None)
