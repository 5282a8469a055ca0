"""A training run of a few seconds: a network of some thousand weights on ten rendered images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import Checkpoint, new_card
from training.loop.fit import fit
from training.loop.recipe import Recipe
from training.models.config import ModelConfig
from training.models.zoo import build_model

SMALL = ModelConfig(
    "small", input_size=(64, 64), width=4, stem_channels=8, bottlenecks=1, stage_modules=(1, 1, 1), blocks=1,
    channels=4, groups=2, adaptive_blocks=1, identity_init=True, offset_scale=8.0, default_init=True,
)  # fmt: skip
RECIPE: dict[str, Any] = {
    "name": "test",
    "batch_size": 4,
    "precision": "fp32",
    "threads": 1,
    "ema": 0.9,
    "data": {"sigma": 1.0, "center_sigma": 1.5, "offset_radius": 2},
    "optimizer": {"name": "adamw", "lr": 2e-3, "clip_norm": 5.0},
    "schedule": {"kind": "cosine", "steps": 6, "warmup_steps": 2},
}


# How near a first step is to that of float32. Batch norms over four tiny maps magnify rounding, and bilinear sampling
# has kinks: hence a cosine.
LIKE_FLOAT32 = pytest.mark.parametrize(
    ("changes", "tolerance", "least_cosine"),
    [
        ({"channels_last": True}, 1e-5, 0.9999),
        ({"precision": "fp16"}, 1e-2, 0.95),
        ({"precision": "bf16"}, 5e-2, 0.8),
    ],
    ids=["channels_last", "fp16", "bf16"],
)


def recipe_of(**changes: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changes})


def train(
    out: Path,
    people: KeypointDataset,
    *,
    config: ModelConfig = SMALL,
    resume: bool = False,
    **changes: Any,
) -> Checkpoint:
    torch.manual_seed(0)
    network = build_model(config)
    start = Checkpoint(new_card(config, COCO17, config.input_size), config, network.state_dict())
    return fit(network, start, recipe_of(**changes), people, out, resume=resume)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
