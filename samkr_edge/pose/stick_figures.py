"""Poses as a small drawing without their image, for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from samkr_edge.pose.poses import Poses

Colour = tuple[int, int, int]

# One colour a person, RGB; distinct in brightness too, so that a gray print can be read.
PALETTE: tuple[Colour, ...] = (
    (255, 176, 0), (0, 170, 255), (254, 97, 0), (120, 94, 240), (0, 200, 140), (220, 38, 127),
    (250, 240, 110), (90, 220, 255), (180, 120, 60), (160, 230, 80),
)  # fmt: skip
_TALLEST_PX, _WIDEST_PX = 240, 640


def colour_of(rank: int, number: int | None) -> Colour:
    """The colour of a person, RGB: their tracking id's, else their rank's, from 0."""
    return PALETTE[(rank if number is None else number - 1) % len(PALETTE)]


def stick_figures(poses: Poses) -> str:
    """An SVG of the sure joints and the bones between them, as they lie in the image; the best person on top."""
    sure = poses.visibility == 2
    points = poses.keypoints[sure]
    if not len(points):
        return ""
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = np.maximum(high - low, 1.0).tolist()
    unit = max(width / _WIDEST_PX, height / _TALLEST_PX)  # image pixels for one pixel of the screen
    pad = 16 * unit
    left, top = (low - pad).tolist()
    parts = [_figure(poses, rank, sure[rank], unit) for rank in range(len(poses) - 1, -1, -1)]
    shown = (width + 2 * pad, height + 2 * pad)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{shown[0] / unit:.0f}" height="{shown[1] / unit:.0f}" '
        f'viewBox="{left:.1f} {top:.1f} {shown[0]:.1f} {shown[1]:.1f}" style="background:#18181c">'
        f"{''.join(parts)}</svg>"
    )


def _figure(poses: Poses, rank: int, sure: np.ndarray, unit: float) -> str:
    person = poses[rank]
    names = () if person.skeleton is None else person.skeleton.keypoints
    edges = () if person.skeleton is None else person.skeleton.edges
    places = person.keypoints.tolist()
    bones = " ".join(
        f"M{places[a][0]:.1f} {places[a][1]:.1f}L{places[b][0]:.1f} {places[b][1]:.1f}"
        for a, b in edges
        if sure[a] and sure[b]
    )
    discs = "".join(
        f'<circle cx="{places[joint][0]:.1f}" cy="{places[joint][1]:.1f}" r="{3 * unit:.2f}">'
        f"<title>{html.escape(names[joint] if names else str(joint))} {person.joint_scores[joint]:.2f}</title>"
        "</circle>"
        for joint in np.flatnonzero(sure).tolist()
    )
    red, green, blue = colour_of(rank, person.id)
    colour = f"rgb({red},{green},{blue})"
    return (
        f'<g fill="{colour}" stroke="none"><path d="{bones}" fill="none" stroke="{colour}" '
        f'stroke-width="{2 * unit:.2f}" stroke-linecap="round"/>{discs}</g>'
    )
