"""Artefacts are written to a temporary name and renamed: a kill or a full disk never destroys the last good one."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.refused import not_opened, refusal
from samkr_edge.printable import is_utf8
from samkr_edge.terminal import say


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def behind(path: Path) -> Path:
    """The file that a symbolic link leads to, if related files are next to it: a passport, a list of layers.

    In a store that names files by their hash there are none: then the link's own name counts, as does the name of a
    path that is not a link.
    """
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    return real if any(real.parent.glob(f"{glob.escape(real.name)}.*")) else path


# Bytes, on all of Linux's file systems.
_LONGEST_NAME = 255


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path next to ``path`` to write to; on success it gets ``path``'s name, else it is deleted.

    The temporary name keeps the suffix, since libraries choose formats by it.

    Raises:
        SamkrError: SE-D01 when the file cannot be written (no permission, full disk).
    """
    with replacing_together(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_together(*paths: str | Path) -> Iterator[tuple[Path, ...]]:
    """``replacing`` for files of one folder that must agree: a built model and its passport.

    All are written before any is renamed, the first one last, while no other writer or reader of such files
    (``undisturbed``) is active. Of two simultaneous writers one wins, with all of its files. A kill between two
    renames leaves files that do not match, so every reader compares hashes.
    """
    targets = [Path(path) for path in paths]
    writer = _writer()
    temporaries = tuple(part_of(target, writer) for target in targets)
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
        yield temporaries
        for temporary, target in zip(temporaries, targets, strict=True):
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            with suppress(FileNotFoundError):  # found before the others are renamed
                require_kind(target)
        with undisturbed(targets[0].parent, alone=True):
            for temporary, target in reversed([*zip(temporaries, targets, strict=True)]):
                os.replace(temporary, target)
    except OSError as error:
        if not _is_about(error, targets):
            raise
        raise unwritable(targets[0], error) from error
    finally:
        for temporary in temporaries:
            with suppress(OSError):  # if the folder itself is impossible, there is nothing to remove
                temporary.unlink(missing_ok=True)


def _is_about(error: OSError, targets: Sequence[Path]) -> bool:
    """Whether an error comes from writing these files; reading their sources may fail, too."""
    if not isinstance(error.filename, str):
        # The error of a full disk names no file; a write never reports a missing one.
        return error.errno != errno.ENOENT
    named = Path(error.filename)
    return any(named in target.parents or named.parent == target.parent for target in targets)


@contextmanager
def undisturbed(folder: Path, *, alone: bool = False, waiting: str = "") -> Iterator[None]:
    """Lock a folder while files that must match are read or, ``alone``, renamed.

    The lock is short, works between processes and threads, and a killed holder releases it. File systems and
    systems (Windows) without such locks do without: then, too, files that do not match are refused by their hashes.
    ``waiting``, if any, is said where another has the lock: one that is not short.
    """
    with ExitStack() as held:
        with suppress(OSError, ImportError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    say(waiting)
                fcntl.flock(descriptor, kind)
        yield


def _writer() -> str:
    """A name for one write. The process id is not enough: threads, and containers that share a folder, write too."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def part_of(target: Path, writer: str = "") -> Path:
    """The hidden name next to ``target`` under which a process writes it, no longer than a name can be."""
    end = f".{writer or os.getpid()}.part{target.suffix}"
    return target.with_name(f".{fitting(target.stem, len(os.fsencode(end)) + 1)}{end}")


def fitting(stem: str, room: int) -> str:
    """``stem``, shortened if with ``room`` more bytes it is longer than a file name can be.

    A hash replaces what is cut off, so that different stems stay different.
    """
    name = os.fsencode(stem)
    if len(name) + room <= _LONGEST_NAME:
        return stem
    mark = hashlib.sha256(name).hexdigest()[:8]
    # A character of several bytes may have been cut in two: the rest of it is dropped.
    return name[: _LONGEST_NAME - room - len(mark) - 1].decode("utf-8", "ignore") + f"~{mark}"


def way_out(error: OSError) -> str:
    """The fix for a file that could not be written."""
    return {
        errno.ENAMETOOLONG: "give it a shorter name",
        errno.ENOSPC: "choose another place, or free some space there",
        errno.EDQUOT: "choose another place, or free some space there",
    }.get(error.errno or 0, "choose another place")


def require_writable(path: str | Path, *, folder: bool = False) -> None:
    """Before minutes of work: SE-D01 if a file, or files in a ``folder``, could not be written at the end.

    Nothing is left behind, no folder either: of missing folders, the nearest existing parent is checked.
    """
    target = Path(path)
    try:
        with suppress(FileNotFoundError):
            require_kind(target, folder=folder)
        place = target if folder else target.parent
        there = next(known for known in (place, *place.parents) if known.exists())
        probe = part_of(there / "writable", _writer())
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(target, error, "nothing was done") from error


def unwritable(target: Path, error: OSError, so: str = "the previous file is unchanged") -> SamkrError:
    """SE-D01; ``so`` says what follows."""
    return SamkrError(
        "SE-D01",
        f"{target} could not be written, so {so}",
        {"reason": error.strerror or error},
        fix=way_out(error),
    )


def require_kind(target: Path, *, folder: bool = False) -> None:
    """OSError if this name belongs to something no file may replace: a folder, or a device (root could, /dev/null)."""
    mode = target.stat().st_mode
    if folder and not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    if not folder and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not folder and not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "a device or a pipe has this name, not a file", str(target))


def write_json(path: str | Path, payload: Any) -> None:
    """Write ``payload`` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(payload), encoding="utf-8")


def json_text(payload: Any, indent: int | None = 2) -> str:
    """What ``write_json`` writes; parts of file names that are no UTF-8 as ``\\udcXX``, as Python reads them."""
    text = json.dumps(payload, indent=indent, ensure_ascii=False)
    if not text.isascii() and not is_utf8(text):
        text = json.dumps(payload, indent=indent)
    return text + "\n"


def read_json(path: str | Path, what: str) -> Any:
    """Read JSON, with or without a byte order mark; ``what`` names the file's role in the error.

    Raises:
        SamkrError: SE-A23 missing, SE-D04 the system refuses it, SE-D03 not JSON.
    """
    try:
        return json_of(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise not_opened(error, path, what) or refusal(error) from error
    except ValueError as error:
        where = (
            f"line {error.lineno}, column {error.colno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else reason_of(error)
        )
        raise SamkrError(
            "SE-D03",
            f"{what} {path} is not valid JSON",
            {"at": where, "size": f"{os.path.getsize(path)} bytes"},
            fix="restore the file from its source; it may have been cut off while being written",
        ) from error


def json_of(text: str) -> Any:
    """The value of a JSON text; raises ValueError for anything else."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error


def json_in(path: Path) -> Any:
    """The JSON of a file; None if it is missing, cannot be read or is not JSON."""
    try:
        return json_of(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
