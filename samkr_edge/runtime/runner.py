"""What every runtime offers: image bytes in, the network's outputs out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from samkr_edge.model_card import ModelCard


class Runner(Protocol):
    """One loaded network.

    ``kind`` is ``checkpoint``, ``onnx`` or ``engine``. Several threads may call :meth:`run` at once.
    """

    card: ModelCard
    kind: str

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """uint8 (N, H, W, 3) RGB -> float32 arrays, those that ``card.outputs`` names.

        Heatmap (N, K+1, H/4, W/4) and offset (N, 2K, H/4, W/4), or with decoding in the graph poses and scores. The
        arrays are the caller's: a later run, while another thread still decodes them, does not change them.
        """
        ...

    def close(self) -> None:
        """Give the runtime's memory back once the runs of other threads are done; again, it does nothing.

        Afterwards :meth:`run` raises ValueError.
        """
        ...
