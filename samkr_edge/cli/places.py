"""Callbacks of the options that say where a command writes: asked while the command line is read, before any work."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.artefact import require_writable


def file_to_write(path: Path | None) -> Path | None:
    """The file, as it was given.

    Raises:
        SamkrError: SE-D01 it cannot be written.
    """
    if path is not None:
        require_writable(path)
    return path


def folder_to_write(path: Path | None) -> Path | None:
    """The folder, as it was given; it need not be there yet.

    Raises:
        SamkrError: SE-D01 no file can be written into it.
    """
    if path is not None:
        require_writable(path, folder=True)
    return path


def results_to_write(path: Path | None) -> Path | None:
    """A file where the name ends in .json, else a folder.

    Raises:
        SamkrError: SE-D01 it cannot be written.
    """
    return file_to_write(path) if path is not None and path.suffix == ".json" else folder_to_write(path)
