"""The file of a network that is shipped with this package: its weights in half precision and its card.

A few lines of NumPy read it, and nothing in it can run code:

    with np.load("samkr_tiny.npz") as file:
        weights, about = file["weights"], json.loads(str(file["about"]))

``weights``, float16 (P,), holds all tensors one after the other; ``about`` their names and shapes in this order, the
network's structure and its card. One array, since a name in a zip archive for each tensor would take more space than
many of them. Left out are the batch norms' counts of batches, which no network computes with.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samkr_edge.files.artefact import replacing
from samkr_edge.model_card import ModelCard

if TYPE_CHECKING:
    from training.checkpoint import Checkpoint

FOLDER = Path(__file__).with_name("shipped")
_COUNT, _VARIANCE = "num_batches_tracked", "running_var"


def write_shipped(path: Path, checkpoint: Checkpoint) -> None:
    """Write a float checkpoint, the same bytes every time.

    Raises:
        ValueError: a tensor is not one of floats, or is beyond the range of float16.
    """
    state = {name: tensor for name, tensor in checkpoint.state.items() if not name.endswith(_COUNT)}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.half().isfinite().all():
            raise ValueError(f"{name} cannot be kept as float16")
    about = {
        "card": checkpoint.card.to_dict(),
        "config": checkpoint.config.to_dict(),
        "tensors": [[name, list(tensor.shape)] for name, tensor in state.items()],
    }
    weights = np.concatenate([tensor.half().numpy().ravel() for tensor in state.values()])
    with replacing(path) as temporary:
        np.savez_compressed(temporary, weights=weights, about=np.array(json.dumps(about)))


def shipped_card(path: Path) -> ModelCard:
    """The card of such a file; without torch."""
    return ModelCard.from_dict(_read(path)[1]["card"])


def read_shipped(path: Path) -> Checkpoint:
    """The network as a checkpoint, its weights float32 again."""
    import torch

    from training.checkpoint import Checkpoint
    from training.models.config import ModelConfig

    weights, about = _read(path)
    state, begin = {}, 0
    for name, shape in about["tensors"]:
        end = begin + prod(shape)
        state[name] = torch.from_numpy(weights[begin:end].astype(np.float32)).reshape(shape)
        begin = end
        if name.endswith(_VARIANCE):
            state[name.removesuffix(_VARIANCE) + _COUNT] = torch.zeros((), dtype=torch.int64)
    return Checkpoint(ModelCard.from_dict(about["card"]), ModelConfig.from_dict(about["config"]), state)


def _read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with np.load(path) as file:
        return file["weights"], json.loads(str(file["about"]))
