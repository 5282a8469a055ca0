"""The cache of results that can be made again: models built from bundles, TensorRT's timings and finished kernels."""

from __future__ import annotations

import errno
import functools
import os
import stat
import tempfile
from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.terminal import say

_CHOOSE = "export SAMKR_EDGE_CACHE=/some/writable/folder"


def cache_folder() -> Path:
    """``SAMKR_EDGE_CACHE``, else ``samkr-edge`` in the user's cache folder; it may not be there yet.

    A user without a home, or with a read-only one (both are common in containers), gets a folder of their own in the
    temporary one, and is told so once.

    Raises:
        SamkrError: SE-D55 there is no temporary folder either.
    """
    if chosen := os.environ.get("SAMKR_EDGE_CACHE"):
        return Path(chosen)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samkr-edge"
    except RuntimeError:  # no HOME, and no such user id in the list of users
        return _temporary_folder("this user has no home folder")
    # An existing one is used as it is: its content can be read.
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if there != folder and not os.access(there, os.W_OK | os.X_OK):
        return _temporary_folder(f"nothing can be written to {there}")
    return folder


def made_in_cache(folder: Path) -> Path:
    """A folder of the cache, which is there from now on.

    Raises:
        SamkrError: SE-D01 nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SamkrError(
            "SE-D01",
            f"nothing can be written to {folder}, a folder of the cache, so nothing was done",
            {"reason": error.strerror or error},
            fix=_CHOOSE,
        ) from error
    return folder


@functools.cache
def _temporary_folder(why: str) -> Path:
    try:
        folder = Path(tempfile.gettempdir()) / f"samkr-edge-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        # Engines are native code: a folder that somebody else made, or can write to, is not read.
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            folder = Path(tempfile.mkdtemp(prefix="samkr-edge-"))
    except OSError as error:
        raise SamkrError(
            "SE-D55",
            f"{why}, and there is no temporary folder, so there is no place for a cache",
            {"reason": error.strerror or error},
            fix=_CHOOSE,
        ) from error
    say(f"{why}: what is built here is kept in {folder}, and may be lost with it; {_CHOOSE}")
    return folder
