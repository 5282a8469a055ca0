"""Rendered people as a data set, for a device that has none."""

from __future__ import annotations

from benchmarks.selftest.stage import Rig
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.packages import resolve

IMAGES = 50
# Like the training data of the carried samkr_tiny, at 128 x 128 pixels, but other images.
LIVELINESS = 0.3


def rendered_people(rig: Rig, images: int = IMAGES) -> KeypointDataset:
    """The split ``val`` of ``samkr-edge data synth --liveliness 0.3``; rendered once for all stages, in a second.

    Raises:
        SamkrError: the folder cannot be written.
    """
    scene = resolve("training.data.rendered.scene:SceneSettings")(liveliness=LIVELINESS)
    settings = resolve("training.data.rendered.dataset:SynthSettings")(train=1, val=images, scene=scene)
    folder = rig.shared / f"people-{images}"
    resolve("training.data.rendered.dataset:write_dataset")(folder, settings)
    return open_dataset(folder)
