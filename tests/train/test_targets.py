import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.heatmap import gaussians
from okdhp_edge.train.gaussian_targets import gaussian_targets


@given(x=st.floats(-3, 20), y=st.floats(-3, 14), sigma=st.sampled_from([0.8, 1.5, 3.0]))
def test_they_are_the_gaussians_that_are_decoded_elsewhere(x, y, sigma):
    xy = np.array([[x, y], [4.0, 5.5]], dtype=np.float32)
    drawn = gaussian_targets(torch.tensor(xy[None]), (12, 16), sigma)[0].numpy()
    np.testing.assert_allclose(drawn, gaussians(xy, (16, 12), sigma), atol=1e-5)
