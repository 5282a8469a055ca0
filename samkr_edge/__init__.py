"""samkr-edge: one road from a PyTorch SAMKR pose network to an INT8 engine on the device.

This package is the device side: it imports neither torch nor modelopt, and heavy parts load only when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pathlib import Path

    from samkr_edge.pose_model import PoseModel

__all__ = ["__version__", "load"]


def load(model: str | Path, *, threads: int = 1) -> PoseModel:
    """Open a checkpoint, an ONNX file or a built model; ``pose(image)`` then returns :class:`Poses`.

    Raises:
        SamkrError: the file is missing, of an unknown kind, or does not match its passport.
    """
    from samkr_edge.pose_model import load_model

    return load_model(model, threads=threads)
