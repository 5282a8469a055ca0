"""Options that several commands have, each defined once: the same name, the same words in ``--help``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from samkr_edge.cli.places import (
    file_to_write,
    folder_to_write,
    model_named,
    rescoring_named,
    results_to_write,
)

Model = Annotated[
    Path, typer.Argument(help="Checkpoint, ONNX file, built model, engine or zoo:NAME.", callback=model_named)
]
DATA = typer.Option(help="COCO or CrowdPose directory, or an annotation file.")
Data = Annotated[Path, DATA]
# What is evaluated where no --split says otherwise.
SPLIT = "val"
Split = Annotated[str, typer.Option(help="Split to evaluate.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N images.")]
Rescore = Annotated[
    Path | None,
    typer.Option(help="Rescoring network (.npz), see `samkr-edge rescore`.", callback=rescoring_named),
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads per network.")]
CudaGraph = Annotated[
    bool, typer.Option("--cuda-graph", help="TensorRT: launch a network as one CUDA graph.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def word(choice: Enum | None) -> str | None:
    """The chosen value, for code without a command line."""
    return None if choice is None else str(choice.value)


def out_file(help: str, *more: str) -> Any:
    """``-o/--out`` for a file; ``more`` are further names of the option."""
    return typer.Option("-o", "--out", *more, help=help, callback=file_to_write)


def out_folder(help: str) -> Any:
    """``-o/--out`` for a folder."""
    return typer.Option("-o", "--out", help=help, callback=folder_to_write)


def out_results(help: str) -> Any:
    """``-o/--out`` for a .json file or a folder."""
    return typer.Option("-o", "--out", help=help, callback=results_to_write)


def data_dir(use: str) -> Any:
    """``--data`` of a command for which it is more, or less, than the images to evaluate; ``use`` ends the sentence."""
    return typer.Option(help=f"COCO or CrowdPose directory{use}.")


def device(help: str) -> Any:
    """``--on`` for commands that can also run on a device."""
    return typer.Option(metavar="ADDRESS", help=f"{help} ssh://user@host[:port].")
