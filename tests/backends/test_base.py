"""Batches of a fixed size, filled up and cut again."""

import numpy as np

from tests.helpers.fakes import FakeBackend, fake_card


class _Brightness(FakeBackend):
    """One heatmap pixel: how bright each crop is."""

    def __init__(self, batch):
        super().__init__(card=fake_card(batch=batch))
        self.batches = []

    def _infer(self, images_BHWC):
        self.batches.append(len(images_BHWC))
        return images_BHWC.mean(axis=(1, 2, 3), dtype=np.float32).reshape(-1, 1, 1, 1)


def _crops(*levels):
    return np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])


def test_the_last_batch_is_filled_up_and_what_fills_it_is_not_answered():
    backend = _Brightness(4)
    found = backend.infer_all(_crops(10, 20, 30, 40, 50, 60))
    assert found.ravel().tolist() == [10, 20, 30, 40, 50, 60]
    assert backend.batches == [4, 4]
    assert backend.infer_async(_crops(70, 80, 90))().heatmaps.ravel().tolist() == [70, 80, 90]
    assert backend.batches == [4, 4, 4]
    backend.close()
