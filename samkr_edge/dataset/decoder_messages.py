"""Which image a decoder complains about: libjpeg and libpng print to descriptor 2 without a file name.

OpenCV has no callback for them. So while one image is decoded, descriptor 2 is a file in memory; what is in it
afterwards is about that image. The descriptor belongs to the whole process, so images are decoded one at a time while
this listens, and what others print in those milliseconds is passed on. Only command lines do this: a user's program
keeps its descriptor.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samkr_edge.dataset.annotations import listed
from samkr_edge.images import read_image

_DECODERS = re.compile(
    rb"(Corrupt JPEG data|Premature end of JPEG|Invalid SOS param|Unsupported marker|Unknown Adobe|"
    rb"Warning: unknown JFIF|Inconsistent progression|Application transferred too (few|many) scanlines|libpng |"
    rb"iCCP: |TIFF\w*: ).*"
)
_ALONE = threading.Lock()  # there is only one descriptor 2


@contextmanager
def listening() -> Iterator[list[str]]:
    """At the end of ``with``, fill the list with what image decoders printed inside; one listener at a time."""
    said: list[str] = []
    with _ALONE:
        try:
            before = os.dup(2)
            heard = os.memfd_create("decoders")
        except (OSError, AttributeError):  # no stderr, or not Linux: messages go where they always do
            yield said
            return
        os.dup2(heard, 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            for line in os.pread(heard, os.fstat(heard).st_size, 0).splitlines(keepends=True):
                if _DECODERS.match(line):
                    said.append(line.decode(errors="replace").strip())
                else:
                    os.write(before, line)
            os.close(heard)
            os.close(before)


class ListeningReader:
    """Reads images, and remembers the first thing that a decoder said about each.

    It listens when an image is read for the first time, and later only if there was a message: images that are read
    repeatedly are decoded in all threads.

    Attributes:
        said: file -> message.
    """

    def __init__(self) -> None:
        self.said: dict[Path, str] = {}
        self._silent: set[Path] = set()

    def read(self, path: Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB, as ``samkr_edge.images.read_image``."""
        if path in self._silent:
            return read_image(path, upright=upright)
        with listening() as said:
            image = read_image(path, upright=upright)
        if said:
            self.said[path] = said[0]
        else:
            self._silent.add(path)
        return image

    def note(self) -> str | None:
        """One line for people, None without messages."""
        if not self.said:
            return None
        first = listed([f"{path} ({message})" for path, message in sorted(self.said.items())])
        return f"{damaged_images(len(self.said))}: {first}"


def damaged_images(count: int) -> str:
    """How many images a decoder complained about."""
    return f"{count} image{' is' if count == 1 else 's are'} partly damaged, and read as far as possible"
