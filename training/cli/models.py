"""`samkr-edge models`."""

from __future__ import annotations

from typing import Annotated

import typer

from samkr_edge.cli.options import AsJson

# As printed in the SAMKR paper (Table 3) and in the READMEs of the others: million parameters, "GFLOPs".
PRINTED = {
    "samkr_w32": ("29.6", "44.9", "SAMKR, Table 3"),
    "samkr_w48": ("65.7", "140.9", "SAMKR, Table 3"),
    "dekr_w32": ("29.6", "45.4", "DEKR"),
    "dekr_w48": ("65.7", "141.5", "DEKR"),
    "higherhrnet_w32": ("28.6", "47.9", "HigherHRNet"),
    "higherhrnet_w48": ("63.8", "154.3", "HigherHRNet"),
    "swahr_w32": ("28.6", "48.0", "SAMKR, Table 3"),
    "swahr_w48": ("63.8", "154.6", "SAMKR, Table 3"),
}


def models(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    keypoints: Annotated[int, typer.Option(min=1, help="17 as COCO, 14 as CrowdPose.")] = 17,
    as_json: AsJson = False,
) -> None:
    """The zoo: parameters and GMACs, counted now, next to the printed figures.

    Examples:

      samkr-edge models

      samkr-edge models samkr_w32 --keypoints 14 --json

      samkr-edge models samkr_w32_1block
    """
    from rich.console import Group
    from rich.table import Table

    from samkr_edge.cli.console import emit
    from samkr_edge.progress import progress
    from training.models.macs import count_cost
    from training.models.zoo import model_config, model_names

    configs = [model_config(n, keypoints) for n in ([name] if name else model_names())]
    table = Table(title=f"models for {keypoints} keypoints")
    for column in ("model", "input", "c", "g", "parameters", "GMACs", "printed M", "printed G", "printed by"):
        table.add_column(column, justify="left" if column in ("model", "printed by") else "right")
    rows = []
    with progress("counting", len(configs), unit="models") as advance:
        for config in configs:
            cost = count_cost(config)
            printed = PRINTED.get(config.name, ("", "", "")) if keypoints == 17 else ("", "", "")
            height, width = config.input_size
            table.add_row(
                config.name,
                f"{height}x{width}",
                str(config.channels or ""),
                str(config.groups or ""),
                f"{cost.parameters:,}",
                f"{cost.macs / 1e9:.3f}",
                *printed,
            )
            rows.append(
                {
                    "config": config.to_dict(),
                    "parameters": cost.parameters,
                    "gmacs": cost.macs / 1e9,
                    "printed": printed,
                }
            )
            advance()
    note = (
        "GMACs include the deformable convolutions; these papers call them GFLOPs. SAMKR's published figures leave "
        "the deformable convolutions out, DEKR's do not: counted the same way, SAMKR is the heavier one. "
        "SWAHR's include its scale branches, which only training has. A transposed convolution, which HigherHRNet and "
        "SWAHR have, counts by its output as in theirs: four times what it multiplies. "
        "NAME_1block is a model with one adaptive convolution per branch instead of two."
    )
    emit({"models": rows, "note": note}, Group(table, note), as_json)
