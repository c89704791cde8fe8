"""The export stage: checkpoint -> fp32/ with model.onnx, torch weights and card, or nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from okdhp_edge import __version__
from okdhp_edge.artifacts.card import (
    CARD_NAME,
    RANGES_FILE_NAME,
    MetricResult,
    ModelCard,
    compute_sha256,
    make_metadata,
    write_card,
)
from okdhp_edge.artifacts.model_store import mark_newest
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.pytorch import BRANCH_WEIGHTS_NAME
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.detection import load_for
from okdhp_edge.data.sample import PoseDataset, list_kinds
from okdhp_edge.evaluation.evaluate import choose_metric, evaluate, make_inference_crop
from okdhp_edge.export.learned_ranges import write_learned_ranges
from okdhp_edge.export.parity import check_parity, measure_joint_shift
from okdhp_edge.export.strip import choose_branch, make_branch_config, strip
from okdhp_edge.export.to_onnx import (
    copy_batch_in_reshapes,
    ensure_folded,
    set_metadata,
    simplify,
    write_onnx,
)
from okdhp_edge.inference.flip_test import Predict
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.recipe.checkpoint import (
    CheckpointInfo,
    load_net,
    read_info,
    wrap_tensor_errors,
)
from okdhp_edge.system.files import lock_folder, stage_folder
from okdhp_edge.system.progress import Report, ignore_progress

MODEL_FILE_NAME = "model.onnx"
_NUM_PARITY_CROPS = 32


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export.

    Attributes:
        out: folder of the model, `fp32/` is made in it.
        branch: `best` or a number.
        batch: fixed batch size, None leaves it free.
        data: KIND:PATH of the validation images; None takes the training run's.
        pytorch: whether the branch's PyTorch weights are kept beside the ONNX file, for
            `--backend pytorch`.
        box_padding: by how much boxes grow where the model is deployed; None: as in training.
        command: what the person typed, for the card.
    """

    out: Path
    branch: str = "best"
    batch: int | None = 1
    data: str | None = None
    simplify: bool = True
    pytorch: bool = True
    box_padding: float | None = None
    command: str = ""
    report: Report = ignore_progress


def export_branch(checkpoint: Path, options: ExportOptions) -> Path:
    """Export one branch; returns the folder with `model.onnx` and `card.json`.

    Raises:
        ModelError: the checkpoint is unusable.
        DataError: no validation images.
        GateError: the file does not compute what PyTorch does; no file is left.
    """
    with lock_folder(options.out):
        return _export_branch(checkpoint, options)


def _export_branch(checkpoint: Path, options: ExportOptions) -> Path:
    facts = read_info(checkpoint)
    val = load_for(facts.recipe.kind, options.data or facts.evaluation_data, "val").with_skeleton(
        facts.skeleton.skeleton()
    )
    branch = choose_branch(facts, options.branch)
    recipe = facts.recipe
    net = build_network(recipe.network, facts.channels, load_encoder=False)
    load_net(checkpoint, net)
    net.eval()
    single = strip(net, recipe.network, branch)
    target = options.out / "fp32"
    with stage_folder(target) as folder:
        options.report("export", 0, 3, f"branch {branch} to ONNX")
        file = folder / MODEL_FILE_NAME
        write_onnx(single, recipe.input_spec(), file, options.batch)
        simplified = options.simplify and simplify(file, options.batch)
        copy_batch_in_reshapes(file)
        ensure_folded(file)
        if options.pytorch:
            weights = folder / BRANCH_WEIGHTS_NAME
            with wrap_tensor_errors(weights):
                save_file(single.state_dict(), weights)
        if recipe.quantization and recipe.quantization.branch == branch:
            write_learned_ranges(checkpoint, recipe, net, file, folder / RANGES_FILE_NAME)
        card = _make_card(checkpoint, facts, branch, options, simplified=simplified)
        set_metadata(file, make_metadata(card))
        files = {p.name: compute_sha256(p) for p in sorted(folder.iterdir())}
        card = card.model_copy(update={"files": files})
        options.report("export", 1, 3, "parity with PyTorch")
        shift = _measure_parity(card, folder, single, val)
        metric = choose_metric(facts.metric, val)
        options.report("export", 2, 3, f"{metric} on val")
        measured = _measure(card, folder, val, metric)
        card = card.model_copy(update={"parity_px": shift, "metrics": (measured,)})
        write_card(card, folder)
    mark_newest(target / CARD_NAME)
    options.report("export", 3, 3, "done")
    return target


def _make_card(
    checkpoint: Path,
    facts: CheckpointInfo,
    branch: int,
    options: ExportOptions,
    *,
    simplified: bool,
) -> ModelCard:
    recipe = facts.recipe
    network = make_branch_config(recipe.network, branch).model_dump(mode="json")
    spec = recipe.input_spec()
    if options.box_padding is not None:
        spec = spec.model_copy(update={"box_padding": options.box_padding})
    return ModelCard(
        name=recipe.name, format="onnx", profile="float", precision="fp32",
        input=spec, decoder=recipe.decoder_spec(branch), skeleton=facts.skeleton,
        files={}, model_file=MODEL_FILE_NAME, branch=branch, batch=options.batch,
        parent_sha256=compute_sha256(checkpoint), training_data=list_kinds(facts.data),
        terms=recipe.terms, simplified=simplified,
        network=network if options.pytorch else None,
        command=options.command, version=__version__,
    )  # fmt: skip


def _measure_parity(card: ModelCard, folder: Path, single: nn.Module, val: PoseDataset) -> float:
    samples = val.samples[:: max(1, len(val) // _NUM_PARITY_CROPS)][:_NUM_PARITY_CROPS]
    crops = np.stack(
        [make_inference_crop(s, card.input, card.decoder.stride).image for s in samples]
    )
    with open_backend("onnxruntime", BackendConfig(folder, card, "fp32")) as backend:
        shift = measure_joint_shift(
            _make_torch_predictor(single), predict_with(backend), crops, card.decoder
        )
    check_parity(shift)
    return shift


def _make_torch_predictor(single: nn.Module) -> Predict:
    def predict(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        with torch.inference_mode():
            return {"model": single(torch.from_numpy(images_BHWC)).numpy()}

    return predict


def _measure(card: ModelCard, folder: Path, val: PoseDataset, metric: str) -> MetricResult:
    with open_backend("onnxruntime", BackendConfig(folder, card, "fp32")) as backend:
        found = evaluate(val, card.input, card.decoder, predict_with(backend), metric)["model"]
    return MetricResult(
        metric=metric, data=list_kinds(val.source), split=val.split, persons=found.persons,
        value=found.value, low=found.low, high=found.high,
    )  # fmt: skip
