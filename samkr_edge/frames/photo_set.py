"""The pictures behind `--photos`: files, folders with all that is below them, globs, and frames of videos.

Every picture of the set is a file that all readers read alike: frames, and photographs that EXIF turns, are copied
upright into a temporary folder, other photographs stay where they are. At most one picture is in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2

from samkr_edge.dataset.decoder_messages import listening
from samkr_edge.dataset.exif import orientation_of
from samkr_edge.dataset.photos import KnownPictures, Photo, PhotoCandidate, Photos, choose, look_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.files.temporary import temporary_folder
from samkr_edge.fixes import quoted
from samkr_edge.frames.sources import Sources, find_sources
from samkr_edge.frames.spread_frames import spread_frames
from samkr_edge.images import read_image
from samkr_edge.progress import progress
from samkr_edge.stream_address import without_secrets
from samkr_edge.terminal import say

_JPEG_QUALITY = 95  # of a copy; cameras use less
# Frames of a video that are looked at, for each that is wanted: most scenes stand still for a while.
_TRIED = 4


@contextmanager
def photo_set(
    words: Sequence[str | Path], count: int, *, seed: int = 0, leave_out: KnownPictures | None = None
) -> Iterator[Photos]:
    """At most ``count`` pictures of what ``words`` name; the copies among them are deleted at the end of ``with``.

    A folder, and each folder below it, is a source, and so is each video; they give pictures by turns. The choice and
    its order follow from the seed and from the names and sizes of the files, wherever these lie. What was left out,
    and what could not be read, is told on stderr.

    Args:
        words: files, folders, globs.
        count: how many are wanted.
        seed: of the choice.
        leave_out: pictures that are not to be chosen, nor what looks like them.

    Raises:
        SamkrError: SE-D56 a camera or an address is named, SE-D57 no picture is left; the errors of ``find_sources``
            and of ``temporary_folder``.
    """
    found = _sources(words)
    unread = _not_found(found)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(found.images):
        folders[path.parent].append(path)
    keyed = [_photographs(paths, seed, unread) for paths in folders.values()]
    keyed += [_frames(Path(video), count, seed, unread) for video in dict.fromkeys(found.streams)]
    sources = [source for _, source in sorted(keyed, key=lambda pair: pair[0])]
    with temporary_folder() as copies:
        with progress("choosing photos", count, unit="photos") as advance:

            def keep(candidate: PhotoCandidate) -> Photo:
                advance()
                return _copied(candidate, copies)

            choice = choose(sources, count, keep, leave_out)
        photos = Photos(choice.photos, count, seed, choice.alike, choice.known, unread)
        if not photos.chosen:
            raise _none_left(photos)
        for line in photos.notes():
            say(line)
        yield photos


def photo_files(words: Sequence[str | Path]) -> list[Path]:
    """The images and videos that ``photo_set`` would choose from.

    Raises:
        SamkrError: SE-D56 a camera or an address is named; the errors of ``find_sources``.
    """
    found = _sources(words)
    return [*found.images, *map(Path, found.streams)]


def _sources(words: Sequence[str | Path]) -> Sources:
    found = find_sources(_with_folders_below(words))
    if live := [stream for stream in found.streams if not os.path.isfile(stream)]:
        name = without_secrets(live[0])
        recorded = f"/dev/video{name}" if name.isdecimal() else name
        raise SamkrError(
            "SE-D56",
            f"{name} is no file, and photos are taken from files, so nothing was done",
            fix=f"ffmpeg -i {quoted(recorded)} -t 60 recorded.mp4   # then name the video",
        )
    return found


def _with_folders_below(words: Sequence[str | Path]) -> list[str]:
    """Each folder is followed by the folders below it, hidden ones left out; links to folders are not followed."""
    found: list[str] = []
    for word in map(str, words):
        found.append(word)
        if os.path.isdir(word):
            for folder, below, _ in os.walk(word):
                below[:] = sorted(
                    name
                    for name in below
                    if not (name.startswith(".") or os.path.islink(os.path.join(folder, name)))
                )
                found += [os.path.join(folder, name) for name in below]
    return found


def _not_found(found: Sources) -> dict[str, str]:
    """Name -> why, of images and videos that cannot be used; other files are nobody's photographs."""
    unread = {path.name: reason for path, reason in found.left_out.items() if reason == "made by predict"}
    return {
        **unread,
        **{error.message.removesuffix(", so it was skipped"): error.code for error in found.damaged},
    }


def _photographs(
    paths: Sequence[Path], seed: int, unread: dict[str, str]
) -> tuple[str, Iterator[PhotoCandidate]]:
    """The photographs of one folder in the order of their keys, and the first key."""
    keyed = sorted((_key(path, seed), path) for path in paths)
    return keyed[0][0], _read_one_by_one([path for _, path in keyed], unread)


def _read_one_by_one(paths: Sequence[Path], unread: dict[str, str]) -> Iterator[PhotoCandidate]:
    for path in paths:
        try:
            with listening():  # who uses the picture tells what its decoder says
                image = read_image(path, upright=True)
            digest = sha256_of(path)
        except SamkrError as error:
            unread[path.name] = str(error.facts.get("reason", error.message))
            continue
        height, width = image.shape[:2]
        photo = Photo(path, path.name, digest, look_of(image), width, height)
        yield PhotoCandidate(photo, None if orientation_of(path) == 1 else image)


def _frames(
    path: Path, count: int, seed: int, unread: dict[str, str]
) -> tuple[str, Iterator[PhotoCandidate]]:
    """Frames of one video, any first part of them spread over it, and the video's key."""
    key = _key(path, seed)
    return key, _as_candidates(path, _TRIED * count, int(key[:8], 16) / 16**8, unread)


def _as_candidates(path: Path, count: int, start: float, unread: dict[str, str]) -> Iterator[PhotoCandidate]:
    seen = 0
    for number, frame in spread_frames(path, count, start):
        seen += 1
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        digest = hashlib.sha256(f"{width}x{height} ".encode() + image.tobytes()).hexdigest()
        photo = Photo(path, f"{path.name} frame {number}", digest, look_of(image), width, height, number)
        yield PhotoCandidate(photo, image)
    if not seen:
        unread[path.name] = "no frame could be decoded"


def _copied(candidate: PhotoCandidate, folder: Path) -> Photo:
    """The picture with a file that every reader reads upright."""
    if candidate.pixels is None:
        return candidate.photo
    photo = candidate.photo
    path = folder / f"{photo.sha256[:16]}.jpg"
    bgr = cv2.cvtColor(candidate.pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    path.write_bytes(data.tobytes())
    return replace(photo, path=path)


def _key(path: Path, seed: int) -> str:
    """Where a file comes in the order; a file without size counts as empty, and its reader will say why."""
    size = path.stat().st_size if path.exists() else 0
    return hashlib.sha256(b"%d %d " % (seed, size) + os.fsencode(path.name)).hexdigest()


def _none_left(photos: Photos) -> SamkrError:
    known = photos.known
    return SamkrError(
        "SE-D57",
        "no photo is left to use, so nothing was done",
        {
            "could not be read": [f"{name}: {reason}" for name, reason in list(photos.unread.items())[:3]],
            "calibrated on": f"{known} of them, or of their likes" if known else None,
        },
        fix="name other pictures, or quantize again on fewer of these, with a smaller --images"
        if known
        else "name a folder of photographs that open in an image viewer",
    )
