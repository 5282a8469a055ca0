"""The interface of every runtime: image bytes in, the network's outputs out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from samkr_edge.model_card import ModelCard


class Runner(Protocol):
    """One loaded network.

    ``kind`` is ``checkpoint``, ``onnx`` or ``engine``. Several threads may call ``run`` at once.

    Runners of anything but engines derive from this class, and so have no notes and no clock.
    """

    card: ModelCard
    kind: str

    @property
    def graph_note(self) -> str | None:
        """Why there is no CUDA graph although one was requested; None where there is one."""
        return "only a TensorRT engine has one"

    @property
    def power_note(self) -> str | None:
        """A warning if the power mode is not the one that the engine was built in; else None."""
        return None

    @property
    def batch(self) -> int:
        """Inputs that the network takes at a time; ``run`` cuts and pads to it."""
        return 1

    @property
    def last_run_ms(self) -> tuple[float, float, float] | None:
        """(copy in, network, copy out) of the calling thread's last ``run``, milliseconds by the device's clock.

        None where the device has no clock of its own: timing the call is as good.
        """
        return None

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """uint8 (N, H, W, 3) RGB -> float32 arrays, those that ``card.outputs`` names.

        The maps (N, C, h, w), or with decoding in the graph poses and scores. The
        arrays belong to the caller: no later run changes them, even while another thread still decodes them. A
        runtime with buffers of its own copies out of them, so that no caller has to.
        """
        ...

    def close(self) -> None:
        """Free the runtime's memory once the runs of other threads are done; a second call does nothing.

        Afterwards ``run`` raises ValueError.
        """
        ...
