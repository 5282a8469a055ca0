"""A small network that has learned a little, and rendered people: every analysis then has something to say."""

import os
from pathlib import Path

import pytest
import torch

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import Checkpoint, load_checkpoint
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings
from training.loop.fit import fit
from training.loop.recipe import Recipe
from training.loop.run import FINAL
from training.models.config import ModelConfig
from training.models.zoo import build_model

SMALL = ModelConfig(
    "small", input_size=(64, 64), width=8, stem_channels=16, bottlenecks=1, stage_modules=(1, 1, 1), blocks=1,
    channels=4, groups=2, adaptive_blocks=1, identity_init=True, offset_scale=8.0, default_init=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands take all cores unless they are told otherwise, and the tests run side by side."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibration") / "people"
    scene = SceneSettings(size=64, people=(1, 2), person_height=(0.8, 0.98))
    write_dataset(root, SynthSettings(train=24, val=6, scene=scene), processes=1)
    return root


@pytest.fixture(scope="session")
def fp32(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float checkpoint of ``SMALL`` after 24 steps."""
    torch.manual_seed(0)
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "batch_size": 4,
            "precision": "fp32",
            "threads": 1,
            "data": {"sigma": 1.0, "center_sigma": 1.5, "offset_radius": 2, "rotation": 0, "scale": [1, 1]},
            "optimizer": {"name": "adamw", "lr": 5e-3, "clip_norm": 5.0},
            "schedule": {"kind": "cosine", "steps": 24, "warmup_steps": 5},
        }
    )
    network = build_model(SMALL)
    card = ModelCard("small", COCO17, SMALL.input_size, decode=DecodeSettings(max_people=5))
    out = tmp_path_factory.mktemp("fp32")
    start = Checkpoint(card, SMALL, network.state_dict())
    fit(network, start, recipe, open_dataset(people, "train"), out)
    return out / FINAL


@pytest.fixture(scope="session")
def source(fp32: Path) -> Checkpoint:
    return load_checkpoint(fp32)
