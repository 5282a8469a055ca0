"""What every runtime offers: image bytes in, the network's outputs out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from samkr_edge.model_card import ModelCard


class Runner(Protocol):
    """One loaded network.

    ``kind`` is ``checkpoint``, ``onnx`` or ``engine``. Several threads may call ``run`` at once.

    Whatever runs no engine derives from this class, and thereby has no note and no clock.
    """

    card: ModelCard
    kind: str

    @property
    def graph_note(self) -> str | None:
        """Why a CUDA graph that was asked for is not there; None where it is."""
        return "only a TensorRT engine has one"

    @property
    def power_note(self) -> str | None:
        """What to know of a power mode other than that of the engine's building; None where there is nothing."""
        return None

    @property
    def last_run_ms(self) -> tuple[float, float, float] | None:
        """(copy in, network, copy out) of the calling thread's last ``run``, milliseconds by the device's clock.

        None where the runtime has no device with a clock of its own: a clock around the call is as good.
        """
        return None

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """uint8 (N, H, W, 3) RGB -> float32 arrays, those that ``card.outputs`` names.

        Heatmap (N, K+1, H/4, W/4) and offset (N, 2K, H/4, W/4), or with decoding in the graph poses and scores. The
        arrays are the caller's: no later run changes them, while another thread still decodes them for example. A
        runtime that has buffers of its own copies out of them, so that no caller needs to.
        """
        ...

    def close(self) -> None:
        """Give the runtime's memory back once the runs of other threads are done; again, it does nothing.

        Afterwards ``run`` raises ValueError.
        """
        ...
