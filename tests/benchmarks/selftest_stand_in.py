"""A pytest plugin: `tests/gpu` with stages that need no GPU, on a machine that is told to have one, or to have none."""

from __future__ import annotations

import os

from benchmarks.selftest import machine, stages
from benchmarks.selftest.stage import Stage
from targets.device import Device

machine._no_gpu = lambda: os.environ.get("NO_GPU", "")
machine.running_device = lambda: Device(gpu="NVIDIA GeForce RTX 4090", compute_capability="8.9")
stages.STAGES = tuple(
    Stage(number, f"the {name} one", f"selftest_stages:{name}", (), 1)
    for number, name in enumerate(os.environ["STAND_INS"].split())
)
