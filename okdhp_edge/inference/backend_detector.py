"""Person detection with a detector of this project, in any runtime."""

import numpy as np

from okdhp_edge.backends.base import Backend
from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.top_down import image_from_heatmap, letterbox_for
from okdhp_edge.pose.crop import apply
from okdhp_edge.pose.preprocess import Image

MIN_DETECTION_SCORE = 0.25
"""Score of a box from which a person is looked for in it; the joints found there decide whether
there is one."""


class BackendDetector:
    """A loaded detector. Use from one thread at a time.

    Args:
        backend: of a model whose card says `kind` detector; closed with the detector.
    """

    def __init__(self, backend: Backend, min_score: float = MIN_DETECTION_SCORE) -> None:
        self._backend = backend
        self._min_score = min_score
        self.name, self.backend_name = backend.card.name, backend.name

    def __call__(self, frame: Image) -> list[Detection]:
        """Persons, the surest first; boxes end at the image's borders."""
        card = self._backend.card
        crop = letterbox_for(card.input, frame)
        found = card.decoder.decode(self._backend.infer_all(crop.image[None]))
        corners = apply(
            image_from_heatmap(crop.crop_from_image, card.decoder.stride), found.xy_BK2[0]
        )
        inside = np.clip(corners, 0, frame.shape[1::-1]).reshape(-1, 4)
        return [
            Detection(np.concatenate([box[:2], box[2:] - box[:2]]), float(score))
            for box, score in zip(inside, found.score_BK[0, ::2], strict=True)
            if score >= self._min_score and (box[2:] > box[:2]).all()
        ]

    def close(self) -> None:
        """Release the model; safe to call twice."""
        self._backend.close()
