"""Options that several commands of this package have, each defined once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.cli.options import data_dir
from samkr_edge.cli.places import model_named


class CalibratorName(str, Enum):
    """How a range is found, see ``calibration.ranges``."""

    max = "max"
    entropy = "entropy"
    percentile = "percentile"
    mse = "mse"


Checkpoint = Annotated[Path, typer.Argument(help="FP32 checkpoint, or zoo:NAME.", callback=model_named)]
Data = Annotated[Path | None, data_dir(": train to calibrate on, --split to judge on")]
# Photographs that networks are judged on where no --limit says how many.
JUDGED_PHOTOS = 200
TRAIN_DATA = data_dir("; its train split is used")
PolicyName = Annotated[str, typer.Option("--policy", help="Name of a shipped policy, or a YAML file.")]
Calibrator = Annotated[
    CalibratorName | None, typer.Option(help="How ranges are found [default: the policy's].")
]
Images = Annotated[int, typer.Option(min=1, help="Calibration images.")]
Bits = Annotated[int | None, typer.Option(min=2, max=8, help="Bits of weights; below 8 for analysis only.")]
ActivationBits = Annotated[
    int | None, typer.Option(min=2, max=8, help="Bits of activations; below 8 for analysis only.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same calibration images.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")]
