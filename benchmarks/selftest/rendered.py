"""Rendered people as a data set, for a device that has none."""

from __future__ import annotations

from benchmarks.selftest.stage import Rig
from samkr_edge.dataset import KeypointDataset, open_dataset
from samkr_edge.packages import resolve

# Of 128 x 128 pixels, the size that the carried samkr_tiny was trained at; it was trained on other images than these.
IMAGES = 50


def rendered_people(rig: Rig, images: int = IMAGES) -> KeypointDataset:
    """The split ``val`` of ``samkr-edge data synth --val IMAGES``; rendered once for all stages, in a second.

    Raises:
        SamkrError: the folder cannot be written.
    """
    synthetic = "training.data.synthetic_dataset"
    settings = resolve(f"{synthetic}:SynthSettings")(train=1, val=images)
    folder = rig.shared / f"people-{images}"
    resolve(f"{synthetic}:write_dataset")(folder, settings)
    return open_dataset(folder)
