"""What reads files from strangers: a valid file of each kind, and what reads it."""

import json
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import cv2
import numpy as np
import torch

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.engine import Sidecar
from okdhp_edge.backends.engine import _read_sidecar as read_sidecar
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.check import check
from okdhp_edge.data.corrections import apply_corrections, read_corrections
from okdhp_edge.data.image_file import read_image
from okdhp_edge.data.load import load, read_annotations
from okdhp_edge.evaluation.average_precision import average_precision, read_results
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.inference.person_detector import PersonDetector
from okdhp_edge.network.build import build_network
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.recipe import read_recipe
from okdhp_edge.report.compare import compare_reports, read_report
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.run.sources.raw import RawSource
from okdhp_edge.run.web.hub import Hub
from okdhp_edge.run.web.server import WebServer, parse_address
from tests.helpers.fakes import ScriptedSource
from tests.helpers.made_crowd import crowd_files
from tests.helpers.made_data import coco_file, lspet_folder
from tests.helpers.made_detector import constant_detector, yolox_rows
from tests.helpers.made_teacher import dot_teacher
from tests.helpers.running import run_on

_FRAMES = 20
_GREY = np.full((64, 64, 3), 90, np.uint8)


class Target(NamedTuple):
    """A kind of file.

    Attributes:
        name: told in counts.
        file: the one that is broken, within the target's folder.
        read: called with a folder that holds a broken copy.
    """

    name: str
    file: str
    read: Callable[[Path], None]


def _whole_set(source: str) -> None:
    poses = read_annotations(source, "all")
    check(poses, lambda _: None)
    for sample in load(source, "all").samples[:4]:
        sample.image.read()


def _recipe(folder: Path) -> None:
    recipe = read_recipe(folder / "recipe.toml")
    recipe.input_spec()
    recipe.decoder_spec()


def _checkpoint(folder: Path) -> None:
    path = folder / "best.safetensors"
    facts = checkpoint.read_info(path)
    net = build_network(facts.recipe.network, len(facts.skeleton.joints), load_encoder=False)
    checkpoint.load_net(path, net)


def _artifact(folder: Path) -> None:
    card = read_card(folder)
    with open_backend("onnxruntime", BackendConfig(folder, card, "fp32", 1)) as backend:
        backend.infer(np.zeros((1, card.input.height, card.input.width, 3), np.uint8))


def _frames(folder: Path) -> None:
    source = open_source(str(folder / "video.avi"))
    try:
        for _ in range(_FRAMES):
            if source.read() is None:
                return
    finally:
        source.close()


def _pictures(folder: Path) -> None:
    read_image(next(folder.glob("picture.*")))


def _teacher(folder: Path) -> None:
    ExternalPoseModel(folder / "teacher.onnx", 1).predict(_GREY, np.array([5.0, 5.0, 40.0, 40.0]))


def _detector(folder: Path) -> None:
    PersonDetector(folder / "detector.onnx")(_GREY)


def _report(folder: Path) -> None:
    compare_reports([read_report(folder / "report.json")] * 2)


def _corrections(folder: Path) -> None:
    apply_corrections(load("synthetic:4", "train"), read_corrections(folder / "corrections.json"))


def _results(folder: Path) -> None:
    poses = read_annotations(f"coco:{folder / 'annotations.json'}", "all")
    average_precision(poses, read_results(folder / "results.json"))


def _standard_input(folder: Path) -> None:
    with (folder / "frames.raw").open("rb", buffering=0) as stream:
        source = RawSource(stream, (64, 48), None)
        while source.read() is not None:
            pass


def _request(folder: Path) -> None:
    """Whatever a client sends, the page is there for the next one."""
    with WebServer(Hub(Controls(), ["cam"]), parse_address("0")) as server:
        here = ("127.0.0.1", server.address.port)
        with socket.create_connection(here, timeout=5) as client, suppress(OSError):
            client.sendall((folder / "request.bin").read_bytes())
            client.shutdown(socket.SHUT_WR)
            client.recv(1 << 16)
        with urlopen(f"http://127.0.0.1:{here[1]}/healthz", timeout=5) as answer:
            assert answer.status == 200


def _sidecar(folder: Path) -> None:
    read_sidecar(folder / "engine")


TARGETS = (
    Target("recipe", "recipe.toml", _recipe),
    Target("checkpoint", "best.safetensors", _checkpoint),
    Target("card", "card.json", _artifact),
    Target("onnx artifact", "model.onnx", _artifact),
    Target("coco", "fish.json", lambda d: _whole_set(f"coco:{d / 'fish.json'}")),
    Target("coco picture", "images/a.jpg", lambda d: _whole_set(f"coco:{d / 'fish.json'}")),
    Target("mpii", "mpii.json", lambda d: _whole_set(f"mpii:{d / 'mpii.json'}")),
    Target("yolo description", "data.yaml", lambda d: _whole_set(f"yolo:{d / 'data.yaml'}")),
    Target("yolo labels", "labels/a.txt", lambda d: _whole_set(f"yolo:{d / 'data.yaml'}")),
    Target("lspet joints", "joints.mat", lambda d: _whole_set(f"lspet:{d}")),
    Target("lspet list", "splits/train.txt", lambda d: load(f"lspet:{d}", "train")),
    Target("corrections", "corrections.json", _corrections),
    Target("coco results", "results.json", _results),
    Target("report", "report.json", _report),
    Target("teacher", "teacher.onnx", _teacher),
    Target("teacher description", "teacher.toml", _teacher),
    Target("detector", "detector.onnx", _detector),
    Target("jpeg", "picture.jpg", _pictures),
    Target("png", "picture.png", _pictures),
    Target("webp", "picture.webp", _pictures),
    Target("tiff", "picture.tif", _pictures),
    Target("video", "video.avi", _frames),
    Target("engine sidecar", "engine.json", _sidecar),
    Target("standard input", "frames.raw", _standard_input),
    Target("request", "request.bin", _request),
)


def make_valid(folder: Path, exported: Path, trained: Path) -> dict[str, Path]:
    """A folder for each target with valid files; returns them by name."""
    made: dict[str, Path] = {}
    for target in TARGETS:
        place = folder / target.name.replace(" ", "-")
        place.mkdir(parents=True)
        made[target.name] = place
    write_recipe(made["recipe"] / "recipe.toml")
    shutil.copy(trained, made["checkpoint"] / "best.safetensors")
    for name in ("card", "onnx artifact"):
        for file in exported.iterdir():
            if file.is_file():
                shutil.copy(file, made[name] / file.name)
    for name in ("coco", "coco picture"):
        coco_file(made[name])
    person = {
        "image": "a.jpg", "joints": [[10.0 + k, 20.0 + k] for k in range(16)],
        "joints_vis": [1] * 16, "center": [40.0, 40.0], "scale": 0.4,
    }  # fmt: skip
    _grey(made["mpii"] / "images" / "a.jpg")
    (made["mpii"] / "mpii.json").write_text(json.dumps([person, person]))
    for name in ("yolo description", "yolo labels"):
        _grey(made[name] / "images" / "a.jpg")
        (made[name] / "labels").mkdir()
        (made[name] / "labels" / "a.txt").write_text(
            "0 0.5 0.5 0.6 0.6 0.4 0.4 2 0.6 0.6 2 0.5 0.5 1\n" * 3
        )
        (made[name] / "data.yaml").write_text(
            "path: .\ntrain: images\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: {0: person}\n"
        )
    for name in ("lspet joints", "lspet list"):
        lspet_folder(made[name])
    ids = [s.id for s in load("synthetic:4", "train").samples]
    (made["corrections"] / "corrections.json").write_text(json.dumps({
        "data": "synthetic, train", "model": "m", "swapped": ids[:1],
        "unlabelled": {ids[1]: ["left_knee"]}, "moved": {ids[2]: {"left_knee": [3.0, 4.0]}},
    }))  # fmt: skip
    crowd_files(made["coco results"])
    report = run_on([ScriptedSource(60)])[0].with_samples()
    (made["report"] / "report.json").write_text(json.dumps(report))
    for name in ("teacher", "teacher description"):
        dot_teacher(made[name] / "teacher.onnx")
    constant_detector(made["detector"] / "detector.onnx", yolox_rows([(20, 20, 10, 30, 0.9, 0)]))
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for name, suffix in (("jpeg", "jpg"), ("png", "png"), ("webp", "webp"), ("tiff", "tif")):
        cv2.imwrite(str(made[name] / f"picture.{suffix}"), picture)
    writer = cv2.VideoWriter(
        str(made["video"] / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
    )
    for _ in range(_FRAMES):
        writer.write(picture)
    writer.release()
    (made["engine sidecar"] / "engine").write_bytes(b"plan")
    (made["standard input"] / "frames.raw").write_bytes(bytes(64 * 48 * 3 * 2))
    body = b'{"threshold": 0.4}'
    (made["request"] / "request.bin").write_bytes(
        b"POST /control HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    (made["engine sidecar"] / "engine.json").write_text(_made_sidecar())
    return made


def _made_sidecar() -> str:
    schema = Sidecar.model_json_schema()
    values = {"string": "x", "integer": 1, "array": ["x"], "number": 1.0, "boolean": True}
    return json.dumps({k: values.get(v.get("type")) for k, v in schema["properties"].items()})


def _grey(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((90, 120, 3), 90, np.uint8))


def write_recipe(path: Path) -> None:
    """Every table of a recipe, so that every key can be broken."""
    from okdhp_edge.artifacts import model_store

    text = (model_store.MODELS / "lite" / "recipe.toml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")


torch.set_num_threads(1)
cv2.setNumThreads(1)
