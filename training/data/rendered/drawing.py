"""How a rendered person is drawn: capsules from back to front, a trunk, a face, clothes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.data.rendered import figure as body
from training.data.rendered.colours import Colour, Image, any_colour, mixed, scaled
from training.data.rendered.figure import Figure

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class Placed:
    """A figure in an image."""

    figure: Figure
    points: npt.NDArray[np.float64]  # (31, 2) pixels
    scale: float  # pixels per standing height


# Limbs as tapered capsules: points, radii in standing heights, material.
_SKIN, _SHIRT, _TROUSERS, _SHOE, _HAIR, _SLEEVE, _LEG = range(7)
_LIMBS = np.array(
    [
        (body.LEFT_SHOULDER, body.LEFT_ELBOW, 0.036, 0.028, _SHIRT),
        (body.RIGHT_SHOULDER, body.RIGHT_ELBOW, 0.036, 0.028, _SHIRT),
        (body.LEFT_ELBOW, body.LEFT_WRIST, 0.028, 0.020, _SLEEVE),
        (body.RIGHT_ELBOW, body.RIGHT_WRIST, 0.028, 0.020, _SLEEVE),
        (body.LEFT_WRIST, body.LEFT_HAND, 0.021, 0.021, _SKIN),
        (body.RIGHT_WRIST, body.RIGHT_HAND, 0.021, 0.021, _SKIN),
        (body.LEFT_HIP, body.LEFT_KNEE, 0.054, 0.038, _TROUSERS),
        (body.RIGHT_HIP, body.RIGHT_KNEE, 0.054, 0.038, _TROUSERS),
        (body.LEFT_KNEE, body.LEFT_ANKLE, 0.038, 0.025, _LEG),
        (body.RIGHT_KNEE, body.RIGHT_ANKLE, 0.038, 0.025, _LEG),
        (body.LEFT_ANKLE, body.LEFT_TOE, 0.027, 0.020, _SHOE),
        (body.RIGHT_ANKLE, body.RIGHT_TOE, 0.027, 0.020, _SHOE),
        (body.NECK, body.HEAD, 0.032, 0.030, _SKIN),
        (body.CHIN, body.CROWN, 0.046, 0.056, _SKIN),
        (body.HAIR_LOW, body.HAIR_HIGH, 0.056, 0.060, _HAIR),
    ]
)
_FROM, _TO = _LIMBS[:, 0].astype(int), _LIMBS[:, 1].astype(int)
_RADIUS_FROM, _RADIUS_TO = _LIMBS[:, 2], _LIMBS[:, 3]
_MATERIAL = _LIMBS[:, 4].astype(int)
_HALF_TURN = np.linspace(-math.pi / 2, math.pi / 2, 6)
_CIRCLE = np.stack(
    (np.cos(np.linspace(0, 2 * math.pi, 10, False)), np.sin(np.linspace(0, 2 * math.pi, 10, False))), axis=1
)


def _capsules(
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    radius_start: npt.NDArray[np.float64],
    radius_end: npt.NDArray[np.float64],
) -> npt.NDArray[np.int32]:
    """(n, 12, 2) outlines in OpenCV's fixed point."""
    along = end - start
    angle = np.arctan2(along[:, 1], along[:, 0])[:, None] + _HALF_TURN
    arc = np.stack((np.cos(angle), np.sin(angle)), axis=2)
    outline = np.concatenate(
        (
            end[:, None] + radius_end[:, None, None] * arc,
            start[:, None] - radius_start[:, None, None] * arc,
        ),
        axis=1,
    )
    return _fixed(outline)


def _fixed(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def draw_person(image: Image, owner: Image, person: Placed, number: int, rng: np.random.Generator) -> None:
    """Draw the parts from back to front into the image, and their silhouette into ``owner``."""
    figure, points, scale = person.figure, person.points, person.scale
    depth = figure.points[:, 2]
    thickness = scale * figure.build
    style = rng.random(12)
    shirt, trousers = any_colour(rng), any_colour(rng)
    skin = mixed((255, 222, 196), (84, 52, 36), style[0])
    materials = [
        skin,
        shirt,
        trousers,
        scaled(any_colour(rng), 0.7),
        mixed((40, 28, 20), (210, 170, 100), style[1] ** 2),
        shirt if style[2] < 0.5 else skin,
        trousers if style[3] < 0.7 else skin,
    ]

    start, end = points[_FROM], points[_TO]
    radius_start, radius_end = _RADIUS_FROM * thickness, _RADIUS_TO * thickness
    light = np.array((-0.35 if style[4] < 0.5 else 0.35, -0.3))
    outlines = _capsules(start, end, radius_start, radius_end)
    lit = _capsules(
        start + light * radius_start[:, None],
        end + light * radius_end[:, None],
        0.5 * radius_start,
        0.5 * radius_end,
    )
    # Limbs lie in front of the trunk unless they are clearly behind it.
    order = [(float(depth[_FROM[i]] + depth[_TO[i]]) / 2 + 0.012, i) for i in range(len(_LIMBS))]
    trunk_depth = float(
        depth[[body.LEFT_SHOULDER, body.RIGHT_SHOULDER, body.LEFT_HIP, body.RIGHT_HIP]].mean()
    )
    order.append((trunk_depth, -1))
    face_drawn = False
    for z, limb in sorted(order):
        shade = min(1.15, max(0.7, 1.0 + 0.9 * float(z)))
        if limb < 0:
            _draw_trunk(image, owner, person, number, scaled(shirt, shade), style)
            continue
        colour = scaled(materials[_MATERIAL[limb]], shade)
        cv2.fillConvexPoly(image, outlines[limb], colour, cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(owner, outlines[limb], number, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(image, lit[limb], scaled(colour, 1.16), cv2.LINE_AA, _SHIFT)
        if limb == 13 and not face_drawn:
            _draw_face(image, person, skin)
            face_drawn = True


def _draw_trunk(
    image: Image, owner: Image, person: Placed, number: int, colour: Colour, style: npt.NDArray[np.float64]
) -> None:
    points, thickness = person.points, person.scale * person.figure.build
    corners = points[[body.LEFT_SHOULDER, body.RIGHT_SHOULDER, body.RIGHT_HIP, body.LEFT_HIP]]
    radii = np.array((0.042, 0.042, 0.056, 0.056)) * thickness
    cloud = _fixed((corners[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2))
    hull = cv2.convexHull(cloud.reshape(-1, 1, 2))
    cv2.fillConvexPoly(image, hull, colour, cv2.LINE_AA, _SHIFT)
    cv2.fillConvexPoly(owner, hull, number, cv2.LINE_8, _SHIFT)
    if style[5] < 0.35:  # stripes across
        stripe = scaled(colour, 0.55 if sum(colour) > 380 else 1.7)
        for share in np.arange(0.12, 1.0, 0.22 + 0.1 * style[6]):
            first = corners[0] + share * (corners[3] - corners[0])
            second = corners[1] + share * (corners[2] - corners[1])
            cv2.line(
                image, *_ends(first, second), stripe, max(1, round(0.025 * thickness)), cv2.LINE_AA, _SHIFT
            )
    mark = scaled(colour, 0.5 if sum(colour) > 330 else 2.1)
    if person.figure.facing > 0.1:
        # The chest: an open collar and a row of buttons, seen from the front only.
        neck, chest, belly = points[body.NECK], points[body.CHEST], points[body.BELLY]
        width = max(1, round(0.022 * thickness))
        cv2.line(image, *_ends(chest, belly), mark, width, cv2.LINE_AA, _SHIFT)
        collar = 0.3 * (corners[0] - corners[1])
        for end in (neck + collar, neck - collar):
            cv2.line(image, *_ends(chest, end), mark, width, cv2.LINE_AA, _SHIFT)
    elif person.figure.facing < -0.1 and style[7] < 0.4:
        # The back of some carries a bag.
        middle = corners.mean(0)
        bag = _fixed(middle + (corners - middle) * (0.75, 0.62))
        cv2.fillConvexPoly(image, bag, mark, cv2.LINE_AA, _SHIFT)


def _draw_face(image: Image, person: Placed, skin: Colour) -> None:
    """Eyes, nose and mouth as far as they are turned to the viewer."""
    depth, points = person.figure.points[:, 2], person.points
    thickness = person.scale * person.figure.build
    head = depth[body.HEAD]
    for eye in (body.LEFT_EYE, body.RIGHT_EYE):
        if depth[eye] > head:
            _disc(image, points[eye], 0.013 * thickness, (25, 20, 20))
    if depth[body.NOSE] > head - 0.02:
        _disc(image, points[body.NOSE], 0.014 * thickness, scaled(skin, 0.72))
        chin, nose = points[body.CHIN], points[body.NOSE]
        _disc(
            image,
            nose + 0.55 * (chin - nose) + (chin - points[body.CROWN]) * 0.35,
            0.012 * thickness,
            (150, 40, 50),
        )
    for ear in (body.LEFT_EAR, body.RIGHT_EAR):
        if depth[ear] > head - 0.02:
            _disc(image, points[ear], 0.014 * thickness, scaled(skin, 0.86))


def _disc(image: Image, centre: npt.NDArray[np.float64], radius: float, colour: Colour) -> None:
    x, y = (centre * (1 << _SHIFT)).round().astype(int).tolist()
    cv2.circle(image, (x, y), max(8, round(radius * (1 << _SHIFT))), colour, -1, cv2.LINE_AA, _SHIFT)


def _ends(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[tuple[int, int], tuple[int, int]]:
    (x0, y0), (x1, y1) = _fixed(np.stack((first, second))).tolist()
    return (x0, y0), (x1, y1)
