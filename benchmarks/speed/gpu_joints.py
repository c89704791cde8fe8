"""How far joints on the GPU lie from PyTorch's and from the same file's on the CPU (`gpu.py`).

python benchmarks/speed/gpu_joints.py MODEL_FOLDER KIND:PATH [ENGINES]
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.artifacts.model_store import find_artifact
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.load import load
from okdhp_edge.evaluation.evaluate import predict_joints

PERSONS = 64


def main() -> None:
    model, data, *engines = sys.argv[1:]
    rows = {}
    for name, backend, precision, engine in [
        ("pytorch", "pytorch", "fp32", None),
        ("cpu int8", "onnxruntime", "tensorrt", None),
        ("tensorrt fp32", "tensorrt", "fp32", None),
        ("tensorrt int8", "tensorrt", "int8", None),
        *[(path.stem, "tensorrt", "int8" if "int8" in path.stem else "fp32", path)
          for folder in engines
          for path in sorted(Path(folder).glob(f"{Path(model).name}-*.engine"))],
    ]:  # fmt: skip
        rows[name] = joints(Path(model), backend, precision, data, engine)
    print(json.dumps({
        name: {
            "from_pytorch_px": _distance(xy, rows["pytorch"]),
            "from_cpu_int8_px": _distance(xy, rows["cpu int8"]),
        }
        for name, xy in rows.items()
    }))  # fmt: skip


def joints(
    model: Path, backend: str, precision: str, data: str, engine: Path | None
) -> NDArray[np.float32]:
    """(N, K, 2) in picture pixels."""
    int8 = precision in ("int8", "tensorrt")
    folder = find_artifact(model, "tensorrt" if int8 else backend, "int8" if int8 else "fp32")
    card = read_card(folder)
    request = BackendConfig(folder, card, "int8" if int8 else "fp32", engine=engine,
                      trust_engine=engine is not None)  # fmt: skip
    poses = load(data, "val").with_skeleton(card.skeleton.skeleton())
    poses = poses.select_by_ids([s.id for s in poses.samples[:PERSONS]])
    with open_backend(backend, request) as loaded:
        return predict_joints(poses, card.input, card.decoder, predict_with(loaded))["model"]


def _distance(xy: NDArray[np.float32], other: NDArray[np.float32]) -> list[float]:
    """Median and 99th percentile."""
    distance = np.linalg.norm(xy - other, axis=-1)
    return [round(float(np.percentile(distance, p)), 3) for p in (50, 99)]


if __name__ == "__main__":
    main()
