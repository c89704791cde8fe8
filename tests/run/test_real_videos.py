"""The shipped model on real videos, every option that changes what is found."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from okdhp_edge import stream

pytestmark = pytest.mark.slow
OPTIONS = {"model": "lite", "backend": "openvino", "precision": "int8", "threads": 1}


@pytest.mark.parametrize("name", ["pose2sim_single_cam03", "sports2d_demo"])
def test_one_person_is_followed_without_jumping(real_data, name):
    video = str(real_data / "video" / f"{name}.mp4")
    found = [poses for _, poses in stream(video, smooth=True, **OPTIONS)]
    # At the end of one a jumper lands far away, beside a tree.
    assert sum(map(bool, found)) > 0.88 * len(found)
    poses = [p[0] for p in found if p]
    steps = [
        float(np.median(np.linalg.norm(b.xy - a.xy, axis=1))) / max(a.size, 1.0)
        for a, b in pairwise(poses)
    ]
    assert np.quantile(steps, 0.9) < 0.2


def test_several_people_keep_their_ids(real_data):
    video = str(real_data / "video" / "pose2sim_multi_cam01.mp4")
    detector = real_data / "models" / "yolox_nano.onnx"
    found = [p for _, p in stream(video, people="many", detector=detector, **OPTIONS)]
    seen = Counter(pose.id for poses in found for pose in poses)
    assert max(map(len, found)) >= 2
    assert seen[1] > 0.8 * len(found)  # the woman in front, all through
    assert len(seen) <= 6
    for poses in found:
        centres = [p.xy.mean(axis=0) for p in poses]
        for i, a in enumerate(centres):
            assert all(np.linalg.norm(a - b) > 50 for b in centres[i + 1 :])
