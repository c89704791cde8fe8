"""PyTorch itself: the reference the other runtimes are compared with."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file

from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo
from okdhp_edge.errors import BackendError
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import NetworkConfig
from okdhp_edge.pose.heatmap import Heatmaps

BRANCH_WEIGHTS_NAME = "branch.safetensors"


class PyTorchBackend(Backend):
    """Runs the stripped branch's own weights, on the CPU or the first CUDA device."""

    name = "pytorch"

    def __init__(self, request: BackendConfig) -> None:
        super().__init__(request)
        weights = request.folder / BRANCH_WEIGHTS_NAME
        if request.card.network is None or not weights.is_file():
            raise BackendError(
                f"no PyTorch weights in {request.folder}",
                "use the fp32 folder of an export without --no-pytorch, or another --backend",
            )
        if request.threads:
            torch.set_num_threads(request.threads)
        try:
            config = TypeAdapter(NetworkConfig).validate_python(request.card.network)
            net = SingleBranch(build_network(config, request.card.channels, load_encoder=False), 0)
            net.load_state_dict(load_file(weights))
        except (ValueError, RuntimeError, SafetensorError) as error:
            raise BackendError(
                f"{weights} does not match its model card ({str(error)[:160]})",
                "export the model again",
            ) from error
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # On by default for convolutions, and no FP32: 10 bits of mantissa.
        torch.backends.cudnn.allow_tf32 = False
        self._net: Any = net.eval().to(self._device)

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        with torch.inference_mode():
            heatmaps = self._net(torch.from_numpy(images_BHWC).to(self._device))
        return np.array(heatmaps.float().cpu().numpy(), order="C")

    def close(self) -> None:
        """Release the network."""
        super().close()
        self._net = None

    def describe(self) -> BackendInfo:
        """The runtime, version, device, precision and threads that really run."""
        threads = torch.get_num_threads()
        return BackendInfo(self.name, torch.__version__, str(self._device), "fp32", threads)
