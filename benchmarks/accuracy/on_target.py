"""What `targets.py` runs on a target: crops in, joints out. Needs the package and one runtime.

python benchmarks/accuracy/on_target.py FOLDER RUNTIME PRECISION crops.npz joints.npz
"""

import json
import sys
from pathlib import Path

import numpy as np

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.system.hardware import detect_int8_units


def main() -> None:
    folder, runtime, precision, crops, out = sys.argv[1:]
    card = read_card(Path(folder))
    images = np.load(crops)["images"]
    # As emulated processors do not count cores as real ones do, one thread everywhere.
    with open_backend(runtime, BackendConfig(Path(folder), card, precision, 1)) as backend:
        heatmaps = np.concatenate([backend.infer(image[None]) for image in images])
        said = backend.describe().to_dict() | {"units": detect_int8_units()}
    decoded = card.decoder.decode(heatmaps, card.skeleton.skeleton().sigmas)
    np.savez(out, xy=decoded.xy_BK2, score=decoded.score_BK)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
