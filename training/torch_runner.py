"""Run a checkpoint, float or fake-quantized, behind the same interface as every other model."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch

from samkr_edge.model_card import ModelCard
from samkr_edge.runtime.runner import Runner
from training.checkpoint import load_checkpoint, network_of
from training.models.deploy import DeployNet
from training.models.pose_net import PoseNet


class TorchRunner(Runner):
    """See ``samkr_edge.runtime.runner.Runner``. Puts the network into eval mode.

    Args:
        network: float or fake-quantized.
        card: its card.
        device: to compute on; None: the network's own.

    One thread at a time runs the network: ModelOpt's modules keep in an attribute whether their weight is currently
    quantized, and a second thread would find it float.
    """

    kind = "checkpoint"

    def __init__(self, network: PoseNet, card: ModelCard, device: torch.device | None = None) -> None:
        self.card = card
        self._device = device or next(network.parameters()).device
        self._lock = threading.Lock()
        self._network: DeployNet | None = DeployNet(network).eval().to(self._device)

    @property
    def network(self) -> PoseNet:
        """The network; not to be changed. ValueError if it is closed."""
        with self._lock:
            return self._opened().net

    @torch.inference_mode()
    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """uint8 (N, H, W, 3) -> float32 maps (N, C, h, w), as ``card.maps`` names them."""
        with self._lock:
            heatmap, association = self._opened()(torch.from_numpy(batch).to(self._device))
            return heatmap.cpu().numpy(), association.cpu().numpy()

    def close(self) -> None:
        """See ``samkr_edge.runtime.runner.Runner``."""
        with self._lock:
            self._network = None

    def _opened(self) -> DeployNet:
        if self._network is None:
            raise ValueError("this model is closed")
        return self._network


def open_checkpoint(path: Path, threads: int) -> TorchRunner:
    """Open a .pt file, on the GPU where there is one; see ``samkr_edge.pose_model.OPENERS``."""
    torch.set_num_threads(threads)
    checkpoint = load_checkpoint(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TorchRunner(network_of(checkpoint), checkpoint.card, device)
