"""Crops and targets for the optimiser, the same for every process count and every resume."""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from okdhp_edge.card import DecoderSpec, InputSpec
from okdhp_edge.data.augment import Augmentation, training_crop
from okdhp_edge.data.sample import PoseSet
from okdhp_edge.pose.crop import apply, heatmap_from_crop
from okdhp_edge.pose.heatmap import gaussians

Key = tuple[int, int]
"""Epoch and sample index."""


class Batch(NamedTuple):
    """Attributes: image (B, H, W, 3) uint8 BGR; target (B, K, h, w) of peak 1; weight (B, K)."""

    image: Tensor
    target: Tensor
    weight: Tensor


class CropDataset(Dataset[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]):
    """Augmented crops; what (epoch, index) gives is a function of the seed alone."""

    def __init__(
        self,
        poses: PoseSet,
        spec: InputSpec,
        decoder: DecoderSpec,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._poses = poses
        self._spec = spec
        self._decoder = decoder
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(
        self, key: Key
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index])
        crop = training_crop(
            self._poses.samples[index],
            self._poses.skeleton,
            self._spec,
            self._augmentation,
            rng,
        )
        stride = self._decoder.stride
        size = (self._spec.width // stride, self._spec.height // stride)
        xy = apply(heatmap_from_crop(stride), crop.xy)
        return crop.image, gaussians(xy, size, self._decoder.sigma), crop.weight


class EpochBatches(Sampler[list[Key]]):
    """This process's share of every global batch of one epoch.

    All processes shuffle alike and cut each global batch into equal parts, so that the optimiser
    sees the same batches whatever the number of processes. An incomplete last batch is left out,
    unless it is the only one.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._count, self._seed, self._rank, self._world = count, seed, rank, world
        whole = min(batch_size, count)
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
    dataset: CropDataset, batches: EpochBatches, workers: int
) -> DataLoader[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]:
    """Worker processes that decode, warp and draw targets ahead of the optimiser."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        # A fork would copy the locks of OpenCV's and OpenMP's threads, but not the threads.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker,
    )


def _collate(
    items: list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]],
) -> Batch:
    images, targets, weights = zip(*items, strict=True)
    return Batch(*(torch.from_numpy(np.stack(part)) for part in (images, targets, weights)))


def _start_worker(_: int) -> None:
    # One worker is one thread: OpenCV's own pool would fight the optimiser for the cores.
    cv2.setNumThreads(1)
