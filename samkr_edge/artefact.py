"""Artefacts are written to a temporary name and renamed: a kill or a full disk never destroys the last good one."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError, reason_of


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Bytes, on every file system of Linux.
# A disk with less room than this is full.
_ROOM = 1 << 16
_LONGEST_NAME = 255


def behind(path: Path) -> Path:
    """The file that a symbolic link leads to, where more of that name lies beside it: a passport, a list of layers.

    What a link leads to in a store that names files by their hash has nothing beside it: there the link's own name
    counts, and so does that of any path that is no link.
    """
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    return real if any(real.parent.glob(f"{glob.escape(real.name)}.*")) else path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; on success it takes ``path``'s name, else it vanishes.

    The temporary name keeps the suffix, since libraries choose formats by it.

    Raises:
        SamkrError: SE-D01 when the file cannot be written (no permission, full disk).
    """
    target = Path(path)
    temporary = part_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            raise OSError(errno.EISDIR if target.is_dir() else errno.EINVAL, _not_a_file(target))
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise SamkrError(
            "SE-D01",
            f"{target} could not be written, so what was there before is unchanged",
            [f"reason     {error.strerror or error}"],
            fix=way_out(error),
        ) from error
    finally:
        with suppress(OSError):  # where the folder itself is impossible, there is nothing to remove
            temporary.unlink(missing_ok=True)


def _not_a_file(target: Path) -> str:
    return "it is a folder" if target.is_dir() else "it is a device or a pipe, which would be replaced"


def part_of(target: Path) -> Path:
    """The hidden name beside ``target`` under which it is written, as long as a name can be."""
    end = f".{os.getpid()}.part{target.suffix}"
    return target.with_name(f".{fitting(target.stem, len(os.fsencode(end)) + 1)}{end}")


def fitting(stem: str, room: int) -> str:
    """``stem``, shortened where it and ``room`` more bytes are longer than a file's name can be.

    What is cut off leaves a hash, so that different stems stay different.
    """
    name = os.fsencode(stem)
    if len(name) + room <= _LONGEST_NAME:
        return stem
    mark = hashlib.sha256(name).hexdigest()[:8]
    # A letter of several bytes may have been cut in two: what is left of it is no letter.
    return name[: _LONGEST_NAME - room - len(mark) - 1].decode("utf-8", "ignore") + f"~{mark}"


def way_out(error: OSError) -> str:
    """What helps where a file could not be written."""
    return {
        errno.ENAMETOOLONG: "give it a shorter name",
        errno.ENOSPC: "choose another place, or free some room there",
        errno.EDQUOT: "choose another place, or free some room there",
    }.get(error.errno or 0, "choose another place")


def require_writable(*paths: str | Path) -> None:
    """Before any work: raises what :func:`replacing` would raise at its end; no file and no folder is left behind.

    Every command that writes a file asks this about each of them before it opens what it works on.
    """
    for path in map(Path, paths):
        made = [folder for folder in path.absolute().parents if not os.path.lexists(folder)]
        try:
            with suppress(_Tried), replacing(path) as temporary:
                temporary.write_bytes(bytes(_ROOM))
                raise _Tried
        finally:
            with suppress(OSError):  # another program has put something there meanwhile
                for folder in made:
                    folder.rmdir()


class _Tried(Exception):
    """The place can be written to."""


def write_json(path: str | Path, payload: Any) -> None:
    """Write ``payload`` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(payload), encoding="utf-8")


def json_text(payload: Any, indent: int | None = 2) -> str:
    """What :func:`write_json` writes; parts of file names that are no UTF-8 as ``\\udcXX``, as Python reads them."""
    text = json.dumps(payload, indent=indent, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        text = json.dumps(payload, indent=indent)
    return text + "\n"


def read_json(path: str | Path, what: str) -> Any:
    """Read JSON, with or without a byte order mark; ``what`` names the file's role in the error.

    Raises:
        SamkrError: SE-D02 missing or unreadable, SE-D03 not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SamkrError("SE-D02", f"{what} {path} could not be read", [f"reason     {error}"]) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # beside bad syntax: numbers or nesting without end
        where = (
            f"line {error.lineno}, column {error.colno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else reason_of(error)
        )
        raise SamkrError(
            "SE-D03",
            f"{what} {path} is not valid JSON",
            [f"at         {where}", f"size       {len(text)} characters"],
            fix="restore the file from its source; it may have been cut off while being written",
        ) from error
