"""Photographs without labels: a choice of them that is the same everywhere and shows nothing twice.

Pictures that look alike, such as neighbouring frames of a video, add nothing to a calibration, and make an evaluation
look more certain than it is. So each picture has a difference hash (Krawetz, "Kind of Like That", hackerfactor.com,
2013), here of 16 x 16 bits, and one that is close to a chosen picture is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samkr_edge.dataset.annotations import ImageRecord
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from samkr_edge.model_card import ModelCard

# Bits of 256. A photograph that was shrunk, saved again or made brighter changes fewer; other photographs differ in 65
# and more.
ALIKE = 20
# Where the camera stands still, people change few bits by moving: frames of a video are alike if next to nothing moved.
STILL = 2
_SIDE = 16
# Steps of brightness by which a neighbour must differ: flat walls and skies have no bits that noise could turn.
_MARGIN = 1.0


@dataclass(frozen=True)
class Photo:
    """One picture of the choice.

    Attributes:
        path: a file with its pixels upright: the photograph, or a copy if it is a video's frame or turned by EXIF.
        name: for people: ``beach.jpg``, ``walk.mp4 frame 120``.
        sha256: of the photograph's file; of a frame's pixels.
        look: the difference hash, 64 hex digits.
        width, height: pixels, upright.
        frame: its number in the video; None for a photograph.
    """

    path: Path
    name: str
    sha256: str
    look: str
    width: int
    height: int
    frame: int | None = None


@dataclass(frozen=True)
class KnownPictures:
    """Pictures that must not be chosen, by content and by look: those that a network was calibrated on."""

    sha256: frozenset[str] = frozenset()
    looks: tuple[str, ...] = ()

    @classmethod
    def calibrating(cls, cards: Iterable[ModelCard]) -> KnownPictures:
        """Those that the models of these cards were calibrated on; looks are known for photographs only."""
        sha256: set[str] = set()
        looks: dict[str, None] = {}
        left: list[Any] = [card.provenance for card in cards]
        while left:
            facts = left.pop()
            if isinstance(facts, Mapping):
                calibration = facts.get("calibration")
                if isinstance(calibration, Mapping):
                    sha256 |= set(_texts(calibration.get("sha256")))
                    looks |= dict.fromkeys(
                        text for text in _texts(calibration.get("looks")) if _is_look(text)
                    )
                left += facts.values()
        return cls(frozenset(sha256), tuple(looks))


@dataclass(frozen=True)
class Photos:
    """The choice.

    Attributes:
        chosen: in the order of choosing: any first part of them is spread over all sources too.
        asked: how many were wanted.
        seed: of the choice.
        alike: how many pictures were left out because they look like a chosen one.
        known: how many were left out because they, or their likes, were not to be chosen.
        unread: name -> why, of pictures that could not be read.
    """

    chosen: tuple[Photo, ...]
    asked: int
    seed: int
    alike: int = 0
    known: int = 0
    unread: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.chosen)

    def first(self, count: int) -> Photos:
        """The first ``count`` of them."""
        return replace(self, chosen=self.chosen[:count], asked=min(count, len(self.chosen)))

    def after(self, count: int) -> Photos:
        """The others."""
        return replace(self, chosen=self.chosen[count:], asked=len(self.chosen[count:]))

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """As images of a data set, numbered from 1."""
        return tuple(
            ImageRecord(number, photo.path, photo.width, photo.height)
            for number, photo in enumerate(self.chosen, 1)
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For cards and JSON; ``KnownPictures`` reads them."""
        return {
            "images": len(self.chosen),
            "seed": self.seed,
            "sha256": [photo.sha256 for photo in self.chosen],
            "looks": [photo.look for photo in self.chosen],
            "photos": True,
        }

    def notes(self) -> list[str]:
        """Lines for people: how many were chosen, what was left out and why."""
        few = f" of {self.asked} asked for" if len(self.chosen) < self.asked else ""
        out = [f"{self.alike} that look like a chosen one"] * bool(self.alike)
        out += [f"{self.known} that the model was calibrated on, or their likes"] * bool(self.known)
        lines = [f"photos: {counted(len(self.chosen), 'picture')}{few}"]
        lines[0] += f"; left out: {', '.join(out)}" if out else ""
        if self.unread:
            shown = [f"{name} ({reason})" for name, reason in list(self.unread.items())[:3]]
            more = len(self.unread) - len(shown)
            lines.append(
                f"photos: could not be read: {', '.join(shown)}{f' and {more} more' if more else ''}"
            )
        return lines


def look_of(image: np.ndarray) -> str:
    """The difference hash of an image, uint8 (H, W, 3) RGB: 64 hex digits.

    The image is shrunk to 17 x 16 gray pixels; a bit says whether a pixel's right neighbour is brighter.
    """
    import cv2

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # OpenCV's area filter is exact where it shrinks; a picture smaller than the hash is enlarged.
    small = cv2.resize(gray.astype(np.float32), (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(np.diff(small, axis=1) > _MARGIN).tobytes().hex()


def bits_between(one: str, other: str) -> int:
    """In how many of 256 bits two looks differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@dataclass(frozen=True)
class PhotoCandidate:
    """A picture that may be chosen; its upright pixels, uint8 (H, W, 3) RGB, where its file does not give them."""

    photo: Photo
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class PhotoChoice:
    """What ``choose`` chose, and how many pictures it left out, see ``Photos``."""

    photos: tuple[Photo, ...]
    alike: int
    known: int


def choose(
    sources: Sequence[Iterator[PhotoCandidate]],
    count: int,
    keep: Callable[[PhotoCandidate], Photo],
    leave_out: KnownPictures | None = None,
) -> PhotoChoice:
    """Pictures from the sources by turns, until there are ``count`` that do not look alike.

    Args:
        sources: pictures of each, in the order in which they are to be tried.
        keep: called with each that is chosen; what it returns is kept.
        leave_out: pictures that are not to be chosen.
    """
    known = leave_out or KnownPictures()
    refused = [int(look, 16) for look in known.looks]
    chosen: list[Photo] = []
    looks: list[int] = []
    alike = left_out = 0
    turns = deque(sources)
    while turns and len(chosen) < count:
        source = turns.popleft()
        candidate = next(source, None)
        if candidate is None:
            continue
        turns.append(source)
        look = int(candidate.photo.look, 16)
        bits = ALIKE if candidate.photo.frame is None else STILL
        if candidate.photo.sha256 in known.sha256 or _is_like(look, refused, bits):
            left_out += 1
        elif _is_like(look, looks, bits):
            alike += 1
        else:
            chosen.append(keep(candidate))
            looks.append(look)
    return PhotoChoice(tuple(chosen), alike, left_out)


def _is_like(look: int, others: Sequence[int], bits: int) -> bool:
    return any((look ^ other).bit_count() <= bits for other in others)


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _is_look(text: str) -> bool:
    try:
        return len(text) == _SIDE * _SIDE // 4 and int(text, 16) >= 0
    except ValueError:
        return False
