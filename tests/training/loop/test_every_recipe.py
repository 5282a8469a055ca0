"""Every shipped recipe makes two steps on rendered people.

The heads are the recipe's own, all of Tables 1 and 2 included; the trunk is narrow and the images small, since forty
HRNets at 512 pixels would take a day here. One recipe runs with its whole network.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from small_run import SMALL

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.model_card import ModelCard
from training.checkpoint import Checkpoint
from training.loop.fit import fit
from training.loop.recipe import Recipe
from training.loop.recipe_file import load_recipe, recipe_names
from training.models.config import ModelConfig
from training.models.zoo import build_model, model_config

QUICK = ["schedule.steps=2", "data.input_size=[64, 64]", "batch_size=2", "accumulate=1", "data.split=train",
         "data.workers=1", "validation.every_epochs=null", "threads=1"]  # fmt: skip


def slim(recipe: Recipe, keypoints: int) -> ModelConfig:
    """The recipe's network on the trunk of ``SMALL``."""
    if recipe.model is None:
        return replace(SMALL, keypoints=keypoints)
    trunk = {
        name: getattr(SMALL, name) for name in ("width", "stem_channels", "bottlenecks", "stage_modules")
    }
    return replace(model_config(recipe.model, keypoints), **trunk, blocks=1)


def two_steps(recipe: Recipe, config: ModelConfig, folder: Path, out: Path) -> None:
    dataset = open_dataset(folder, recipe.data.split)
    start = Checkpoint(ModelCard(config.name, dataset.skeleton, (64, 64)), config, {})
    finished = fit(build_model(config), start, recipe, dataset, out)
    assert finished.card.provenance["training"]["steps"] == 2
    assert all(tensor.isfinite().all() for tensor in finished.state.values())


@pytest.mark.parametrize("name", recipe_names())
def test_it_makes_two_steps(name: str, people_folder: Path, crowd_folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(name, QUICK)
    folder, keypoints = (crowd_folder, 14) if "crowdpose" in name else (people_folder, 17)
    two_steps(recipe, slim(recipe, keypoints), folder, tmp_path)


def test_the_whole_samkr_w18_makes_two_steps(people_folder: Path, tmp_path: Path) -> None:
    two_steps(load_recipe("samkr_w18_coco", QUICK), model_config("samkr_w18"), people_folder, tmp_path)


def test_every_model_of_the_paper_has_a_recipe() -> None:
    found = {load_recipe(name).model for name in recipe_names()}
    tables = {f"{g}_samkr_{c}" for g, c in [(1, 16), (16, 16), (8, 16), (2, 16), (4, 16), (8, 8), (8, 24), (4, 8),
                                            (12, 24)]}  # fmt: skip
    systems = ("samkr", "dekr", "higherhrnet", "swahr")
    assert found >= tables | {"single_branch_272"} | {
        f"{name}_w{width}" for name in systems for width in (32, 48)
    }


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith(("_coco", "_crowdpose"))])
def test_the_total_batch_is_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    others = {"higherhrnet_w32": 48, "swahr_w32": 160, "swahr_w48": 80}
    assert recipe.batch_size * recipe.accumulate == others.get(recipe.model, 40)
    swahr = ("samkr_w18", "samkr_w32", "swahr_w32", "swahr_w48")
    assert (recipe.loss.kind == "swahr") == (recipe.model in swahr)


@pytest.mark.parametrize("system", ["samkr", "dekr"])
@pytest.mark.parametrize("data", ["coco", "crowdpose"])
def test_small_networks_are_trained_as_the_papers_train_w32(system: str, data: str) -> None:
    own = {"name": "same", "model": "same"}
    small, papers = (load_recipe(f"{system}_w{width}_{data}").model_copy(update=own) for width in (18, 32))
    assert small == papers


@pytest.mark.parametrize("name", recipe_names())
def test_swahr_is_the_loss_of_networks_with_its_branch_alone(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.loss.kind != "swahr" or model_config(recipe.model).scale_branch
