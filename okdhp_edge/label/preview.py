"""A preview image of labelled persons, for inspection before training."""

from pathlib import Path

import cv2
import numpy as np

from okdhp_edge.data.coco import load_coco
from okdhp_edge.data.preview import draw_labelled_tile
from okdhp_edge.system.files import write_bytes

_NUM_COLUMNS, _NUM_ROWS, _TILE_PX = 8, 6, 160


def write_sheet(labels: Path, out: Path, seed: int) -> None:
    """Write up to 48 persons and empty boxes, drawn at random, as `out`.

    Raises:
        OutputError: the place cannot be written.
    """
    poses = load_coco(labels, "all")
    rng = np.random.default_rng(seed)
    count = min(_NUM_COLUMNS * _NUM_ROWS, len(poses))
    chosen = sorted(rng.choice(len(poses), size=count, replace=False))
    tiles = [draw_labelled_tile(poses, poses.samples[i], _TILE_PX) for i in chosen]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _NUM_COLUMNS)
    rows = [np.hstack(tiles[i : i + _NUM_COLUMNS]) for i in range(0, len(tiles), _NUM_COLUMNS)]
    write_bytes(out, cv2.imencode(out.suffix or ".png", np.vstack(rows))[1].tobytes())
