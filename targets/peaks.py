"""What a device can do at most in each power mode, from its profile: multiply-accumulates and bytes a second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from targets.profile import PowerMode, Target

# Multiply-accumulates of FP32 that an SM does in a clock, by compute capability (CUDA C++ Programming Guide, Throughput
# of Native Arithmetic Instructions). Tensor cores do TF32 only, and the builds here clear it.
_FP32_PER_CLOCK = {
    "5.3": 128, "6.2": 128, "7.2": 64, "7.5": 64, "8.6": 128, "8.7": 128, "8.9": 128, "11.0": 128, "12.0": 128,
}  # fmt: skip
# Where FP8 convolutions exist, they run at the rate of INT8.
_FP8 = ("8.9", "12.0")


@dataclass(frozen=True)
class Peaks:
    """The highest rates of a device.

    Attributes:
        macs: dense multiply-accumulates a second by precision (``fp32``, ``fp16``, ``int8``, ``fp8``); a precision
            whose peak is unknown, or that the device lacks, is missing.
        memory: (bytes, bytes a second), nearest first: so many of the bytes that a layer moves can move at this rate,
            the next ones at the next. The last is for all others.
        unknown: what could not be counted, in words; empty if nothing.
    """

    macs: Mapping[str, float]
    memory: tuple[tuple[float, float], ...]
    unknown: str = ""

    def seconds_of(self, moved: float) -> float:
        """The least time in which a layer moves this many bytes."""
        taken, left = 0.0, moved
        for size, rate in self.memory:
            here = min(left, size)
            taken, left = taken + here / rate, left - here
        return taken


def peaks_of(target: Target, mode: PowerMode | None = None) -> Peaks:
    """The peaks of a profile in a power mode, by its live SMs and clocks; without a mode all SMs at the highest clock.

    A peak of the profile counts operations, two to a multiply-accumulate. Bytes that fit into the L2 cache are free:
    they may never reach the memory. Of a GPU whose cache or bandwidth is unknown no byte counts.
    """
    share = 1.0
    if mode is not None and target.sms:
        mhz = 1.0 if mode.mhz is None or target.max_mhz is None else mode.mhz / target.max_mhz
        share = mode.sms / target.sms * mhz
    found = {}
    if target.int8_tops:
        found["int8"] = target.int8_tops * 1e12 / 2 * share
        if target.compute_capability in _FP8:
            found["fp8"] = found["int8"]
    if target.fp16_tflops:
        found["fp16"] = target.fp16_tflops * 1e12 / 2 * share
    per_clock = _FP32_PER_CLOCK.get(target.compute_capability or "")
    if per_clock and target.sms and target.max_mhz:
        found["fp32"] = target.sms * target.max_mhz * 1e6 * per_clock * share
    bandwidth = (mode.bandwidth_gbs if mode else None) or target.bandwidth_gbs
    if target.l2_mb is None or bandwidth is None:
        missing = "L2 cache" if target.l2_mb is None else "bandwidth"
        return Peaks(found, ((math.inf, math.inf),), f"its {missing} is unknown: no bytes are counted")
    return Peaks(found, ((target.l2_mb * 2**20, math.inf), (math.inf, bandwidth * 1e9)))
