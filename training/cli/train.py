"""`samkr-edge train` and `samkr-edge recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import AsJson, Data, out_folder
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted
from training.cli.options import Overrides, RunThreads

if TYPE_CHECKING:
    from training.loop.recipe import Recipe


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a shipped recipe (`samkr-edge recipes`), or a YAML file.")
    ],
    data: Data,
    out: Annotated[Path, out_folder("Folder for last.pt, best.pt, final.pt and log.jsonl.")],
    split: Annotated[str | None, typer.Option(help="Split to train on [default: the recipe's].")] = None,
    overrides: Overrides = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Minutes of training [default: the recipe's].")
    ] = None,
    threads: RunThreads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from OUT/last.pt if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network from a recipe.

    Examples:

      samkr-edge train samkr_tiny --data people --out runs/tiny --minutes 7

      samkr-edge train samkr_w32_coco --data /data/coco --out runs/w32 --set init=zoo:hrnet_w32_imagenet

      samkr-edge train samkr_w32_coco --data /data/coco --out runs/w32 --set init=zoo:hrnet_w32_imagenet --resume

      torchrun --nproc-per-node 4 --no-python samkr-edge train samkr_w32_coco --data /data/coco --out runs/w32
      --set init=zoo:hrnet_w32_imagenet
    """
    import torch

    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.terminal import say
    from training.checkpoint import Checkpoint, new_card
    from training.loop.fit import fit
    from training.loop.processes import is_first_process
    from training.loop.recipe import own_keys
    from training.loop.recipe_file import load_recipe
    from training.loop.run import FINAL, LAST
    from training.loop.start_weights import load_start, require_start
    from training.models.zoo import build_model, model_config

    shortcuts = {"schedule.minutes": minutes, "data.split": split}
    settings = load_recipe(
        recipe, [*(overrides or []), *(f"{key}={value}" for key, value in shortcuts.items() if value)]
    )
    if threads:
        settings = settings.model_copy(update={"threads": threads})
    model = _model_of(settings, data)
    resuming = resume and (out / LAST).exists()
    if not resuming:
        require_start(settings.init, model_config(model))
    dataset = open_dataset(data, settings.data.split)
    if not resume and ((out / LAST).exists() or (out / FINAL).exists()):
        raise SamkrError(
            "SE-U33",
            f"{out} already holds a run, so nothing was started",
            fix="add --resume to go on with it, or choose another --out",
        )
    config = model_config(model, len(dataset.skeleton))
    size = settings.data.input_size or config.input_size
    decode, grouping = settings.decode.offsets(config.keypoints), settings.decode.grouping()
    card = new_card(config, dataset.skeleton, size, decode=decode, grouping=grouping)
    torch.manual_seed(settings.seed)
    network = build_model(config)
    if not resuming:  # otherwise weights and card are the run's
        start = load_start(network, settings.init)
        card = card.with_provenance(**start.provenance)
        if start.told and is_first_process():
            say(start.told)
    finished = fit(
        network, Checkpoint(card, config, network.state_dict()), settings, dataset, out, resume=resume
    )
    if not is_first_process():
        return
    facts = finished.card.provenance["training"]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    emit(
        {
            "checkpoint": str(out / FINAL),
            "card": finished.card.to_dict(),
            "recipe": own_keys(settings, config.decoding),
        },
        f"{out / FINAL}: {card.model}, {len(card.skeleton)} keypoints ({card.skeleton.name}), "
        f"{counted(facts['steps'], 'step')}, "
        f"{counted(facts['images'], 'image')}, {facts['minutes']} minutes; {parameters:,} parameters",
        as_json,
    )


def _model_of(recipe: Recipe, data: Path) -> str:
    """The network that a recipe trains.

    Raises:
        SamkrError: SE-U32 it does not train a network itself, SE-U31 and SE-U87 it does not suit its network.
    """
    from training.loop.objective import require_suited
    from training.models.zoo import model_config

    if recipe.model is None:
        raise SamkrError(
            "SE-U32",
            f"the recipe {recipe.name} fine-tunes a quantized checkpoint and trains no network of its own",
            fix=f"samkr-edge qat ptq.pt --data {quoted(data)} -o qat.pt",
        )
    require_suited(recipe, model_config(recipe.model))
    return recipe.model


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe as one YAML file.")] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print all keys: default, allowed values, meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The shipped recipes of `samkr-edge train`; with a name, all settings of one, to copy and edit.

    A comment above the settings says what the recipe is for, and which commands test a paper's recipe.

    Examples:

      samkr-edge recipes

      samkr-edge recipes samkr_w32_coco > mine.yaml

      samkr-edge recipes --keys
    """
    from dataclasses import astuple

    import yaml
    from rich.table import Table

    from samkr_edge.cli.console import emit
    from training.loop.recipe import own_keys
    from training.loop.recipe_file import load_recipe, recipe_about, recipe_comment, recipe_names
    from training.loop.recipe_keys import COLUMNS, recipe_keys

    if keys:
        if name:
            raise typer.BadParameter("all recipes have the same keys: give a NAME or --keys")
        listed = recipe_keys()
        table = Table(title="keys of a recipe")
        for column in COLUMNS:
            table.add_column(column, overflow="fold")
        for key in listed:
            table.add_row(*astuple(key))
        emit({"keys": [vars(key) for key in listed]}, table, as_json)
        return
    found = {each: load_recipe(each) for each in ([name] if name else recipe_names())}
    if name:
        content = own_keys(found[name], _decoding_of(found[name]))
        text = "\n".join([*recipe_comment(name), yaml.safe_dump(content, sort_keys=False)])
        emit({"recipes": {name: content}}, text, as_json)
        return
    table = Table(title="recipes")
    for column in ("recipe", "model", "length", "batch", "loss", "about"):
        table.add_column(column, overflow="fold")
    for each, settings in found.items():
        schedule = settings.schedule
        unit = next(unit for unit in ("epochs", "steps", "minutes") if getattr(schedule, unit))
        length = f"{getattr(schedule, unit):g} {unit}"
        batch = f"{settings.batch_size} x {settings.accumulate}"
        table.add_row(
            each, settings.model or "-", length, batch, settings.loss.kind or "-", recipe_about(each)
        )
    emit(
        {"recipes": {each: own_keys(settings, _decoding_of(settings)) for each, settings in found.items()}},
        table,
        as_json,
    )


def _decoding_of(recipe: Recipe) -> str | None:
    """How the recipe's network is decoded; None for one that fine-tunes any."""
    from training.models.zoo import model_config

    return model_config(recipe.model).decoding if recipe.model else None
