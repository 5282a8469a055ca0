"""Scenes of rendered people: crowded, hiding each other, cut off by the border, on cluttered backgrounds.

Good enough to run the whole pipeline within CPU minutes, and every keypoint is known exactly. A scene depends only on
its seed. Convention: coordinates are pixels of the image, the centre of pixel (i, j) is (x=i, y=j).
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
from training.data.rendered import figure as body
from training.data.rendered.colours import Image
from training.data.rendered.drawing import Placed, draw_person
from training.data.rendered.figure import sample_figure
from training.data.rendered.surroundings import background, draw_occluder, photograph

# A person with a smaller visible share gets no keypoints, as annotators do.
LEAST_VISIBLE_SHARE = 0.15


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes:
        size: height of the image, pixels.
        aspect: its width as a multiple of its height.
        people: least and most people in an image.
        person_height: least and largest standing height as a share of the image's height.
        crowded: share of the images in which people may largely cover each other.
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


def skeleton_points(skeleton: Skeleton) -> tuple[int, ...]:
    """The body points of the keypoints of a skeleton that can be rendered."""
    if skeleton == COCO17:
        return body.COCO_POINTS
    if skeleton == CROWDPOSE14:
        return body.CROWDPOSE_POINTS
    raise ValueError(f"people are rendered with the keypoints of coco17 or crowdpose14, not {skeleton.name}")


def render_scene(rng: np.random.Generator, settings: SceneSettings, skeleton: Skeleton = COCO17) -> Scene:
    """Render one image; deterministic in the state of ``rng``."""
    image = background(rng, settings.image_hw)
    # Owner of each pixel: 0 background, i+1 person i, 255 an object in front.
    owner = np.zeros(settings.image_hw, np.uint8)
    placed = _place_people(rng, settings)
    full_areas = []
    for number, person in enumerate(placed, 1):
        draw_person(image, owner, person, number, rng)
        full_areas.append(int(np.count_nonzero(owner == number)))
    if rng.random() < settings.occluders:
        draw_occluder(image, owner, rng)
    people = [
        _ground_truth(person, number, full, owner, skeleton_points(skeleton))
        for number, (person, full) in enumerate(zip(placed, full_areas, strict=True), 1)
    ]
    return Scene(photograph(image, rng), [person for person in people if person is not None])


def _place_people(rng: np.random.Generator, settings: SceneSettings) -> list[Placed]:
    size = settings.size
    count = int(rng.integers(settings.people[0], settings.people[1] + 1))
    most_overlap = 0.55 if rng.random() < settings.crowded else 0.2
    placed: list[Placed] = []
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
        # A few attempts to find a place clear of the others; the best one is kept.
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
        placed.append(Placed(figure, points + (best[:2] - least), scale))
    return placed


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Intersection over the smaller of two boxes x0, y0, x1, y1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return float(width * height / smaller)


def _ground_truth(
    person: Placed, number: int, full_area: int, owner: Image, indices: tuple[int, ...]
) -> Person | None:
    """Keypoints, box and outline of the visible part; None for a person who is not visible."""
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
            px, py = points.T[:2]
            inside = is_labelled(points) & (px >= x) & (px <= x + width) & (py >= y) & (py <= y + height)  # noqa: B023
            return int(inside.sum())

        own = count(person.keypoints)
        if own:
            ratios.append(sum(count(other.keypoints) for other in people if other is not person) / own)
    return min(1.0, float(np.mean(ratios))) if ratios else 0.0


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
