"""How maps become people: the settings that a model card and a recipe hold, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class DecodeSettings:
    """How maps become poses. Defaults are DEKR's (HRNet/DEKR, single scale).

    Attributes:
        max_people: limit of centre peaks considered, and of poses kept.
        center_threshold: smallest centre heatmap value of a pose.
        nms_distance: two joints are near when closer than this share of the pose's box diagonal.
        nms_joints: poses with more than this many near joints are the same person.
        refine_radius: half width, map pixels, of the heatmap window that refines a joint; 0 switches it off.
        refine_blend: share of the refined position in the result, 0..1.
    """

    max_people: int = 30
    center_threshold: float = 0.01
    nms_distance: float = 0.05
    nms_joints: int = 8
    refine_radius: int = 0
    refine_blend: float = 0.7


# Limits of each setting. A threshold below zero takes every position for a person, which some want; no centre reaches
# one above 1. The radius is limited further, by the map's side, where the map is known.
DECODE_LIMITS = {
    "max_people": (1, inf),
    "center_threshold": (-inf, 1),
    "nms_distance": (0, 1),
    "nms_joints": (0, inf),
    "refine_radius": (0, inf),
    "refine_blend": (0, 1),
}
