"""What is around rendered people: the background, something in front of them, and the camera."""

from __future__ import annotations

import cv2
import numpy as np

from training.data.rendered.colours import Image, any_colour, scaled

OCCLUDER = 255  # as the owner of a pixel


def background(rng: np.random.Generator, image_hw: tuple[int, int]) -> Image:
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
        colour = any_colour(rng)
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


def draw_occluder(image: Image, owner: Image, rng: np.random.Generator) -> None:
    """A board in front of everybody, from some side of the image."""
    size = image.shape[0]
    x, y = (int(v) for v in rng.integers(0, size, 2))
    x = x * image.shape[1] // size
    width, height = (int(v) for v in size * rng.uniform(0.08, 0.3, 2))
    colour = any_colour(rng)
    cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
    cv2.rectangle(image, (x, y), (x + width, y + height), scaled(colour, 0.7), 1)
    cv2.rectangle(owner, (x, y), (x + width, y + height), OCCLUDER, -1)


def photograph(image: Image, rng: np.random.Generator) -> Image:
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
