"""The sources of `predict`: files, folders, globs, cameras, streams; all are checked before the first image."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.file_kind import file_kind, kind_by_ending
from samkr_edge.files.named import missing_file
from samkr_edge.files.own_files import made_by_predict
from samkr_edge.fixes import look_beside, quoted
from samkr_edge.frames.live_capture import is_live
from samkr_edge.frames.opening import open_video
from samkr_edge.stream_address import is_like_address, without_secrets

_NOTHING_DONE = ", so nothing was done"
_LEFT_OUT = ", so it was skipped"
_NEITHER = "neither an image nor a video"


@dataclass
class Sources:
    """The sources that were found.

    Attributes:
        images: files, in the order of the command line; those of a folder or glob sorted.
        streams: video files, cameras and addresses, in the same order.
        left_out: file or folder -> why it is skipped.
        damaged: why videos of a folder or glob do not open, and later cameras and addresses, which are opened when
            their turn comes; the other sources are processed.
    """

    images: list[Path] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    damaged: list[SamkrError] = field(default_factory=list)

    def note(self) -> str | None:
        """One line about what was skipped; None if nothing was."""
        shown = self.shown_left_out()
        return f"skipped: {shown}" if shown else None

    def shown_left_out(self) -> str:
        shown = [f"{path.name} ({reason})" for path, reason in list(self.left_out.items())[:4]]
        more = len(self.left_out) - len(shown)
        return f"{', '.join(shown)}{f' and {more} more' if more else ''}"


def find_sources(words: Sequence[str]) -> Sources:
    """The images and videos behind the words of a command line.

    A named file that is neither is an error before anything is processed. In a folder or glob it is skipped and
    reported. Our own overlays are always skipped: a shell's glob names files too.

    Raises:
        SamkrError: SE-A23 a word names nothing, SE-D29 nothing was found, SE-D04 the system refuses a file,
            SE-D97 a named video does not open.
    """
    found = Sources()
    problems: list[SamkrError] = []
    for word in words:
        path = Path(word)
        if os.path.isdir(word):
            for entry in sorted(path.iterdir()):
                _add(found, entry)
        elif os.path.isfile(word):
            problems += _add_named(found, path)
        elif os.path.exists(word):  # a device, a pipe
            found.streams.append(word)
        elif is_live(word.strip()):
            found.streams.append(word.strip())
        elif matches := _matches(word):
            for match in matches:
                _add(found, Path(match))
        else:
            problems.append(_missing(word))
    if problems:
        raise problems[0] if len(problems) == 1 else _several(problems, len(words))
    if not (found.images or found.streams or found.damaged):
        raise SamkrError(
            "SE-D29",
            "no image and no video was found, so nothing was done",
            {
                "looked in": ", ".join(map(without_secrets, words[:4]))[:150],
                "skipped": found.shown_left_out() or None,
            },
            fix="name an image or a video, or a folder that holds some",
        )
    return found


def _add(found: Sources, path: Path) -> None:
    """One entry of a folder or glob; an image or video without permission to read it counts as damaged."""
    try:
        reason = _of_many(found, path)
    except OSError as refused:
        kind = None if path.name.startswith(".") else kind_by_ending(path)
        if kind is None:
            found.left_out[path] = refused.strerror or reason_of(refused)
        elif kind.medium == "image":
            found.images.append(path)  # its reader will report it
        else:
            found.damaged.append(_refused(path, refused, _LEFT_OUT))
        return
    if reason is not None:
        found.left_out[path] = reason
    elif found.streams[-1:] == [str(path)] and (error := _why_not(path)) is not None:
        found.damaged.append(left_out(error))
        found.streams.pop()


def left_out(error: SamkrError) -> SamkrError:
    """The error of a source that does not open, while the others are processed."""
    message = error.message.replace(_NOTHING_DONE, _LEFT_OUT)
    return SamkrError(error.code, message, error.facts, error.fix)


def _of_many(found: Sources, path: Path) -> str | None:
    """Sort one entry of many into images or videos; returns why it is neither."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return "a folder"
    if path.name.startswith("."):
        return "hidden"
    if not stat.S_ISREG(mode):
        return "a pipe or a device"  # which would be waited for
    return _sort_in(found, path)


def _add_named(found: Sources, path: Path) -> list[SamkrError]:
    """Sort one named file; returns what is wrong with it."""
    try:
        reason = _sort_in(found, path)
    except OSError as refused:
        return [_refused(path, refused)]
    if reason == _NEITHER:
        return [SamkrError("SE-D29", f"{path} is {_NEITHER}{_NOTHING_DONE}", fix=f"file {quoted(path)}")]
    if reason is not None:
        found.left_out[path] = reason
        return []
    error = _why_not(path) if found.streams[-1:] == [str(path)] else None
    return [] if error is None else [error]


def _sort_in(found: Sources, path: Path) -> str | None:
    """Sort a file into images or videos; returns why it is neither."""
    if made_by_predict(path):
        return "made by predict"
    kind = file_kind(path)
    if kind is None:
        return _NEITHER
    if kind.medium == "image":
        found.images.append(path)
    else:
        found.streams.append(str(path))
    return None


def _refused(path: Path | str, error: OSError, so: str = _NOTHING_DONE) -> SamkrError:
    """The error for an existing file that the system refuses."""
    reason = error.strerror or reason_of(error)
    shown = without_secrets(str(path))
    return SamkrError("SE-D04", f"{shown} could not be read ({reason}){so}", fix=f"ls -l {quoted(shown)}")


def _why_not(path: Path) -> SamkrError | None:
    """Why a video file does not open."""
    try:
        open_video(str(path)).close()
    except SamkrError as error:
        return error
    return None


def _matches(word: str) -> list[str]:
    return sorted(glob.glob(_existing_as_it_is(word), recursive=True)) if glob.has_magic(word) else []


def _existing_as_it_is(pattern: str) -> str:
    """Parts of a pattern that exist literally, as ``[x]`` in ``[x]/*.png``, are not patterns."""
    before = ""
    parts = pattern.split(os.sep)
    for number, part in enumerate(parts):
        if not os.path.exists(before + part) and part:
            break
        before += part + os.sep
        parts[number] = glob.escape(part)
    return os.sep.join(parts)


def _missing(word: str) -> SamkrError:
    try:
        os.stat(word)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        return _refused(word, error)
    if glob.has_magic(word):
        return SamkrError(
            "SE-D29", f"nothing matches {without_secrets(word)}{_NOTHING_DONE}", fix=look_beside(word)
        )
    fix = None
    if is_like_address(word):
        fix = (
            "write it as rtsp://user:password@host/path; in a pipeline, with a space before and after every !"
        )
    return missing_file(without_secrets(word), "image, video or folder", fix)


def _several(problems: list[SamkrError], count: int) -> SamkrError:
    shown = problems if len(problems) <= 4 else problems[:3]
    return SamkrError(
        problems[0].code,
        f"{len(problems)} of {count} sources cannot be used, so nothing was done",
        {
            "problem": [problem.message.removesuffix(_NOTHING_DONE)[:150] for problem in shown],
            "and more": len(problems) - len(shown) or None,
        },
        fix=problems[0].fix,
    )
