"""Options that several commands of this package have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="FP32 checkpoint.")]
Data = Annotated[
    Path, typer.Option(help="COCO or CrowdPose directory: train calibrates, the split below judges.")
]
Split = Annotated[str, typer.Option(help="Split that is evaluated.")]
PolicyName = Annotated[str, typer.Option("--policy", help="Name of a shipped policy, or a YAML file.")]
Calibrator = Annotated[
    str | None, typer.Option(help="max, entropy, percentile or mse, in place of the policy's.")
]
Images = Annotated[int, typer.Option(min=8, help="Calibration images.")]
Bits = Annotated[int | None, typer.Option(min=2, max=8, help="Bits of weights; below 8 for analysis only.")]
ActivationBits = Annotated[int | None, typer.Option(min=2, max=8, help="Bits of activations; likewise.")]
Seed = Annotated[int, typer.Option(help="Same seed, same calibration images.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
