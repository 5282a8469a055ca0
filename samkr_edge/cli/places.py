"""Callbacks of options for paths: what they name is checked while the command line is parsed, before any work."""

from __future__ import annotations

from pathlib import Path

import typer

from samkr_edge.files.artefact import require_writable
from samkr_edge.ready_name import model_file, rescoring_file
from samkr_edge.stream_address import is_place_like_address


def file_to_write(path: Path | None) -> Path | None:
    """The file, unchanged.

    Raises:
        SamkrError: SE-D01 it cannot be written.
        typer.BadParameter: it is an address.
    """
    if path is not None:
        _refuse_address(path)
        require_writable(path)
    return path


def folder_to_write(path: Path | None) -> Path | None:
    """The folder, unchanged; it need not exist yet.

    Raises:
        SamkrError: SE-D01 no file can be written into it.
        typer.BadParameter: it is an address.
    """
    if path is not None:
        _refuse_address(path)
        require_writable(path, folder=True)
    return path


def results_to_write(path: Path | None) -> Path | None:
    """A file if the name ends in .json, else a folder.

    Raises:
        SamkrError: SE-D01 it cannot be written.
        typer.BadParameter: it is an address.
    """
    return file_to_write(path) if path is not None and path.suffix == ".json" else folder_to_write(path)


def model_named(model: Path | None) -> Path | None:
    """The model, unchanged; of ``zoo:NAME`` its checkpoint, fetched first if it is not here yet."""
    return None if model is None else model_file(model)


def models_named(models: list[Path] | None) -> list[Path] | None:
    """``model_named`` for several."""
    return None if models is None else [model_file(model) for model in models]


def rescoring_named(network: Path | None) -> Path | None:
    """The rescoring network, unchanged; of ``zoo:NAME`` the one that came with it."""
    return None if network is None else rescoring_file(network)


def _refuse_address(path: Path) -> None:
    """Refuse an address, before a folder is named after it, password included."""
    if is_place_like_address(path):
        raise typer.BadParameter(
            "this is an address, and results are written here; for a folder of that name, create it first (mkdir)"
        )
