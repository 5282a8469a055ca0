"""Temporary files and folders; if there is no place or room for them, the error names their folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from samkr_edge.errors import SamkrError, reason_of

# Errors of a full or failing disk, which name no file.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def temporary_folder(prefix: str = "samkr-edge-") -> Iterator[Path]:
    """A folder that is deleted with its files at the end of ``with``.

    Raises:
        SamkrError: SE-D09 it cannot be made, or has no room for what is written into it inside ``with``.
    """
    folder = made_folder(prefix)
    try:
        yield folder
    except OSError as error:
        named = error.filename
        if not (error.errno in _NO_ROOM if named is None else str(named).startswith(f"{folder}{os.sep}")):
            raise
        raise no_temporary_room(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def made_folder(prefix: str = "samkr-edge-") -> Path:
    """An empty folder that the caller removes; raises SamkrError SE-D09."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise no_temporary_room(error) from error


def temporary_file() -> IO[bytes]:
    """A file without a name, deleted when it is closed; raises SamkrError SE-D09."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise no_temporary_room(error) from error


def temporary_place() -> str:
    """The folder of temporary files, for a fact; or the folders that were tried."""
    try:
        return tempfile.gettempdir()
    except OSError:
        wanted = os.environ.get("TMPDIR") or "TMPDIR is not set"
        return f"{wanted}, and the usual ones: none is writable"


def no_temporary_room(error: OSError) -> SamkrError:
    """SE-D09: no place for temporary files, or no room there."""
    return SamkrError(
        "SE-D09",
        "temporary files could not be written, so the command stopped",
        {"reason": error.strerror or reason_of(error), "folder": temporary_place()},
        fix="free some space there, or name another folder: export TMPDIR=DIR",
    )
