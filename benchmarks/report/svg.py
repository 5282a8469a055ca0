"""Inline SVG that the parts of the report share: the mark of a model, and skeletons over photographs.

Everything is text: no plotting library, no external file, colours by CSS class so that light, dark and print follow
the page. Sizes are in user units, one of which is about a CSS pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sample_pictures import SamplePerson


def mark(series: int, cx: float, cy: float) -> str:
    """Marks differ by shape too, not only by colour: circle, square, diamond, triangle."""
    at = f"{cx:.1f} {cy:.1f}"
    return (
        f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="6"/>',
        f'<path class="dot" d="M{at}m-5.5-5.5h11v11h-11z"/>',
        f'<path class="dot" d="M{at}m0-7.5l7.5 7.5l-7.5 7.5l-7.5-7.5z"/>',
        f'<path class="dot" d="M{at}m0-7.5l7 12.5h-14z"/>',
    )[series % 4]


def mark_icon(series: int) -> str:
    """The mark of a series, for use in text."""
    return f'<svg class="icon s{series}" viewBox="0 0 18 18" aria-hidden="true">{mark(series, 9, 9)}</svg>'


def skeletons(
    people: Sequence[SamplePerson],
    edges: Sequence[tuple[int, int]],
    moved: frozenset[tuple[int, int]],
    *,
    size: tuple[int, int],
    series: int,
) -> str:
    """People as bones and joints in the image's own pixels; moved joints get a ring.

    Args:
        people: what to draw.
        edges: joint pairs that are bones.
        moved: (person, joint) pairs.
        size: (width, height) of the image; line widths grow with it so that they look alike on every image.
        series: number of the model's colour.
    """
    unit = max(size) / 320
    bones, joints, rings = [], [], []
    for number, person in enumerate(people):
        for first, second in edges:
            (ax, ay, _), (bx, by, _) = person.joints[first], person.joints[second]
            bones.append(f"M{ax:g} {ay:g}L{bx:g} {by:g}")
        for joint, (px, py, _) in enumerate(person.joints):
            joints.append(f"M{px:g} {py:g}h0")
            if (number, joint) in moved:
                rings.append(f'<circle class="moved" cx="{px:g}" cy="{py:g}" r="{5.5 * unit:.1f}"/>')
    path = "".join(bones)
    dots = "".join(joints)
    return (
        f'<g class="s{series}" style="--u:{unit:.3f}px"><path class="casing" d="{path}"/>'
        f'<path class="bone" d="{path}"/><path class="joint" d="{dots}"/>{"".join(rings)}</g>'
    )
