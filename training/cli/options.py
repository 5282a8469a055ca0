"""Options that several commands of training have, `qat` among them, each defined once."""

from __future__ import annotations

from typing import Annotated

import typer

Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
RunThreads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads [default: what is fastest].")
]
Size = Annotated[
    str | None, typer.Option("--size", help="Input HxW, multiples of 32 [default: the checkpoint's].")
]
Untrained = Annotated[bool, typer.Option("--untrained", help="Random weights: for speed, not accuracy.")]
