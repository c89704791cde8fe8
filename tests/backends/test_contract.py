"""One suite over every backend that this machine can run."""

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.artifacts.model_store import find_artifact
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import REGISTRY, is_installed, open_backend
from okdhp_edge.data.load import load
from okdhp_edge.errors import BackendError
from okdhp_edge.evaluation.evaluate import make_inference_crop
from okdhp_edge.pose.heatmap import decode


def _gpu():
    """Whether TensorRT has a device to run on; without one tests/backends/test_tensorrt.py is all
    that can be run of it."""
    from okdhp_edge.backends.tensorrt import get_first_device

    try:
        return is_installed("tensorrt") and bool(get_first_device())
    except (BackendError, ImportError):
        return False


CASES = [
    (name, precision)
    for name, runtime in REGISTRY.items()
    for precision in runtime.precisions
    if not runtime.needs_gpu or _gpu()
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def loaded(request, quantized):
    name, precision = request.param
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    folder = find_artifact(quantized.parent, name, precision)
    try:
        backend = open_backend(
            name,
            BackendConfig(
                folder, read_card(folder), precision, threads=None if name == "tensorrt" else 1
            ),
        )
    except BackendError as error:
        if precision == "bf16":
            pytest.skip(f"this CPU does not run bf16: {error.cause}")
        if cv2.__version__ < "5" and name == "opencv":
            pytest.skip(
                "OpenCV 4 reads no files with uint8 input: pip install -U opencv-python-headless"
            )
        raise
    with backend:
        yield backend


def _pictures(count=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)


def test_shape_dtype_and_repeatability(loaded):
    a, b = loaded.infer(_pictures()), loaded.infer(_pictures())
    assert a.shape == (1, 14, 16, 16)
    assert a.dtype == np.float32
    np.testing.assert_array_equal(a, b)


def test_a_result_is_not_overwritten_by_the_next_call(loaded):
    first = loaded.infer(_pictures(seed=1))
    kept = first.copy()
    loaded.infer(_pictures(seed=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 32, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32),
     np.zeros((2, 64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)],
    ids=["size", "dtype", "batch", "rank"],
)  # fmt: skip
def test_a_wrong_input_is_refused_with_the_right_shape(loaded, wrong):
    with pytest.raises(BackendError, match=r"takes uint8 \(1, 64, 64, 3\)"):
        loaded.infer(wrong)


def test_a_batch_under_way_gives_what_it_would_at_once_and_others_may_run_beside(loaded):
    pictures = [_pictures(seed=seed) for seed in range(6)]
    at_once = [loaded.infer(picture) for picture in pictures]
    for picture, expected in zip(pictures, at_once, strict=True):
        began_ns = time.perf_counter_ns()
        wait = loaded.infer_async(picture)
        np.testing.assert_array_equal(loaded.infer(pictures[0]), at_once[0])
        heatmaps, done_ns = wait()
        np.testing.assert_array_equal(heatmaps, expected)
        assert began_ns < done_ns <= time.perf_counter_ns()
    with pytest.raises(BackendError, match="takes uint8"):
        loaded.infer_async(np.zeros((1, 32, 64, 3), np.uint8))


def test_closed_is_closed(loaded):
    loaded.close()
    loaded.close()
    for call in (loaded.infer, loaded.infer_all, loaded.infer_async):
        with pytest.raises(BackendError, match="closed"):
            call(_pictures())


def test_closing_lets_go_of_the_network(loaded):
    names = {"_session", "_net", "_compiled", "_engine"} & vars(loaded).keys()
    assert names
    loaded.close()
    assert not any(vars(loaded)[name] for name in names)


def test_it_says_what_really_runs(loaded):
    description = loaded.describe()
    assert description.backend == loaded.name
    assert description.version
    assert description.precision


def test_heatmaps_agree_with_pytorchs(loaded, exported):
    """Float joints within a hundredth of a pixel; bf16 and int8 maps of the same shape.

    The tiny model's peaks are too flat for int8 joints to mean anything; what INT8 costs in joints
    is measured, with a gate, on every real model.
    """
    decoder = loaded.card.decoder
    samples = load("synthetic:96", "val").samples
    crops = np.stack(
        [make_inference_crop(s, loaded.card.input, decoder.stride).image for s in samples]
    )
    with open_backend(
        "pytorch", BackendConfig(exported, read_card(exported), "fp32")
    ) as torch_backend:
        truth = predict_with(torch_backend)(crops)["model"]
    found = predict_with(loaded)(crops)["model"]
    if loaded.describe().precision.startswith("fp32"):
        a, b = (decode(h, decoder.kind, decoder.sigma).xy_BK2 for h in (truth, found))
        assert np.quantile(np.linalg.norm(a - b, axis=-1), 0.95) < 0.01
    else:
        assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("count", [1, 3, 8, 13])
def test_any_number_of_crops_gives_what_each_gives_alone(loaded, count):
    crops = _pictures(count, seed=4)
    together = loaded.infer_all(crops)
    alone = np.concatenate([loaded.infer(crops[i : i + 1]) for i in range(count)])
    assert together.shape == alone.shape
    # Other sums in another order: a few units in the last place, which bf16 has few of.
    spread = 0.05 if loaded.describe().precision.startswith("bf16") else 1e-3
    assert np.abs(together - alone).max() < spread * np.abs(alone).max()


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (5, 32, 64, 3), (64, 64, 3)])
def test_wrong_crops_are_refused_in_any_number(loaded, shape):
    with pytest.raises(BackendError, match=r"takes uint8 \(any, 64, 64, 3\)"):
        loaded.infer_all(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("name", sorted({name for name, precision in CASES if precision == "int8"}))
def test_between_two_inferences_the_cores_are_free_for_others(quantized, name):
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    folder = find_artifact(quantized.parent, name, "int8")
    with open_backend(name, BackendConfig(folder, read_card(folder), "int8", threads=2)) as backend:
        assert min(_busy_after_inference(backend) for _ in range(10)) < 0.25


def _busy_after_inference(backend, pause_s=0.01):
    """Share of a pause in which threads of this process run."""
    backend.infer(_pictures())
    before = time.process_time()
    time.sleep(pause_s)
    return (time.process_time() - before) / pause_s


def test_ctrl_c_still_works_after_two_openvino_models_were_closed(quantized):
    """In a process of its own: a failure is a segmentation fault."""
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\n"
        "from okdhp_edge.backends.base import BackendConfig\n"
        "from okdhp_edge.backends.registry import open_backend\n"
        "from okdhp_edge.artifacts.card import read_card\n"
        "folder = Path(sys.argv[1])\n"
        "request = BackendConfig(folder, read_card(folder), 'fp32')\n"
        "for backend in [open_backend('openvino', request) for _ in range(2)]: backend.close()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    folder = str(quantized.parent / "fp32")
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted")
