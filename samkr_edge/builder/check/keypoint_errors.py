"""One wrong keypoint among many correct ones: too small a part of an INT8 map to show in the whole map's error.

Grouped convolutions compute each keypoint separately, so a runtime may get one group wrong. A missing or swapped
keypoint changes the whole map's error by a few tenths, as quantization may; its own error is 1 or more. Only for maps:
among the few pixels of candidates, quantization alone can cause such an error at one pixel.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.check.maps import Maps
from samkr_edge.model_card import ModelCard

# Error of a keypoint's part of a map, as a multiple of its quantization error, or of the whole map's. Correct builds of
# trained and untrained networks reach 0.6 of the bound.
NOISES, LEAST, MOST = 5.0, 0.02, 0.9
# Errors of weaker parts are relative to this share of the mean (RMS) part: relative to almost zero, any is large.
WEAK = 0.25


def strange_keypoints(source: Maps, unquantized: Maps | None, found: Maps, card: ModelCard) -> list[str]:
    """Keypoints whose error is larger than quantization explains, in words that follow "it computes as if".

    Args:
        source: what should be computed, maps (N, C, h, w).
        unquantized: the same without quantization; None where the builder chose the INT8.
        found: what the build computes.
        card: says which maps they are and names the K keypoints; a channel beyond those is the person centre.
    """
    keypoints, strange = card.skeleton.keypoints, []
    for index, name in enumerate(card.maps):
        expected = _parts(source[index], len(keypoints))
        sizes = np.linalg.norm(expected, axis=1)
        sizes = np.maximum(sizes, max(WEAK * float(np.sqrt(np.square(sizes).mean())), 1e-12))
        errors = np.linalg.norm(_parts(found[index], len(keypoints)) - expected, axis=1) / sizes
        allowed = np.full(len(errors), MOST)
        if unquantized is not None:
            noises = np.linalg.norm(_parts(unquantized[index], len(keypoints)) - expected, axis=1) / sizes
            whole = float(np.linalg.norm(unquantized[index] - source[index]) / np.linalg.norm(sizes))
            allowed = np.minimum(LEAST + NOISES * np.maximum(noises, whole), MOST)
        worst = int(np.argmax(errors / allowed))
        if errors[worst] > allowed[worst]:
            names = (*keypoints, "the person centre")
            strange.append(f"the {name} of {names[worst]} were something else")
    return strange


def _parts(maps: np.ndarray, keypoints: int) -> np.ndarray:
    """Maps (N, C, h, w) as one row a keypoint: x and y of an offset together."""
    count, channels = maps.shape[:2]
    rows = keypoints if channels == 2 * keypoints else channels
    return maps.reshape(count, rows, -1).swapaxes(0, 1).reshape(rows, -1)
