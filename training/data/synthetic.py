"""Scenes of rendered people: crowded, hiding each other, cut off by the border, on cluttered backgrounds.

Good enough to learn a whole road on within CPU minutes, and every keypoint is known exactly. A scene depends on
nothing but its seed. Convention: coordinates are pixels of the image, the centre of pixel (i, j) is (x=i, y=j).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from samkr_edge.pose.oks import is_labelled
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton
from training.data import figure as body
from training.data.figure import Figure, sample_figure

Image = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]

# A person of whom less than this share can be seen is left without keypoints, as annotators do.
LEAST_VISIBLE_SHARE = 0.15
_OCCLUDER = 255
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes:
        size: height of the image, pixels.
        aspect: its width as a multiple of its height.
        people: least and most people in an image.
        person_height: least and largest standing height as a share of the image's height.
        crowded: share of the images in which people may cover each other to a large part.
        truncated: probability that a person reaches over the border.
        occluders: probability of an object in front of the people.
        liveliness: 1 for all poses and views; towards 0 people stand and walk facing the viewer.
    """

    size: int = 128
    aspect: float = 1.0
    people: tuple[int, int] = (1, 3)
    person_height: tuple[float, float] = (0.6, 0.98)
    crowded: float = 0.3
    truncated: float = 0.15
    occluders: float = 0.1
    liveliness: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError("size must be at least 16")
        if not 0.25 <= self.aspect <= 4:
            raise ValueError("aspect must be between 1/4 and 4")
        if not 1 <= self.people[0] <= self.people[1] <= 200:
            raise ValueError("people must be MIN-MAX with 1 <= MIN <= MAX <= 200")
        if not 0 < self.person_height[0] <= self.person_height[1] <= 4:
            raise ValueError("person_height must be 0 < least <= largest <= 4")
        if not 0 <= self.liveliness <= 1:
            raise ValueError("liveliness must be between 0 and 1")

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.size, round(self.size * self.aspect)


@dataclass(frozen=True)
class Person:
    """Ground truth of one rendered person.

    Attributes:
        keypoints: (K, 3) float64 x, y, v: v = 2 visible, 1 hidden by somebody, something or the own head,
            0 outside the image (then x = y = 0).
        box: x, y, width, height of what can be seen.
        area: visible pixels.
        polygons: outlines of what can be seen, each x0, y0, x1, y1, ...
    """

    keypoints: npt.NDArray[np.float64]
    box: tuple[float, float, float, float]
    area: float
    polygons: list[list[float]]

    @property
    def num_keypoints(self) -> int:
        return int(is_labelled(self.keypoints).sum())


@dataclass(frozen=True)
class Scene:
    """An image, uint8 (H, W, 3) RGB, and its people, the farthest first."""

    image: Image
    people: list[Person]


@dataclass(frozen=True)
class _Placed:
    figure: Figure
    points: npt.NDArray[np.float64]  # (31, 2) pixels
    scale: float  # pixels per standing height


def skeleton_points(skeleton: Skeleton) -> tuple[int, ...]:
    """Body points behind the keypoints of a skeleton that can be rendered."""
    if skeleton == COCO17:
        return body.COCO_POINTS
    if skeleton == CROWDPOSE14:
        return body.CROWDPOSE_POINTS
    raise ValueError(f"people are rendered with the keypoints of coco17 or crowdpose14, not {skeleton.name}")


def render_scene(rng: np.random.Generator, settings: SceneSettings, skeleton: Skeleton = COCO17) -> Scene:
    """Render one image; deterministic in the state of ``rng``."""
    image = _background(rng, settings.image_hw)
    # Whose pixel: 0 background, i+1 person i, 255 an object in front.
    owner = np.zeros(settings.image_hw, np.uint8)
    placed = _place_people(rng, settings)
    full_areas = []
    for number, person in enumerate(placed, 1):
        _draw_person(image, owner, person, number, rng)
        full_areas.append(int(np.count_nonzero(owner == number)))
    if rng.random() < settings.occluders:
        _draw_occluder(image, owner, rng)
    people = [
        _ground_truth(person, number, full, owner, skeleton_points(skeleton))
        for number, (person, full) in enumerate(zip(placed, full_areas, strict=True), 1)
    ]
    return Scene(_photograph(image, rng), [person for person in people if person is not None])


def _place_people(rng: np.random.Generator, settings: SceneSettings) -> list[_Placed]:
    size = settings.size
    count = int(rng.integers(settings.people[0], settings.people[1] + 1))
    most_overlap = 0.55 if rng.random() < settings.crowded else 0.2
    placed: list[_Placed] = []
    boxes: list[npt.NDArray[np.float64]] = []
    for _ in range(count):
        figure = sample_figure(rng, settings.liveliness)
        low, high = settings.person_height
        scale = size * (low + (high - low) * rng.random())
        points = figure.points[:, :2] * scale
        margin = 0.03 * scale
        least, most = points.min(0) - margin, points.max(0) + margin
        extent = most - least
        if extent.max() > 1.02 * size and rng.random() >= settings.truncated:
            shrink = 1.02 * size / extent.max()
            scale, points, least, extent = scale * shrink, points * shrink, least * shrink, extent * shrink
        # Up to a few attempts to stand clear of the others; the best one is kept.
        best, best_overlap = None, math.inf
        over = 0.35 * extent if rng.random() < settings.truncated else 0.0
        for _ in range(6):
            room = np.array(settings.image_hw[::-1]) - extent
            corner = np.minimum(0, room) - over + rng.random(2) * (np.abs(room) + 2 * over)
            box = np.concatenate((corner, corner + extent))
            overlap = max((_overlap(box, other) for other in boxes), default=0.0)
            if overlap < best_overlap:
                best, best_overlap = box, overlap
            if overlap <= most_overlap:
                break
        assert best is not None
        boxes.append(best)
        placed.append(_Placed(figure, points + (best[:2] - least), scale))
    return placed


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Intersection over the smaller of two boxes x0, y0, x1, y1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return float(width * height / smaller)


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


def _draw_person(image: Image, owner: Image, person: _Placed, number: int, rng: np.random.Generator) -> None:
    """Draw the parts from back to front into the image, and their silhouette into ``owner``."""
    figure, points, scale = person.figure, person.points, person.scale
    depth = figure.points[:, 2]
    thickness = scale * figure.build
    style = rng.random(12)
    shirt, trousers = _cloth(rng), _cloth(rng)
    skin = _mix((255, 222, 196), (84, 52, 36), style[0])
    materials = [
        skin,
        shirt,
        trousers,
        _scaled(_cloth(rng), 0.7),
        _mix((40, 28, 20), (210, 170, 100), style[1] ** 2),
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
            _draw_trunk(image, owner, person, number, _scaled(shirt, shade), style)
            continue
        colour = _scaled(materials[_MATERIAL[limb]], shade)
        cv2.fillConvexPoly(image, outlines[limb], colour, cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(owner, outlines[limb], number, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(image, lit[limb], _scaled(colour, 1.16), cv2.LINE_AA, _SHIFT)
        if limb == 13 and not face_drawn:
            _draw_face(image, person, skin)
            face_drawn = True


def _draw_trunk(
    image: Image, owner: Image, person: _Placed, number: int, colour: Colour, style: npt.NDArray[np.float64]
) -> None:
    points, thickness = person.points, person.scale * person.figure.build
    corners = points[[body.LEFT_SHOULDER, body.RIGHT_SHOULDER, body.RIGHT_HIP, body.LEFT_HIP]]
    radii = np.array((0.042, 0.042, 0.056, 0.056)) * thickness
    cloud = _fixed((corners[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2))
    hull = cv2.convexHull(cloud.reshape(-1, 1, 2))
    cv2.fillConvexPoly(image, hull, colour, cv2.LINE_AA, _SHIFT)
    cv2.fillConvexPoly(owner, hull, number, cv2.LINE_8, _SHIFT)
    if style[5] < 0.35:  # stripes across
        stripe = _scaled(colour, 0.55 if sum(colour) > 380 else 1.7)
        for share in np.arange(0.12, 1.0, 0.22 + 0.1 * style[6]):
            first = corners[0] + share * (corners[3] - corners[0])
            second = corners[1] + share * (corners[2] - corners[1])
            cv2.line(
                image, *_ends(first, second), stripe, max(1, round(0.025 * thickness)), cv2.LINE_AA, _SHIFT
            )
    mark = _scaled(colour, 0.5 if sum(colour) > 330 else 2.1)
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


def _draw_face(image: Image, person: _Placed, skin: Colour) -> None:
    """Eyes, nose and mouth as far as they are turned to the viewer."""
    depth, points = person.figure.points[:, 2], person.points
    thickness = person.scale * person.figure.build
    head = depth[body.HEAD]
    for eye in (body.LEFT_EYE, body.RIGHT_EYE):
        if depth[eye] > head:
            _disc(image, points[eye], 0.013 * thickness, (25, 20, 20))
    if depth[body.NOSE] > head - 0.02:
        _disc(image, points[body.NOSE], 0.014 * thickness, _scaled(skin, 0.72))
        chin, nose = points[body.CHIN], points[body.NOSE]
        _disc(
            image,
            nose + 0.55 * (chin - nose) + (chin - points[body.CROWN]) * 0.35,
            0.012 * thickness,
            (150, 40, 50),
        )
    for ear in (body.LEFT_EAR, body.RIGHT_EAR):
        if depth[ear] > head - 0.02:
            _disc(image, points[ear], 0.014 * thickness, _scaled(skin, 0.86))


def _disc(image: Image, centre: npt.NDArray[np.float64], radius: float, colour: Colour) -> None:
    x, y = (centre * (1 << _SHIFT)).round().astype(int).tolist()
    cv2.circle(image, (x, y), max(8, round(radius * (1 << _SHIFT))), colour, -1, cv2.LINE_AA, _SHIFT)


def _ends(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[tuple[int, int], tuple[int, int]]:
    (x0, y0), (x1, y1) = _fixed(np.stack((first, second))).tolist()
    return (x0, y0), (x1, y1)


def _ground_truth(
    person: _Placed, number: int, full_area: int, owner: Image, indices: tuple[int, ...]
) -> Person | None:
    """Keypoints, box and outline from what can be seen; None for a person of whom nothing can be."""
    size = np.array(owner.shape[::-1])
    visible = (owner == number).astype(np.uint8)
    area = int(np.count_nonzero(visible))
    if area == 0:
        return None
    x, y, width, height = cv2.boundingRect(visible)
    keypoints = np.zeros((len(indices), 3))
    xy = np.round(person.points[list(indices)], 2)
    pixel = np.rint(xy).astype(int)
    inside = ((pixel >= 0) & (pixel < size) & (xy >= 0) & (xy < size)).all(axis=1)
    column, row = pixel[inside].T
    keypoints[inside, :2] = xy[inside]
    keypoints[inside, 2] = np.where(owner[row, column] > number, 1, 2)
    depth = person.figure.points[:, 2]
    behind = np.array(
        [index in body.FACE and depth[index] < depth[body.HEAD] - 0.015 for index in indices], dtype=bool
    )
    keypoints[inside & behind, 2] = 1
    if area < LEAST_VISIBLE_SHARE * full_area:
        keypoints[:] = 0
    contours, _ = cv2.findContours(visible, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    polygons = [contour.reshape(-1).astype(float).tolist() for contour in contours if len(contour) >= 3]
    if not polygons:
        right, bottom = x + width, y + height
        polygons = [[float(value) for value in (x, y, right, y, right, bottom, x, bottom)]]
    return Person(keypoints, (float(x), float(y), float(width), float(height)), float(area), polygons)


def crowd_index(people: list[Person]) -> float:
    """CrowdPose's measure of an image: mean over people of (other people's keypoints in the box) / (own ones)."""
    ratios = []
    for person in people:
        x, y, width, height = person.box

        def count(points: npt.NDArray[np.float64]) -> int:
            px, py, v = points.T
            return int(((v > 0) & (px >= x) & (px <= x + width) & (py >= y) & (py <= y + height)).sum())  # noqa: B023

        own = count(person.keypoints)
        if own:
            ratios.append(sum(count(other.keypoints) for other in people if other is not person) / own)
    return min(1.0, float(np.mean(ratios))) if ratios else 0.0


def _background(rng: np.random.Generator, image_hw: tuple[int, int]) -> Image:
    """Smooth colour, a layer of texture, and shapes, some of them as thick and as coloured as limbs."""
    size, width = image_hw
    coarse = _muted(rng, int(rng.integers(2, 7)))
    image = cv2.resize(coarse, (width, size), interpolation=cv2.INTER_CUBIC)
    cells = int(rng.integers(8, 40))
    texture = _muted(rng, cells)
    kind = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_LINEAR
    texture = cv2.resize(texture, (width, size), interpolation=kind)
    weight = 0.35 * float(rng.random())
    image = cv2.addWeighted(image, 0.75 - weight, texture, weight, float(rng.uniform(0, 60)))
    for _ in range(int(rng.integers(2, 9))):
        colour = _cloth(rng)
        shape = rng.integers(4)
        sides = np.array([width, size, width, size])
        x0, y0, x1, y1 = (rng.random(4) * sides * 1.2 - 0.1 * sides).astype(int).tolist()
        if shape == 0:
            cv2.rectangle(image, (x0, y0), ((x0 + x1) // 2, (y0 + y1) // 2), colour, -1)
        elif shape == 1:
            cv2.circle(image, (x0, y0), int(size * rng.uniform(0.02, 0.16)), colour, -1, cv2.LINE_AA)
        elif shape == 2:
            cv2.line(image, (x0, y0), (x1, y1), colour, int(size * rng.uniform(0.01, 0.07)) + 1, cv2.LINE_AA)
        else:
            polygon = (rng.random((4, 2)) * size * 0.4 + (x0, y0)).astype(np.int32)
            cv2.fillPoly(image, [polygon], colour, cv2.LINE_AA)
    return image


def _muted(rng: np.random.Generator, cells: int) -> Image:
    """(cells, cells, 3) random colours, drawn towards gray by a random amount."""
    colours = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    share = rng.uniform(0.15, 0.85)
    muted: Image = (share * colours + (1 - share) * colours[:, :, :1]).astype(np.uint8)
    return muted


def _draw_occluder(image: Image, owner: Image, rng: np.random.Generator) -> None:
    """A board in front of everybody, from some side of the image."""
    size = image.shape[0]
    x, y = (int(v) for v in rng.integers(0, size, 2))
    x = x * image.shape[1] // size
    width, height = (int(v) for v in size * rng.uniform(0.08, 0.3, 2))
    colour = _cloth(rng)
    cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
    cv2.rectangle(image, (x, y), (x + width, y + height), _scaled(colour, 0.7), 1)
    cv2.rectangle(owner, (x, y), (x + width, y + height), _OCCLUDER, -1)


def _photograph(image: Image, rng: np.random.Generator) -> Image:
    """Light, colour cast, blur and noise of a camera."""
    size = image.shape[0]
    chance = rng.random(3)
    if chance[0] < 0.4:
        sigma = float(rng.uniform(0.3, 1.0)) * size / 128
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    gain = rng.uniform(0.72, 1.2) * rng.uniform(0.92, 1.08, 3)
    levels = np.arange(256, dtype=np.float64)[:, None] * gain + rng.uniform(-15, 20)
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8).reshape(256, 1, 3))
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    amplitude = 0.02 + 0.10 * float(chance[1])
    return cv2.addWeighted(image, 1.0, noise, amplitude, -127.5 * amplitude)


def _cloth(rng: np.random.Generator) -> Colour:
    """Any colour, saturated ones as often as gray ones."""
    red, green, blue, gray, share = rng.random(5).tolist()
    keep = share
    return tuple(20 + 215 * (keep * value + (1 - keep) * gray) for value in (red, green, blue))


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return tuple(a + (b - a) * float(share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def _scaled(colour: Colour, factor: float) -> Colour:
    return tuple(min(255.0, value * factor) for value in colour)  # type: ignore[return-value]


def annotation_of(person: Person, annotation_id: int, image_id: int) -> dict[str, Any]:
    """One entry of ``annotations`` in COCO's format."""
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": person.num_keypoints,
        "keypoints": [
            int(value) if column == 2 else round(float(value), 2)
            for row in person.keypoints
            for column, value in enumerate(row)
        ],
        "bbox": list(person.box),
        "area": person.area,
        "segmentation": person.polygons,
    }
