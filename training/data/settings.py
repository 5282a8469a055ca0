"""How samples are varied and their targets drawn: the settings that a recipe's section ``data`` holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Crop = Literal["fit", "short"]
Extent = Literal["person", "image"]


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random similarity; the defaults are the paper's.

    Attributes:
        rotation: largest angle in degrees, either way.
        scale: least and largest size of the cut-out relative to ``crop``: above 1 people get smaller.
        translation: largest shift in x and in y as a share of the input's short side.
        flip: probability of mirroring.
        jitter: strength of brightness, contrast and colour changes, 0 to 1.
        crop: the part of the image before any augmentation. ``fit``: the whole image, as deployment sees it. ``short``:
            the image's short side fills the input's, as DEKR and its kin train; the ends of the long side are cut off.
        parity: DEKR's alignment, half a pixel from the image's middle, and its joints' bias when mirrored; it is
            defined for ``short`` alone.
    """

    rotation: float = 30.0
    scale: tuple[float, float] = (0.75, 1.5)
    translation: float = 0.2
    flip: float = 0.5
    jitter: float = 0.0
    crop: Crop = "fit"
    parity: bool = False

    def __post_init__(self) -> None:
        if self.parity and self.crop != "short":
            raise ValueError("parity needs crop: short, which is DEKR's")

    @classmethod
    def off(cls) -> AugmentSettings:
        """No augmentation: the whole image, as evaluation sees it."""
        return cls(rotation=0.0, scale=(1.0, 1.0), translation=0.0, flip=0.0)


@dataclass(frozen=True)
class EncodeSettings:
    """How targets are drawn.

    Attributes:
        sigma: of a keypoint's Gaussian, map pixels.
        center_sigma: of the person centre's Gaussian.
        offset_radius: offsets are learned where the distance to the centre is at most this, in x and in y.
        background_weight: weight of the heatmap loss away from every Gaussian's window.
        offset_extent: what weighs a person's offsets, see ``encode.person_size``.
        smallest_extent: input pixels. No ``person`` weighs more than one of this box diagonal: the box of a single
            labelled joint has none, which says nothing about the person's size.
        smallest_person: source pixels. People of COCO whose area is less than its square get no centre and no
            offsets; None: as ``samkr_edge.dataset.usable.smallest_area`` has it.
        parity: reproduce the official code: the centre has ``sigma`` where its channel is below 17 (CrowdPose);
            the offset window is [int(x) - r, int(x) + r), shifted by half a pixel; a person without labelled joints
            has a centre at (0, 0); where windows meet, the area that is compared belongs to the position, not to the
            keypoint (``encode._parity_writes``). It implies ``image`` and, unless given, a smallest person
            of 32 pixels.
    """

    sigma: float = 2.0
    center_sigma: float = 4.0
    offset_radius: float = 4
    background_weight: float = 0.1
    offset_extent: Extent = "person"
    smallest_extent: float = 32.0
    smallest_person: float | None = None
    parity: bool = False

    def __post_init__(self) -> None:
        # Below this a Gaussian vanishes in float32 within its own window, which marks where it was drawn.
        if self.sigma < 0.6 or self.center_sigma < 0.6:
            raise ValueError("sigma and center_sigma must be at least 0.6 map pixels")
        if self.offset_radius <= 0:
            raise ValueError("offset_radius must be positive")
        if not 0 <= self.background_weight <= 1:
            raise ValueError("background_weight must be within 0..1")
        if self.smallest_extent < 1:
            raise ValueError("smallest_extent must be at least 1 input pixel")
        if self.parity:
            object.__setattr__(self, "offset_extent", "image")
            if self.smallest_person is None:
                object.__setattr__(self, "smallest_person", 32.0)


@dataclass(frozen=True)
class GroupingEncodeSettings:
    """How targets of a network with tags are drawn.

    Attributes:
        sigma: of a keypoint's Gaussian, pixels of the map, at both resolutions.
        max_people: people of an image whose tags are learned; of more, the largest.
        parity: reproduce the official code: Gaussians around joints cut to whole map pixels, and what lies beyond the
            image is not learned.
    """

    sigma: float = 2.0
    max_people: int = 30
    parity: bool = False

    def __post_init__(self) -> None:
        if self.sigma < 0.6:
            raise ValueError("sigma must be at least 0.6 map pixels")
        if self.max_people < 1:
            raise ValueError("max_people must be at least 1")

    @property
    def smallest_person(self) -> float:
        """Nobody is too small: as in the official code, which gives no centres."""
        return 0.0
