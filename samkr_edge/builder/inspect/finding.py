"""A finding of an inspection of a graph or an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that costs speed or joints.

    Attributes:
        kind: for a graph ``float-island``, ``float-sum``, ``asymmetric``, ``per-tensor-weight``,
            ``per-channel-activation``, ``bad-scale``, ``quantized-grid`` or ``nearest-grid``; for an engine
            ``float-island``, ``unfused-sum``, ``small-convolution``, ``conversions``, ``fp32-remainder``,
            ``int8-writes-float``, ``many-elementwise-kernels`` or ``not-int8``.
        what: one sentence.
        modules: of the network that it concerns; a graph node if it belongs to none.
        ms: time of the layers concerned, if the engine has a profile.
        policy: rules of a quantization policy that would fix it; empty if no rule can.
        note: caveats of that fix, or what to do instead.
    """

    kind: str
    what: str
    modules: tuple[str, ...]
    ms: float | None = None
    policy: str = ""
    note: str = ""
