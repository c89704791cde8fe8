"""A picture of what was labelled, to look at before it is trained on."""

from pathlib import Path

import cv2
import numpy as np

from okdhp_edge.data.coco import load_coco
from okdhp_edge.data.preview import labelled_tile
from okdhp_edge.system.files import write_bytes

_COLUMNS, _ROWS, _SIDE = 8, 6, 160


def write_sheet(labels: Path, out: Path, seed: int) -> None:
    """Write up to 48 persons and empty boxes, drawn at random, as `out`.

    Raises:
        OutputError: the place cannot be written.
    """
    poses = load_coco(labels, "all")
    rng = np.random.default_rng(seed)
    count = min(_COLUMNS * _ROWS, len(poses))
    chosen = sorted(rng.choice(len(poses), size=count, replace=False))
    tiles = [labelled_tile(poses, poses.samples[i], _SIDE) for i in chosen]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    write_bytes(out, cv2.imencode(out.suffix or ".png", np.vstack(rows))[1].tobytes())
