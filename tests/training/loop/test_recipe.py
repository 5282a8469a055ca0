"""Recipes are checked when they are read, and every mistake in one is answered with what would have been right."""

from pathlib import Path

import pytest

from samkr_edge.errors import SamkrError
from training.data.settings import AugmentSettings, EncodeSettings, GroupingEncodeSettings
from training.loop.grouping_losses import GroupingLossSettings
from training.loop.losses import LossSettings
from training.loop.objective import loss_settings, require_suited, target_settings, taught
from training.loop.recipe import Recipe, own_keys, settings_of
from training.loop.recipe_file import as_taught, load_recipe, recipe_about, recipe_comment, recipe_names
from training.models.zoo import model_config, model_names


def refused(name: str, *overrides: str) -> SamkrError:
    with pytest.raises(SamkrError) as caught:
        load_recipe(name, list(overrides))
    return caught.value


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_valid_and_names_a_model_of_the_zoo(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.model is None or recipe.model in model_names()


@pytest.mark.parametrize(
    ("name", "epochs", "falls"),
    [
        ("samkr_w32_coco", 140, (90, 120)),
        ("samkr_w48_crowdpose", 300, (200, 260)),
        ("higherhrnet_w32_coco", 300, (200, 260)),
    ],
)
def test_milestones_fall_on_the_papers_epochs(name: str, epochs: int, falls: tuple[int, int]) -> None:
    schedule = load_recipe(name).schedule
    assert schedule.epochs == epochs
    assert tuple(round(share * epochs, 3) for share in schedule.milestones) == pytest.approx(falls, abs=1e-3)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimizer.lr=5e-4", "optimizer", "lr", 5e-4),
        ("optimizer.betas=[0.8, 0.9]", "optimizer", "betas", (0.8, 0.9)),
        ("optimizer.clip_norm=null", "optimizer", "clip_norm", None),
        ("data.input_size=[96, 160]", "data", "input_size", (96, 160)),
        ("data.crop=short", "data", "crop", "short"),
        ("loss.kind=swahr", "loss", "kind", "swahr"),
    ],
)
def test_an_override_has_the_type_of_its_field(override: str, section: str, key: str, value: object) -> None:
    found = getattr(getattr(load_recipe("samkr_tiny", [override]), section), key)
    assert found == value
    assert type(found) is type(value)


def test_an_override_of_the_length_replaces_the_other_units() -> None:
    schedule = load_recipe("samkr_tiny", ["schedule.steps=12"]).schedule
    assert (schedule.steps, schedule.minutes, schedule.epochs) == (12, None, None)


def test_the_last_override_wins() -> None:
    assert load_recipe("samkr_tiny", ["seed=1", "seed=2"]).seed == 2


def test_a_file_is_read_by_its_path_and_named_after_it(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "model: samkr_tiny\nschedule: {steps: 3}\n"))
    assert (recipe.name, recipe.schedule.steps) == ("mine", 3)


def test_a_recipe_that_extends_another_holds_what_differs(tmp_path: Path) -> None:
    text = "extends: samkr_w32_coco\nschedule: {minutes: 5}\nloss: {offset_weight: 0.1}\n"
    base, recipe = load_recipe("samkr_w32_coco"), load_recipe(recipe_file(tmp_path, text))
    assert (recipe.name, recipe.model) == ("mine", "samkr_w32")
    assert (recipe.schedule.minutes, recipe.schedule.epochs) == (5, None)
    assert recipe.schedule.milestones == base.schedule.milestones
    assert recipe.loss == base.loss.model_copy(update={"offset_weight": 0.1})
    assert recipe.data == base.data


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_says_what_it_is_for_in_a_sentence(name: str) -> None:
    assert recipe_comment(name)[0].startswith("# ")
    assert len(recipe_about(name)) < 130
    assert recipe_about(name).endswith(".")


@pytest.mark.parametrize("name", [n for n in recipe_names() if n.endswith(("_coco", "_crowdpose", "_140"))])
def test_a_recipe_of_a_paper_says_how_papers_test_it(name: str) -> None:
    recipe, comment = load_recipe(name), recipe_comment(name)
    *rescore, evaluate = (line.split() for line in comment if line.startswith("#   samkr-edge "))
    # DEKR's rescoring is of poses found by offsets.
    offsets = model_config(recipe.model).decoding == "offsets"
    assert [words[2] for words in (*rescore, evaluate)] == [*(["rescore"] if offsets else []), "eval"]
    for words in (*rescore, evaluate):
        assert {"RUN/final.pt", "--protocol", "paper"} <= {*words}
    crowd = "crowdpose" in name
    assert evaluate[evaluate.index("--split") + 1 :][:1] == ["test"] if crowd else "--split" not in evaluate
    assert not crowd or not offsets or recipe.data.split in rescore[0]


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    error = refused("samkr_tini")
    assert error.code == "SE-U30"
    assert error.facts["nearest"].startswith("samkr_tiny")
    assert refused("mine/samkr_tiny").code == "SE-U30"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", "optimizer.lrr no such key; nearest: lr"),
        ("optimiser.lr=1", "optimiser no such key; nearest: optimizer"),
        ("optimizer.lr=fast", "optimizer.lr Input should be a valid number"),
        ("optimizer.lr=-1", "optimizer.lr Input should be greater than 0"),
        ("optimizer.lr=.inf", "optimizer.lr Input should be a finite number"),
        ("batch_size=1.5", "batch_size Input should be a valid integer"),
        ("batch_size=0", "batch_size Input should be greater than or equal to 1"),
        ("decode.max_people=0", "decode.max_people Input should be greater than or equal to 1"),
        ("decode.refine_radius=9", "decode.refine_radius Input should be less than or equal to 8"),
        ("decode.refine_blend=2", "decode.refine_blend Input should be less than or equal to 1"),
        ("decode.candidates=31", "decode 31 candidates per keypoint are more than the 30 people allowed"),
        ("data.input_size=[100, 128]", "multiples of 32"),
        ("data.scale=[1.2, 0.8]", "the smaller one first"),
        ("data.parity=true", "needs crop: short"),
        ("schedule.milestones=[90, 120]", "shares of the length"),
        ("optimizer.lr", "section.key=value"),
        ("seed.deep=1", "seed is not a section"),
        ("optimizer.betas=[1,", "reason"),
    ],
)
def test_a_wrong_override_is_refused_with_the_reason(override: str, said: str) -> None:
    first = ("seed=1",) if override.startswith("seed") else ()
    error = refused("samkr_tiny", *first, override)
    assert error.code == "SE-U31"
    assert said in error.sentence()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: samkr_tiny\n", "schedule Field required"),
        ("schedule: {steps: 3, minutes: 1}\n", "exactly one of epochs, steps and minutes"),
        ("schedule: {kind: cosine}\n", "exactly one of epochs, steps and minutes"),
        (
            "schedule: {steps: 1}\nvalidation: {every_epochs: 1, every_minutes: 1}\n",
            "at most one of every_epochs",
        ),
        ("extends: samkr_huge\n", "'samkr_huge', which is no other shipped recipe"),
        ("- samkr_tiny\n", "holds a list, not keys with values"),
        ("", "holds nothing, not keys with values"),
        ("schedule: {steps: 2024-13-45}\n", "month must be in 1..12"),
        ("schedule: [\n", "line 2"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, text: str, said: str) -> None:
    error = refused(recipe_file(tmp_path, text))
    assert error.code == "SE-U31"
    assert "mine.yaml" in error.message
    assert said in error.sentence()


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert refused(str(path)).code == "SE-U31"


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = load_recipe("samkr_tiny")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_fine_tuning_takes_targets_and_loss_from_its_network_and_the_rest_from_its_recipe(
    tmp_path: Path,
) -> None:
    card = taught(load_recipe("samkr_tiny", ["data.rotation=7", "data.workers=3"]), "offsets")
    fine = as_taught(load_recipe("qat", ["data.scale=[1, 1]"]), card, "offsets")
    assert (fine.data.sigma, fine.data.rotation, fine.loss.offset_weight) == (1.5, 7, 0.15)
    assert fine.data.scale == (1, 1)
    assert (fine.data.workers, fine.optimizer.lr) == (1, load_recipe("qat").optimizer.lr)
    assert as_taught(load_recipe("qat"), {}, "offsets") == load_recipe("qat")


def test_a_card_from_before_there_was_a_crop_keeps_its_parity() -> None:
    card = taught(load_recipe("samkr_tiny", ["data.parity=true", "data.crop=short"]), "offsets")
    del card["data"]["crop"]
    assert as_taught(load_recipe("qat"), card, "offsets").data.crop == "short"


def test_a_fine_tuning_that_contradicts_its_network_is_refused() -> None:
    card = taught(load_recipe("samkr_tiny", ["data.parity=true", "data.crop=short"]), "offsets")
    with pytest.raises(SamkrError) as caught:
        as_taught(load_recipe("qat", ["data.crop=fit"]), card, "offsets")
    assert caught.value.code == "SE-U31"
    assert "crop: short" in caught.value.sentence()


def test_settings_have_the_recipes_defaults() -> None:
    recipe = Recipe(name="any", schedule={"steps": 1})
    assert settings_of(AugmentSettings, recipe.data) == AugmentSettings()
    assert target_settings(recipe, "offsets") == EncodeSettings()
    assert target_settings(recipe, "grouping") == GroupingEncodeSettings()
    assert loss_settings(recipe, "offsets") == LossSettings()
    assert loss_settings(recipe, "grouping") == GroupingLossSettings()


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).model])
def test_a_shipped_recipe_suits_its_network_and_its_own_keys_make_it_again(name: str) -> None:
    recipe = load_recipe(name)
    config = model_config(recipe.model)
    require_suited(recipe, config)
    shown = Recipe.model_validate(own_keys(recipe, config.decoding))
    require_suited(shown, config)
    assert shown == recipe


@pytest.mark.parametrize(
    ("name", "override", "code", "said"),
    [
        ("swahr_tiny", "data.center_sigma=3", "SE-U31", ("data.center_sigma", "groups joints by tags")),
        ("swahr_tiny", "loss.offset_weight=0.1", "SE-U31", ("loss.offset_weight",)),
        ("samkr_tiny", "loss.pull_weight=0.1", "SE-U31", ("loss.pull_weight", "finds joints by offsets")),
        ("samkr_tiny", "data.max_people=3", "SE-U31", ("data.max_people",)),
        ("samkr_tiny", "model=swahr_tiny", "SE-U31", ("data.center_sigma", "loss.offset_weight", "recipes")),
        ("samkr_tiny", "loss.kind=swahr", "SE-U87", ("no scale branch", "--set loss.kind=dekr")),
        ("samkr_tiny", "loss.kind=higherhrnet", "SE-U87", ("--set loss.kind=dekr",)),
        ("swahr_tiny", "loss.kind=dekr", "SE-U87", ("--set loss.kind=higherhrnet",)),
        ("swahr_tiny", "model=higherhrnet_w32", "SE-U87", ("no scale branch", "--set loss.kind=higherhrnet")),
    ],
)
def test_what_means_nothing_to_the_network_is_refused(
    name: str, override: str, code: str, said: tuple[str, ...]
) -> None:
    recipe = load_recipe(name, [override])
    with pytest.raises(SamkrError) as caught:
        require_suited(recipe, model_config(recipe.model))
    assert caught.value.code == code
    assert all(words in str(caught.value) for words in said)


def test_a_network_with_tags_is_fine_tuned_as_it_was_taught_and_its_card_has_its_own_keys_alone() -> None:
    taught_how = taught(load_recipe("swahr_tiny"), "grouping")
    fine = as_taught(load_recipe("qat"), taught_how, "grouping")
    require_suited(fine, model_config("swahr_tiny"))
    assert (fine.data.sigma, fine.loss.kind) == (1.5, "swahr")
    assert {"center_sigma", "offset_radius", "offset_weight"}.isdisjoint(
        {**taught_how["data"], **taught_how["loss"]}
    )
    unknown = as_taught(load_recipe("qat"), {}, "grouping")
    assert loss_settings(unknown, "grouping").kind == "higherhrnet"


def test_a_card_from_before_there_was_a_floor_keeps_its_weights() -> None:
    card = taught(load_recipe("samkr_tiny"), "offsets")
    del card["data"]["smallest_extent"]
    assert as_taught(load_recipe("qat"), card, "offsets").data.smallest_extent == 1
    assert (
        as_taught(load_recipe("qat", ["data.smallest_extent=8"]), card, "offsets").data.smallest_extent == 8
    )


def test_a_card_of_another_version_is_named_where_it_does_not_hold() -> None:
    card = {"data": {"mosaic": True}, "loss": None}
    with pytest.raises(SamkrError) as caught:
        as_taught(load_recipe("qat"), card, "offsets")
    assert caught.value.message == "qat, with data and loss from the network's card, is not a valid recipe"
    assert list(caught.value.facts) == ["data.mosaic"]


def test_a_file_may_have_the_name_of_the_recipe_that_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "samkr_w32_coco.yaml"
    path.write_text("extends: samkr_w32_coco\nseed: 3\n")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.model, recipe.seed) == ("samkr_w32_coco", "samkr_w32", 3)
