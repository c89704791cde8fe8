import numpy as np

from okdhp_edge.inference.flip_test import add_flip_test
from okdhp_edge.pose.skeleton import Skeleton

HANDS = Skeleton("hands", ("left_hand", "right_hand", "nose"))


def test_the_flip_test_is_the_mean_of_both_looks():
    """Heatmaps that are the image itself, brighter by 100 with each joint."""

    def predict(images_BHWC):
        grey = images_BHWC[:, None, :, :, 0].astype(np.float32)
        return {"model": np.concatenate([grey, grey + 100, grey + 200], axis=1)}

    images = np.zeros((1, 1, 2, 3), np.uint8)
    images[0, 0, :, 0] = [10, 50]
    found = add_flip_test(predict, HANDS)(images)["model"]
    # Mirrored, back again and with exchanged sides: left [110, 150], right [10, 50].
    assert found[0, :, 0].tolist() == [[60, 100], [60, 100], [210, 250]]
