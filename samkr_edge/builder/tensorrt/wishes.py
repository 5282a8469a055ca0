"""What the user asks of a build."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wishes:
    """The user's options; None leaves the choice to the plan.

    Attributes:
        precision: ``int8``, ``fp8``, ``fp16`` or ``fp32``; by default that of the Q/DQ graph, else FP16.
        batch: images per inference.
        workspace_mib: cap of the builder's scratch memory.
        level: builder optimisation level, 0 to 5.
        dla_core: run on this DLA core; what it cannot run runs on the GPU.
        hardware_compatible: ``same`` (any GPU of this compute capability) or ``ampere+``.
        version_compatible: let newer TensorRT versions load the engine.
        calibrate: calibration images were given, for implicit INT8.
    """

    precision: str | None = None
    batch: int | None = None
    workspace_mib: int | None = None
    level: int | None = None
    dla_core: int | None = None
    hardware_compatible: str | None = None
    version_compatible: bool = False
    calibrate: bool = False
