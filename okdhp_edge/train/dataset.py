"""Crops and joints for the optimizer, the same for every process count and every resume."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import Augmentation, TrainingCrop, make_training_crop
from okdhp_edge.data.sample import Sample
from okdhp_edge.errors import DataError, RecipeError
from okdhp_edge.pose.crop import apply, compose, heatmap_from_crop
from okdhp_edge.pose.skeleton import Skeleton

Key = tuple[int, int]
"""Epoch and sample index."""
_Views = list[tuple[NDArray[np.generic], ...]]


class Batch(NamedTuple):
    """N crops: first every person's first view, then every person's second, and so on.

    Attributes:
        image: (N, H, W, 3) uint8 BGR, or 4 with the person's mask.
        xy: (N, K, 2) joints in heatmap pixels.
        weight: (N, K) where the joint is labelled and inside the crop 1, or less where its position
            is uncertain.
        absent: (N, K) 1 where the joint is known not to be inside the crop.
        labelled: (N,) False for images whose labels are not to be used; their weight and `absent`
            are 0.
        heatmap_from_frame: (N, 2, 3).
        mirrored: (N,) whether left and right are exchanged.
        large: (N, H', W', 3 or 4) the same crops in the size that the method's teachers see; (N, 0)
            where they see `image`.
    """

    image: Tensor
    xy: Tensor
    weight: Tensor
    absent: Tensor
    labelled: Tensor
    heatmap_from_frame: Tensor
    mirrored: Tensor
    large: Tensor

    @property
    def for_teachers(self) -> Tensor:
        """The crops that teachers see."""
        return self.large if self.large.ndim == 4 else self.image


class CropDataset(Dataset[_Views | DataError]):
    """Augmented crops; what (epoch, index) gives is a function of the seed alone.

    Args:
        labelled: persons with labels; indices beyond them lead into `unlabelled`.
        stride: of the heatmaps.
        large: (width, height) of the second crop; None where none is wanted.
    """

    def __init__(
        self,
        labelled: Sequence[Sample],
        skeleton: Skeleton,
        spec: InputSpec,
        stride: int,
        augmentation: Augmentation,
        seed: int,
        unlabelled: Sequence[Sample] = (),
        large: tuple[int, int] | None = None,
    ) -> None:
        self._samples = [*labelled, *unlabelled]
        self._with_labels = len(labelled)
        self._skeleton = skeleton
        self._spec = spec
        self._to_heatmap = heatmap_from_crop(stride)
        self._augmentation = augmentation
        self._seed = seed
        self._large = large

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> _Views | DataError:
        """Each view's row of a Batch; of an image that cannot be read the error, which a worker
        process could not raise without losing its type."""
        epoch, index = key
        views = range(self._augmentation.views)
        try:
            return [self._make_row(self._crop(epoch, index, view), index) for view in views]
        except DataError as error:
            return error

    def _crop(self, epoch: int, index: int, view: int) -> TrainingCrop:
        words = [self._seed, epoch, index] + ([view] if view else [])
        rng = np.random.default_rng(words)
        sample = self._samples[index]
        return make_training_crop(
            sample, self._skeleton, self._spec, self._augmentation, rng, self._large
        )

    def _make_row(self, crop: TrainingCrop, index: int) -> tuple[NDArray[np.generic], ...]:
        labelled = index < self._with_labels
        return (
            crop.image,
            apply(self._to_heatmap, crop.xy).astype(np.float32),
            crop.weight * np.float32(labelled),
            crop.absent * np.float32(labelled),
            np.asarray(labelled),
            compose(self._to_heatmap, crop.transform).astype(np.float32),
            np.asarray(crop.mirrored),
            np.zeros(0, dtype=np.uint8) if crop.large is None else crop.large,
        )


class EpochBatches(Sampler[list[Key]]):
    """This process's share of every global batch of one epoch.

    All processes shuffle alike and cut each global batch into equal parts, so that the optimizer
    sees the same batches whatever number of processes divides the batch; one that does not makes
    it smaller by the rest. An incomplete last batch is left out,
    unless it is the only one.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._count, self._seed, self._rank, self._world = count, seed, rank, world
        whole = min(batch_size, count)
        if whole < world:
            raise RecipeError(
                f"{world} processes share a batch of {whole} persons",
                "start fewer processes, or raise optimizer.batch_size",
            )
        self._batch_size = whole - whole % world
        self.epoch = 0

    def __len__(self) -> int:
        return self._count // self._batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        share = self._batch_size // self._world
        for step in range(len(self)):
            start = step * self._batch_size + self._rank * share
            yield [(self.epoch, int(i)) for i in order[start : start + share]]


def build_loader(
    dataset: Dataset[_Views | DataError],
    batches: EpochBatches,
    workers: int,
    batch_type: type = Batch,
) -> DataLoader[_Views | DataError]:
    """Worker processes that decode and warp ahead of the optimizer.

    Args:
        batch_type: the named tuple whose columns the data set's rows hold.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collate, batch_type),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        # Its own: a draw from the global one would change what a resumed run draws.
        generator=torch.Generator(),
        # A fork would copy the locks of OpenCV's and OpenMP's threads, but not the threads.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker,
    )


def iterate_batches(loader: DataLoader[_Views | DataError]) -> Iterator[Batch]:
    """An epoch.

    Raises:
        DataError: an image cannot be read.
    """
    for batch in cast("Iterator[Batch | DataError]", iter(loader)):
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _collate(batch_type: type, items: list[_Views | DataError]) -> Any:
    persons: list[_Views] = []
    for item in items:
        if isinstance(item, DataError):
            return item
        persons.append(item)
    rows = [row for view in zip(*persons, strict=True) for row in view]
    return batch_type(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _start_worker(_: int) -> None:
    # One worker is one thread: OpenCV's own pool would fight the optimizer for the cores.
    cv2.setNumThreads(1)
