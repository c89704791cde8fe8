"""The shipped INT8 files on processors that are not here, by emulation.

    make targets LSPET=PATH
    python benchmarks/accuracy/targets.py --lspet PATH [--models lite full]
        [--persons 100] [--only Haswell]

Needs root on Debian for the first run: it installs qemu-user-static, and puts a 64-bit ARM Python
and the published ARM wheels into `.targets/`. Each target runs the real wheels of the runtimes:

* `x86 AVX2`: Haswell, without VNNI: pairs of products are added in 16 bits;
* `x86 without AVX2`: Nehalem;
* `ARM A72`: a Raspberry Pi 4, no dot product; `ARM A76`: a Raspberry Pi 5, with it.

A row says how far joints lie from those of the float network (median, and the share beyond 2 px of
the picture) and the PCK@0.2 of the same persons of LSPET's `test`. Times mean nothing here. The
result goes to `results/targets.json`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import read_card
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.evaluation.evaluate import make_inference_crop, score
from okdhp_edge.pose.crop import apply
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.train.open_teacher import load_checkpoint
from okdhp_edge.train.validate import make_predictor

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
GUEST = HERE / "on_target.py"
FAR_PX = 2.0
# From 1.28 to 1.32 onnxruntime's cpuinfo reads /proc/cpuinfo and the caches from /sys at import.
# Under emulation the former is the host's, of another kind, and it follows a null pointer (qemu
# 7.2, any -cpu). With an ARM's /proc/cpuinfo 1.32.0 runs, in an emulated Debian as well.
ARM_ONNXRUNTIME = "onnxruntime==1.27.0"
ARM_TAGS = [f"manylinux_2_{glibc}_aarch64" for glibc in range(17, 37)] + ["manylinux2014_aarch64"]
ARM_DEBS = (
    "libbz2-1.0", "libc6", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgcc-s1", "libgomp1",
    "liblzma5", "libncursesw6", "libnsl2", "libpython3.11-minimal", "libpython3.11-stdlib",
    "libreadline8", "libsqlite3-0", "libssl3", "libstdc++6", "libtinfo6", "libtirpc3", "libuuid1",
    "python3.11", "python3.11-minimal", "zlib1g",
)  # fmt: skip


class Target(NamedTuple):
    """A processor and how a Python of ours is started on it."""

    name: str
    command: tuple[str, ...]
    runtimes: tuple[str, ...]
    packages: Path | None = None


def targets(work: Path) -> list[Target]:
    """All of them; the first is this machine."""
    both = ("openvino", "onnxruntime")
    arm = work / "arm64"
    python = (str(arm / "usr/bin/python3.11"),)
    emulated = ("qemu-x86_64-static", "-cpu")
    pi = ("qemu-aarch64-static", "-L", str(arm), "-cpu")
    return [
        Target("this CPU", (sys.executable,), both),
        Target("x86 AVX2 (Haswell)", (*emulated, "Haswell", sys.executable), both),
        Target("x86 without AVX2 (Nehalem)", (*emulated, "Nehalem", sys.executable), both),
        Target("ARM A72 (no dot product)", (*pi, "cortex-a72", *python), both, arm / "site"),
        Target("ARM A76 (dot product)", (*pi, "cortex-a76", *python), both, arm / "site"),
    ]


def set_up(work: Path) -> None:
    """The emulators, an ARM Python, its wheels; what is there already stays."""
    if not Path("/usr/bin/qemu-aarch64-static").is_file():
        _run("apt-get", "update", "--quiet")
        _run("apt-get", "install", "--yes", "--quiet", "qemu-user-static")
    root = work / "arm64"
    if not (root / "usr/bin/python3.11").is_file():
        _unpack_debian(root)
    if not (root / "site/onnxruntime").is_dir():
        _install_wheels(root / "site")


def _unpack_debian(root: Path) -> None:
    _run("dpkg", "--add-architecture", "arm64")
    _run("apt-get", "update", "--quiet")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as debs:
        _run("apt-get", "download", *(f"{name}:arm64" for name in ARM_DEBS), cwd=Path(debs))
        for deb in Path(debs).glob("*.deb"):
            _run("dpkg", "-x", str(deb), str(root))


def _install_wheels(site: Path) -> None:
    """What the package's wheel asks for on a device, with an older ONNX Runtime; the package's own
    code is then this checkout's."""
    with tempfile.TemporaryDirectory() as built:
        pip = (sys.executable, "-m", "pip")
        _run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", built, str(HERE.parents[1]))
        wheel = next(Path(built).glob("okdhp_edge-*.whl"))
        tags = [word for tag in ARM_TAGS for word in ("--platform", tag)]
        _run(*pip, "install", "--quiet", *tags, "--python-version", "3.11", "--implementation",
             "cp", "--only-binary=:all:", "--target", str(site),
             f"{wheel}[openvino]", ARM_ONNXRUNTIME)  # fmt: skip
    shutil.rmtree(site / "okdhp_edge")


def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdout=sys.stderr)


class Persons(NamedTuple):
    """What is evaluated, and how: crops, and the way back into the picture."""

    poses: PoseDataset
    images: NDArray[np.uint8]
    image_from_heatmap: list[NDArray[np.float64]]

    def in_picture(self, xy_NK2: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.stack([
            apply(back, xy) for back, xy in zip(self.image_from_heatmap, xy_NK2, strict=True)
        ]).astype(np.float32)  # fmt: skip


def persons(source: str, folder: Path, count: int) -> Persons:
    card = read_card(folder)
    poses = load(source, "test").with_skeleton(card.skeleton.skeleton())
    poses = replace(poses, samples=poses.samples[:count])
    crops = [make_inference_crop(s, card.input, card.decoder.stride) for s in poses.samples]
    return Persons(poses, np.stack([c.image for c in crops]), [c.image_from_heatmap for c in crops])


def joints_on(
    target: Target, folder: Path, runtime: str, precision: str, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """(N, K, 2) in heatmap pixels, and what ran.

    Raises:
        RuntimeError: the target could not run it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        crops, out = Path(scratch) / "crops.npz", Path(scratch) / "joints.npz"
        np.savez(crops, images=images)
        paths = [target.packages or Path(os.devnull), HERE.parents[1]]
        environment = os.environ | {"PYTHONPATH": ":".join(str(p.resolve()) for p in paths)}
        done = subprocess.run(
            [*target.command, str(GUEST), str(folder), runtime, precision, str(crops), str(out)],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise RuntimeError(f"exit {done.returncode}: {last[:200]}")
        return np.load(out)["xy"], json.loads(done.stdout.splitlines()[-1])


def row(
    target: Target, model: str, runtime: str, shown: Persons, reference: NDArray[np.float32]
) -> dict[str, Any]:
    """One line of the table."""
    record: dict[str, Any] = {"target": target.name, "model": model, "runtime": runtime}
    folder = model_store.find_artifact(model_store.resolve_model(model), runtime, "int8").resolve()
    try:
        xy, said = joints_on(target, folder, runtime, "int8", shown.images)
    except RuntimeError as error:
        if "BackendError" not in str(error):  # no word of the runtime about this CPU
            raise
        return record | {"failed": str(error)}
    found = shown.in_picture(xy)
    distance = np.linalg.norm(found - reference, axis=-1)
    metric = score(shown.poses, found, "pck@0.2").value
    before = score(shown.poses, reference, "pck@0.2").value
    return record | {
        "version": said["version"], "pck@0.2": round(metric, 2), "float": round(before, 2),
        "over_float": round(metric - before, 2), "median_px": round(float(np.median(distance)), 3),
        "far_share": round(float((distance > FAR_PX).mean()), 4),
    }  # fmt: skip


def float_joints(model: str, shown: Persons) -> NDArray[np.float32]:
    """The joints of the shipped float weights, in PyTorch on this CPU."""
    net, facts = load_checkpoint(model_store.resolve_weights(model))
    heatmaps = make_predictor(net, torch.device("cpu"))(shown.images)[f"branch{facts.best_branch}"]
    decoder, sigmas = facts.recipe.decoder_spec(), facts.skeleton.skeleton().sigmas
    return shown.in_picture(decoder.decode(heatmaps, sigmas).xy_BK2)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for model in options.models:
        first = model_store.find_artifact(model_store.resolve_model(model), "onnxruntime", "int8")
        shown = persons(f"lspet:{options.lspet}", first, options.persons)
        reference = float_joints(model, shown)
        for target in (t for t in targets(options.work) if options.only in t.name):
            for runtime in target.runtimes:
                rows.append(row(target, model, runtime, shown, reference))
                print(rows[-1], flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lspet", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["lite", "full"])
    parser.add_argument("--persons", type=int, default=100)
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / ".targets")
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--out", type=Path, default=RESULTS / "targets.json")
    parser.add_argument("--set-up", action="store_true", help="install the targets and stop")
    options = parser.parse_args(arguments)
    set_up(options.work)
    if options.set_up:
        return
    rows = measure(options)
    record = {
        "command": "python benchmarks/accuracy/targets.py --lspet PATH --models "
        f"{' '.join(options.models)} --persons {options.persons}"
        + (f" --only {options.only} --out {options.out.name}" if options.only else ""),
        "machine": describe_machine(), "persons": options.persons, "rows": rows,
    }  # fmt: skip
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
