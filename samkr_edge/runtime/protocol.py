"""What every runtime offers: image bytes in, heatmaps and offsets out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from samkr_edge.model_card import ModelCard


class Runner(Protocol):
    """One loaded network.

    ``kind`` is ``checkpoint``, ``onnx`` or ``engine``.
    """

    card: ModelCard
    kind: str

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (N, H, W, 3) RGB -> heatmap float32 (N, K+1, H/4, W/4), offset float32 (N, 2K, H/4, W/4)."""
        ...

    def close(self) -> None:
        """Give the runtime's memory back; the runner must not be used afterwards."""
        ...
