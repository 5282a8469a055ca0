"""Which pictures something was made from. Their names and sizes do not say it: pictures are changed in place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.files.artefact import sha256_of

# Of a training split: few enough to be read before every start, and what changes pictures changes more than a few.
_SAMPLED = 200


def sampled_digest(images: Sequence[ImageRecord]) -> str:
    """``pictures_digest`` of a fixed few, spread over all of them: for splits too large to be read at a start."""
    return pictures_digest(images[:: max(1, len(images) // _SAMPLED)])


def pictures_digest(images: Iterable[ImageRecord]) -> str:
    """SHA-256 over id, file name and bytes of every picture, in order; one that is missing counts as such.

    The same on every machine, so results that travel are told apart by it. It reads as much as scoring them does.
    """
    digest = hashlib.sha256()
    for image in images:
        content = sha256_of(image.path) if image.path.is_file() else "missing"
        digest.update(f"{image.id} {image.path.name} {content}\n".encode())
    return digest.hexdigest()


def disk_state(files: Iterable[Path]) -> str:
    """SHA-256 over name, size and times of every file: for splits too large to be read to decide about a cache.

    Whatever is written changes it, on the machine where it was taken; so does copying the files, and then too much is
    made again rather than too little. The time of the last change of status counts too, which no program sets back.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            found = file.stat()
            state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{file.name} {state}\n".encode())
    return digest.hexdigest()
