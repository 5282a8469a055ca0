"""File names for OpenCV's videos, which reach FFmpeg as UTF-8."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samkr_edge.files.temporary import temporary_folder


@contextmanager
def name_for_opencv(path: str | os.PathLike[str]) -> Iterator[str]:
    """The absolute name of a file to open inside ``with``, for reading or writing; it may stay open afterwards.

    A relative ``12:30:05.mp4`` would be taken for an address. A name that is not UTF-8, common on foreign disks and in
    archives, crashes the process inside OpenCV: a link in a temporary folder replaces it.
    """
    name = os.path.abspath(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        with temporary_folder() as folder:
            link = folder / f"video{Path(name).suffix.encode('ascii', 'ignore').decode()}"
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
