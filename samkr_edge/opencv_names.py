"""File names for OpenCV's videos, which are handed to FFmpeg as UTF-8."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def name_for_opencv(path: str | os.PathLike[str]) -> Iterator[str]:
    """The absolute name of a file to open for reading or writing within ``with``; what is open may stay so.

    Relative, ``12:30:05.mp4`` would be taken for an address. A name that is no UTF-8, as disks and archives from
    elsewhere have, ends the process inside OpenCV: a link in a temporary folder stands for it.
    """
    name = os.path.abspath(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="samkr-edge-") as folder:
            link = Path(folder) / f"video{Path(name).suffix.encode('ascii', 'ignore').decode()}"
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
