"""Every key of a recipe arrives where it acts: runs in which each has a value that is not its default.

One run is of a network that is decoded by offsets, one of a network that groups; each has the keys of its decoding.

A key that is new has to be given a value here and a place where it is found again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_run import SMALL, recipe_of, train

import training.loop.batches as batches_module
import training.loop.fit as fit_module
import training.loop.run as run_module
import training.loop.update as update_module
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import Checkpoint, load_checkpoint, new_card, save_checkpoint
from training.cli.train import train as train_command
from training.loop import start_weights
from training.loop.recipe import Recipe, Section, decoding_keys, foreign_keys
from training.loop.schedule import rate_factor
from training.loop.validation import Validation
from training.models import zoo
from training.models.config import ModelConfig
from training.models.zoo import build_model

COMMON: dict[str, Any] = {
    "name": "of_my_own",
    "data.split": "val",
    "data.input_size": [64, 96],
    "data.rotation": 7.0,
    "data.scale": [0.9, 1.1],
    "data.translation": 0.1,
    "data.flip": 0.25,
    "data.jitter": 0.3,
    "data.crop": "short",
    "data.sigma": 1.5,
    "data.parity": True,
    "data.workers": 2,
    "data.cache_mb": 3,
    "optimizer.name": "adamw",
    "optimizer.lr": 2e-4,
    "optimizer.weight_decay": 0.01,
    "optimizer.betas": [0.8, 0.9],
    "optimizer.clip_norm": 5.0,
    "schedule.steps": 2,
    "schedule.milestones": [0.5],
    "schedule.gamma": 0.3,
    "schedule.final": 0.2,
    "loss.kind": "swahr",
    "loss.heatmap_weight": 2.0,
    "loss.scale_weight": 0.5,
    "validation.every_epochs": 1000.0,
    "validation.split": "train",
    "validation.images": 1,
    "decode.max_people": 4,
    "batch_size": 2,
    "accumulate": 3,
    "precision": "tf32",
    "channels_last": True,
    "compile": True,
    "ema": 0.5,
    "norm_batches": 1,
    "init": "",  # a checkpoint of the run's folder
    "seed": 5,
    "threads": 1,
    "save_seconds": 1e-9,
    "log_steps": 1,
}
OWN: dict[str, dict[str, Any]] = {
    "offsets": {
        "model": "samkr_tiny",
        "data.center_sigma": 2.5,
        "data.offset_radius": 2,
        "data.background_weight": 0.2,
        "data.offset_extent": "image",
        "data.smallest_extent": 9.0,
        "data.smallest_person": 5.0,
        "schedule.kind": "cosine",
        "schedule.warmup_steps": 2,
        "loss.offset_weight": 0.05,
        "decode.center_threshold": 0.2,
        "decode.nms_distance": 0.1,
        "decode.refine_radius": 2,
        "decode.refine_blend": 0.4,
    },
    "grouping": {
        "model": "swahr_tiny",
        "data.max_people": 7,
        "schedule.kind": "linear",
        "schedule.warmup_share": 0.3,
        "loss.pull_weight": 0.02,
        "loss.push_weight": 0.03,
        "decode.candidates": 3,
        "decode.joint_threshold": 0.2,
        "decode.tag_threshold": 0.5,
        "decode.adjust": False,
        "decode.refine": False,
    },
}
VALUES = {decoding: {**COMMON, **own} for decoding, own in OWN.items()}
# Each excludes another key, and has a test of its own.
ALONE = {"schedule.epochs", "schedule.minutes", "validation.every_minutes"}


def keys_of(section: type[Section], prefix: str = "") -> dict[str, Any]:
    """Key -> default, of a section and those in it."""
    keys: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            keys |= keys_of(inner, f"{name}.")
        else:
            keys[prefix + name] = field.default
    return keys


def value_of(recipe: Recipe, key: str) -> Any:
    found: Any = recipe
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.fixture(scope="module")
def runs(
    people_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Recipe, dict[str, Any]]]:
    """Decoding -> the recipe, and what was found of each of its keys in a run by it."""
    return {decoding: run_of(decoding, people_folder, tmp_path_factory.mktemp(decoding)) for decoding in OWN}


def run_of(decoding: str, people_folder: Path, folder: Path) -> tuple[Recipe, dict[str, Any]]:
    values = VALUES[decoding]
    small = replace(SMALL, name=values["model"], decoding=decoding, scale_branch=True)
    start = folder / "start.pt"
    card = new_card(small, COCO17, small.input_size)
    save_checkpoint(start, Checkpoint(card, small, build_model(small).state_dict()))
    content: dict[str, Any] = {}
    for key, value in {**values, "init": str(start)}.items():
        section, _, last = key.rpartition(".")
        (content.setdefault(section, {}) if section else content)[last] = value
    (folder / "any.yaml").write_text(yaml.safe_dump(content))
    seen: dict[str, list[Any]] = {}

    def watched(module: Any, name: str, instead: Callable[..., Any] | None = None) -> None:
        """Keep the arguments and the result of each call."""
        real = instead or getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            seen.setdefault(name, []).append((args, kwargs, result))
            return result

        patch.setattr(module, name, call)

    def config(_name: str, keypoints: int = 17) -> ModelConfig:
        return replace(small, keypoints=keypoints)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "model_config", config)
        for name in ("Batches", "Validation", "settle_norms", "rate_factor"):
            watched(fit_module, name)
        watched(batches_module, "TrainingSet")
        for name in ("Updater", "save_checkpoint"):
            watched(run_module, name)
        watched(start_weights, "load_start")
        watched(fit_module, "allow_tf32", lambda allowed: None)
        watched(update_module, "compiled", lambda network: network)
        watched(torch.nn.utils, "clip_grad_norm_")
        watched(torch, "set_num_threads")
        train_command(str(folder / "any.yaml"), people_folder, folder / "out")
    recipe = Recipe.model_validate(content)
    return recipe, arrived(recipe, seen, folder / "out")


def arrived(recipe: Recipe, seen: dict[str, list[Any]], out: Path) -> dict[str, Any]:
    """Key -> the value that the run had of it."""
    card = load_checkpoint(out / "final.pt").card
    facts = card.provenance["training"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    samples, updater, validation = (seen[name][0][2] for name in ("TrainingSet", "Updater", "Validation"))
    batches = seen["Batches"][0][0]
    optimizer = updater.optimizer
    assert log[0]["lr"] == pytest.approx(optimizer.defaults["lr"] * rate_factor(recipe.schedule, 0.0, 0))
    assert samples.augment_settings.parity is samples.encode_settings.parity is True
    targets = {**asdict(samples.encode_settings), **asdict(samples.augment_settings)}
    decoder = asdict(card.grouping or card.decode)
    early = [saved for saved in seen["save_checkpoint"] if saved[0][0].name == "last.pt"][:-1]
    schedule = dict(seen["rate_factor"][0][0][0])
    return {
        "name": facts["recipe"],
        "model": card.model,
        "data.split": samples.dataset.split,
        "data.input_size": samples.input_size,
        **{f"data.{name}": value for name, value in targets.items()},
        "data.workers": batches[4],
        "data.cache_mb": seen["TrainingSet"][0][1]["cache_mb"],
        "optimizer.name": type(optimizer).__name__.lower(),
        **{f"optimizer.{name}": optimizer.defaults[name] for name in ("lr", "weight_decay", "betas")},
        "optimizer.clip_norm": seen["clip_grad_norm_"][0][0][1],
        **{f"schedule.{name}": value for name, value in schedule.items()},
        "schedule.steps": facts["steps"],
        **{f"loss.{name}": value for name, value in asdict(updater._loss.settings).items()},
        "validation.every_epochs": validation.settings.every_epochs,
        "validation.split": validation._dataset.split,
        "validation.images": len(validation._ids),
        **{f"decode.{name}": value for name, value in decoder.items()},
        "batch_size": batches[1],
        "accumulate": facts["images"] / facts["steps"] / batches[1],
        "precision": "tf32" if seen["allow_tf32"][0][0] == (True,) else None,
        "channels_last": updater._layout is torch.channels_last,
        "compile": "compiled" in seen,
        "ema": updater.average.decay,
        "norm_batches": seen["settle_norms"][0][0][3],
        "init": seen["load_start"][0][0][1],
        "seed": samples.seed,
        "threads": seen["set_num_threads"][0][0][0],
        "save_seconds": recipe.save_seconds if early else None,
        "log_steps": len([line for line in log if "lr" in line]) // facts["steps"],
    }


def test_every_key_is_given_a_value_other_than_its_default() -> None:
    defaults = keys_of(Recipe)
    assert {key for values in VALUES.values() for key in values} == set(defaults) - ALONE
    assert [key for values in VALUES.values() for key in values if values[key] == defaults[key]] == []


@pytest.mark.parametrize("decoding", OWN)
def test_keys_of_one_decoding_are_those_that_the_other_refuses(decoding: str) -> None:
    other = next(name for name in OWN if name != decoding)
    marked = {
        f"{section}.{key}"
        for section, keys in decoding_keys().items()
        for key in keys
        if keys[key] == decoding
    }
    assert marked == {key for key in OWN[decoding] if key != "model" and not key.startswith("schedule.")}
    content: dict[str, Any] = {"name": "any", "schedule": {"steps": 1}}
    for key in marked:
        section, _, last = key.partition(".")
        content.setdefault(section, {})[last] = OWN[decoding][key]
    assert set(foreign_keys(Recipe.model_validate(content), other)) == marked
    assert foreign_keys(Recipe.model_validate(content), decoding) == []


@pytest.mark.parametrize(
    ("decoding", "key"), [(decoding, key) for decoding in OWN for key in VALUES[decoding]]
)
def test_it_arrives(decoding: str, key: str, runs: dict[str, tuple[Recipe, dict[str, Any]]]) -> None:
    recipe, found = runs[decoding]
    assert found[key] == value_of(recipe, key)


def test_epochs_and_minutes_arrive(tmp_path: Path, people: KeypointDataset) -> None:
    steps = {
        unit: train(tmp_path / unit, people, schedule={unit: length}).card.provenance["training"]["steps"]
        for unit, length in (("epochs", 2), ("minutes", 1e-6))
    }
    assert steps == {"epochs": 4, "minutes": 1}  # two whole batches an epoch


def test_minutes_between_validations_arrive(people: KeypointDataset) -> None:
    validation = Validation(recipe_of(validation={"every_minutes": 3.0}).validation, people)
    assert validation.settings.every_minutes == 3.0
