"""Probe images: a handful of small pictures that travel with an ONNX file, for judging what is built from it.

A build's faults show on images of people, and a device has none. So `export` puts four of about 4 kB each into the
metadata, in a separate entry that is read without the onnx package. They are calibration images of `quantize`, or
rendered people.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_of
from samkr_edge.pose.geometry import fit_matrix, warp

PROBE_KEY = "samkr_edge_probe"
# Images in a probe; their longer side in pixels and their JPEG quality: about 4 kB each.
COUNT, SIDE, QUALITY = 4, 192, 80
# Limits for files of other origin.
_MOST, _LARGEST_SIDE = 16, 1024
SCHEMA_VERSION = 1
_KINDS = {
    "calibration": ("calibration image", "calibration images"),
    "rendered": ("rendered image", "rendered images"),
}


@dataclass(frozen=True)
class Probe:
    """Small JPEGs; ``kind`` is ``calibration`` or ``rendered``."""

    kind: str
    jpegs: tuple[bytes, ...]

    def to_text(self) -> str:
        """Text for the metadata; ``parse_probe`` is the inverse."""
        images = [base64.b64encode(jpeg).decode("ascii") for jpeg in self.jpegs]
        return json.dumps({"schema_version": SCHEMA_VERSION, "kind": self.kind, "images": images})

    def __str__(self) -> str:
        return f"{len(self.jpegs)} {_KINDS[self.kind][len(self.jpegs) != 1]}"


def make_probe(kind: str, images: Sequence[np.ndarray]) -> Probe:
    """Shrink and encode images, uint8 RGB (H, W, 3) of any size."""
    jpegs = []
    for image in images:
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        if scale < 1:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            image = warp(image, fit_matrix((height, width), size), size)
        encoded, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not encoded:
            raise ValueError(f"no JPEG can be made of an image of shape {image.shape}")
        jpegs.append(jpeg.tobytes())
    return Probe(kind, tuple(jpegs))


def parse_probe(text: str) -> Probe:
    """The probe in a text; raises SamkrError SE-A24 if it is damaged."""
    try:
        data = json_of(text)
        if data["schema_version"] != SCHEMA_VERSION or data["kind"] not in _KINDS:
            raise ValueError(f"schema {data['schema_version']!r}, kind {data['kind']!r}")
        if not 1 <= len(data["images"]) <= _MOST:
            raise ValueError(f"it holds {len(data['images'])} images")
        probe = Probe(data["kind"], tuple(base64.b64decode(image, validate=True) for image in data["images"]))
        for jpeg in probe.jpegs:
            _decode(jpeg)
    except (ValueError, KeyError, TypeError) as error:
        raise SamkrError(
            "SE-A24",
            "the probe images in this ONNX file are damaged, so nothing built from it could be judged",
            {"reason": error},
            fix="export it again: samkr-edge export CHECKPOINT -o model.onnx",
        ) from error
    return probe


def probe_of(metadata: Mapping[str, str]) -> Probe | None:
    """The probe in an ONNX file's metadata; None for older files, which have none."""
    return parse_probe(metadata[PROBE_KEY]) if PROBE_KEY in metadata else None


def probe_batch(probe: Probe | None, input_size: tuple[int, int]) -> np.ndarray:
    """The images as the network gets them: uint8 RGB (N, H, W, 3), fitted into ``input_size`` as for inference.

    Without a probe: one image of noise, always the same.
    """
    if probe is None:
        return np.random.default_rng(0).integers(0, 256, (1, *input_size, 3), dtype=np.uint8)
    images = [_decode(jpeg) for jpeg in probe.jpegs]
    return np.stack([warp(i, fit_matrix((i.shape[0], i.shape[1]), input_size), input_size) for i in images])


def _decode(jpeg: bytes) -> np.ndarray:
    image: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if image is None:
        raise ValueError("an image is not a complete JPEG")
    if max(image.shape) > _LARGEST_SIDE:
        raise ValueError(f"an image is {image.shape[0]}x{image.shape[1]}")
    return np.ascontiguousarray(image[..., ::-1])
