"""Evaluate every branch and the ensemble on the validation split, and their agreement."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.evaluation.evaluate import predict_with_scores, score
from okdhp_edge.network.branches import BranchOutputs, PoseNet, eval_mode
from okdhp_edge.network.fake_quant import QuantizedBranch
from okdhp_edge.pose.heatmap import Heatmaps

_ENSEMBLE_NAME, INT8_NAME = "ensemble", "int8"
# Joints closer than this share of the person's box count as the same place.
_MAX_AGREEMENT_DISTANCE = 0.05


class Validation(NamedTuple):
    """One pass over the validation split.

    Attributes:
        scores: the metric in points by output: branch0, branch1, ..., ensemble, int8.
        agreement: share of labelled joints that all branches put in the same place; high means
            that they are nearly one function and have little to teach each other.
        ensemble_gain: points of the ensemble above the best branch.
    """

    scores: dict[str, float]
    agreement: float
    ensemble_gain: float


def validate(
    net: PoseNet,
    poses: PoseDataset,
    spec: InputSpec,
    decoder: DecoderSpec,
    metric: str,
    progress: Callable[[int], None],
    int8: QuantizedBranch | None = None,
) -> Validation:
    """Evaluate all outputs of a network in one pass, and its branch in INT8 where there is one."""
    device = next(net.parameters()).device
    predict = make_predictor(net, device, int8)
    found = predict_with_scores(poses, spec, decoder, predict, progress=progress)
    scores = {n: score(poses, d.xy_BK2, metric, d.score_BK).value for n, d in found.items()}
    branches = {name: d.xy_BK2 for name, d in found.items() if name.startswith("branch")}
    best = max(scores[name] for name in branches)
    # A detector's boxes have no order in which branches could be compared.
    boxes = decoder.kind.finds_persons
    agreement = float("nan") if boxes else compute_agreement(poses, branches)
    return Validation(scores, agreement, scores[_ENSEMBLE_NAME] - best)


def compute_agreement(poses: PoseDataset, branches: Mapping[str, NDArray[np.float32]]) -> float:
    """Share of labelled joints on which all branches lie within 5 % of the box of their mean."""
    xy_TNK2 = np.stack(list(branches.values()))
    labelled = np.stack([s.labelled for s in poses.samples])
    side_N1 = np.array([s.box[2:].max() for s in poses.samples])[:, None]
    distance_TNK = np.linalg.norm(xy_TNK2 - xy_TNK2.mean(axis=0), axis=-1)
    together = (distance_TNK <= _MAX_AGREEMENT_DISTANCE * side_N1).all(axis=0)
    return float(together[labelled].mean())


def make_predictor(
    net: PoseNet, device: torch.device, int8: QuantizedBranch | None = None
) -> Callable[[NDArray[np.uint8]], dict[str, Heatmaps]]:
    """A predict function that gives every branch's last heatmaps and the ensemble."""

    def predict(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        with eval_mode(net), torch.inference_mode():
            images = torch.from_numpy(images_BHWC).to(device)
            outputs: BranchOutputs = net(images)
            quantized = {} if int8 is None else {INT8_NAME: int8(images)}
        named = {f"branch{i}": outputs.last(i) for i in range(len(outputs.branches))}
        named |= {_ENSEMBLE_NAME: outputs.ensemble, **quantized}
        return {name: h.float().cpu().numpy() for name, h in named.items()}

    return predict
