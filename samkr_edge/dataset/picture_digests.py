"""Which pictures something was made from. Names and sizes are not enough: pictures can be changed in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.files.artefact import sha256_of

# Of a training split: few enough to read before every start; a tool that changes pictures changes more than a few.
_SAMPLED = 200


def sampled_digest(images: Sequence[ImageRecord]) -> str:
    """``pictures_digest`` of a fixed few, spread over all: for splits too large to read at a start."""
    return pictures_digest(images[:: max(1, len(images) // _SAMPLED)])


def pictures_digest(images: Iterable[ImageRecord]) -> str:
    """SHA-256 over id, file name and bytes of every picture, in order; a missing one counts as missing.

    It is the same on every machine, so it identifies results that travel. It reads as much as scoring does.
    """
    digest = hashlib.sha256()
    for image in images:
        content = sha256_of(image.path) if image.path.is_file() else "missing"
        digest.update(os.fsencode(f"{image.id} {image.path.name} {content}\n"))
    return digest.hexdigest()


def disk_state(files: Iterable[Path]) -> str:
    """SHA-256 over name, size and times of every file: for deciding about a cache without reading a large split.

    On one machine, any write changes it; so does copying the files, which only costs work done again. The time of
    the last status change counts too, which no program can set back.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            found = file.stat()
            state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        except OSError:
            state = "missing"
        digest.update(os.fsencode(f"{file.name} {state}\n"))
    return digest.hexdigest()
