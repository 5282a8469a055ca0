"""A file that the operating system refuses: no permission, a failing disk, a link to itself.

Each reader explains what is wrong inside its own kind of file. A file that cannot be opened or read at all is the same
for every kind, so that is handled here, once.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.named import NO_FILE, missing_file
from samkr_edge.fixes import quoted
from samkr_edge.printable import is_utf8

# Not ENOENT: a user's missing file is reported by its reader, and one of ours would be a bug.
_REFUSED = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
        errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EMFILE, errno.ENFILE,
    }
)  # fmt: skip
_LONGEST_PATH = 4096


def refused_file(error: BaseException) -> SamkrError | None:
    """SE-D04 if the system refused a file or cannot handle its name; None for any other exception."""
    if isinstance(error, UnicodeError):
        return _of_encodings(error)
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    return refusal(error)


def refusal(error: OSError) -> SamkrError:
    """SE-D04, whatever the system's reason is."""
    file = error.filename
    # A read that fails midway names no file; then the command line is all that can be shown.
    return SamkrError(
        "SE-D04",
        f"{file} could not be read or written" if file else "a file could not be read or written",
        {"reason": error.strerror or reason_of(error)},
        fix=_way_out(error),
    )


def not_opened(
    error: BaseException, path: str | Path, what: str, fix: str | None = None
) -> SamkrError | None:
    """SE-A23 if a user's file is missing, SE-D04 if the system refuses it; None if what is in it is at fault.

    Args:
        what: kind of file that was expected: ``model``, ``checkpoint``.
        fix: for the missing file, in place of a look at the nearest folder.
    """
    if isinstance(error, NO_FILE):
        return missing_file(path, what, fix)
    return refused_file(error) if isinstance(error, OSError) else None


def _way_out(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR) and error.filename:
        return f"namei -l {quoted(os.fsdecode(error.filename))}   # it, and every folder above"
    return {
        errno.EISDIR: "name a file in this folder",
        errno.ENAMETOOLONG: "give it a shorter name",
        errno.EROFS: "choose a writable place",
        errno.ENOSPC: "free some space there, or choose another place",
        errno.EDQUOT: "free some space there, or choose another place",
        errno.EMFILE: "ulimit -n 4096   # or fewer files at once",
        errno.ENFILE: "close other programs that have many files open",
    }.get(error.errno or 0, "copy the files of this command to another disk, then try again")


def _of_encodings(error: UnicodeError) -> SamkrError | None:
    """Names that the system's encoding lacks, and other packages' files read in that encoding."""
    here = sys.getfilesystemencoding()
    if isinstance(error, UnicodeDecodeError):
        if here == "utf-8" or error.encoding != here:
            return None
        message = f"a required package reads its files as {here} here, but they are not"
    elif (
        not isinstance(error, UnicodeEncodeError) or "\n" in error.object or len(error.object) > _LONGEST_PATH
    ):
        return None
    elif _is_no_name(error.object):
        message = f"{error.object} cannot be the name of a file here, where names are {here}"
    elif not is_utf8(error.object):
        return SamkrError(
            "SE-D04",
            f"the name {error.object} is not UTF-8, and it has to be written into a UTF-8 file",
            fix="give it another name, then run the same command again",
        )
    else:
        return None
    return SamkrError("SE-D04", message, fix="export PYTHONUTF8=1   # then run the same command again")


def _is_no_name(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return True
    return False
