"""Probe images for networks that carry none: rendered people, always the same."""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.check.probe import COUNT, SIDE, Probe, make_probe
from training.data.rendered.scene import SceneSettings, render_scene

_SEED = 7


def rendered_probe() -> Probe:
    """A few scenes of one to three people in lively poses."""
    settings = SceneSettings(size=SIDE, people=(1, 3), crowded=0.0, truncated=0.0, occluders=0.0)
    random = np.random.default_rng(_SEED)
    return make_probe("rendered", [render_scene(random, settings).image for _ in range(COUNT)])
