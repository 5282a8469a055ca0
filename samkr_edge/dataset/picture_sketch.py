"""A few pictures of a set that represent all of it, and recognise it after renaming or mixing.

It is a bottom-k sketch (Broder 1997): pictures are ordered by a hash of their size in bytes, and those of one size by a
hash of their content; the first ``KEPT`` represent all. Only these are read; of the others only the size is needed. Two
sets are compared up to where both sketches reach: the share of common pictures there estimates the share in all.

A picture that was saved again, by any tool, is a different one.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samkr_edge.files.artefact import sha256_of

# One in 60 of 60,000 pictures: 97 % of all choices of 200 of them contain one of these.
KEPT = 1024
_BYTES = 4  # of each hash: among a thousand pictures one in four million is taken for another


@dataclass(frozen=True)
class FirstPictures:
    """The first pictures of a set in the order above.

    Attributes:
        places: of each, 4 bytes of its size's hash and 4 of its content's; ascending, no two alike.
        up_to: the last of them; None: they are all.
    """

    places: tuple[bytes, ...]
    up_to: bytes | None

    @classmethod
    def of(cls, files: Sequence[Path]) -> FirstPictures:
        """Gets the size of every file, and reads only those that are kept, unless many have one size."""
        by_size: dict[bytes, list[Path]] = defaultdict(list)
        for file in files:
            with suppress(OSError):  # its reader will say more
                size = str(file.stat().st_size).encode()
                by_size[hashlib.sha256(size).digest()[:_BYTES]].append(file)
        places: list[bytes] = []
        for key in sorted(by_size):
            if len(places) >= KEPT:
                return cls(tuple(places[:KEPT]), places[KEPT - 1])
            # All of one size: ordered by content.
            places += sorted({key + _content_hash(file) for file in by_size[key]})
        return cls(tuple(places[:KEPT]), places[KEPT - 1] if len(places) > KEPT else None)

    def common_with(self, sketch: Sketch) -> tuple[int, int]:
        """(how many of these are within the reach of both, how many of those are in the sketch)."""
        reach = [last for last in (self.up_to, sketch.up_to) if last is not None]
        compared = [place for place in self.places if all(place <= last for last in reach)]
        return len(compared), sum(place[_BYTES:] in sketch.contents for place in compared)


@dataclass(frozen=True)
class Sketch:
    """What a card keeps of the pictures that a network learned from.

    Attributes:
        count: their number.
        contents: 4 bytes of the SHA-256 of each picture of the sketch.
        up_to: the last of these in the order above, 4 bytes by its size and 4 by its content; None: they are all.
    """

    count: int
    contents: frozenset[bytes]
    up_to: bytes | None

    @classmethod
    def of(cls, files: Sequence[Path]) -> Sketch:
        first = FirstPictures.of(files)
        return cls(len(files), frozenset(place[_BYTES:] for place in first.places), first.up_to)

    @classmethod
    def of_hashes(cls, hashes: Sequence[Any]) -> Sketch | None:
        """All of these pictures, by the SHA-256 of each, in hex digits; None for anything else."""
        try:
            contents = frozenset(bytes.fromhex(digest)[:_BYTES] for digest in hashes)
        except (TypeError, ValueError):
            return None
        return cls(len(hashes), contents, None) if hashes else None

    def to_dict(self) -> dict[str, Any]:
        """For a card: about 5 kB at most."""
        contents = base64.b64encode(b"".join(sorted(self.contents))).decode()
        return {"images": self.count, "sha256": contents, "up_to": self.up_to.hex() if self.up_to else None}

    @classmethod
    def from_dict(cls, data: Any) -> Sketch | None:
        """Inverse of ``to_dict``; None for anything else."""
        try:
            contents = base64.b64decode(data["sha256"], validate=True)
            up_to = None if data["up_to"] is None else bytes.fromhex(data["up_to"])
            count = int(data["images"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        hashes = (contents[at : at + _BYTES] for at in range(0, len(contents), _BYTES))
        return cls(count, frozenset(hashes), up_to)


def _content_hash(file: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_of(file))[:_BYTES]
    except OSError:
        return bytes(_BYTES)  # likewise
