"""What an inspection says of a graph or of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that costs speed or joints.

    Attributes:
        kind: of a graph ``float-island``, ``float-sum``, ``asymmetric``, ``per-tensor-weight``,
            ``per-channel-activation``, ``bad-scale``, ``quantized-grid`` or ``nearest-grid``; of an engine
            ``float-island``, ``unfused-sum``, ``small-convolution``, ``conversions``, ``fp32-remainder``,
            ``int8-writes-float``, ``many-elementwise-kernels`` or ``not-int8``.
        what: one sentence.
        modules: of the network, whom it concerns; a node of the graph that belongs to none.
        ms: time of the layers concerned, where an engine's profile tells.
        policy: rules of a quantization policy that would fix it; empty where no rule can.
        note: what to know before doing so, or what to do instead.
    """

    kind: str
    what: str
    modules: tuple[str, ...]
    ms: float | None = None
    policy: str = ""
    note: str = ""
