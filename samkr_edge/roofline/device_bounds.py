"""The bound of one network on every device profile, in every power mode and precision. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from samkr_edge.roofline.bound import bound, weight_bytes
from samkr_edge.roofline.graph_work import GraphWork
from targets.peaks import Peaks, peaks_of
from targets.profile import Target


@dataclass(frozen=True)
class DeviceBound:
    """The least time of an inference, and what follows from it.

    Attributes:
        target, title: of the profile.
        mode: the power mode; None for a device without any. ``default`` marks the one that it starts in.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8`` (what stays float is then FP16).
        seconds: the bound, of ``images`` images.
        bandwidth_share: of the bound, 0..1, in layers that the bandwidth bounds.
        memory: bytes of the weights, and of the most maps that wait at one time.
        watts: the power limit; None where there is none, or it is unknown.
        unknown: what could not be counted, in words.
    """

    target: str
    title: str
    mode: str | None
    default: bool
    precision: str
    images: int
    seconds: float
    bandwidth_share: float
    memory: int
    watts: float | None
    unknown: str

    @property
    def frames_per_second(self) -> float:
        """At most."""
        return self.images / self.seconds

    @property
    def frames_per_joule(self) -> float | None:
        """Frames a second at most, a watt of the limit."""
        return None if self.watts is None else self.frames_per_second / self.watts

    @property
    def by(self) -> str:
        """``compute`` or ``bandwidth``: what bounds most of it."""
        return "bandwidth" if self.bandwidth_share > 0.5 else "compute"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: times in milliseconds, sizes in MB of 10^6 bytes."""
        return {
            "target": self.target,
            "power_mode": self.mode,
            "default_mode": self.default,
            "precision": self.precision,
            "images": self.images,
            "bound_ms": 1e3 * self.seconds,
            "frames_per_second_at_most": self.frames_per_second,
            "bounded_by": self.by,
            "bandwidth_share": self.bandwidth_share,
            "memory_mb_at_least": self.memory / 1e6,
            "watts": self.watts,
            "frames_per_second_a_watt_at_most": self.frames_per_joule,
            "unknown": self.unknown or None,
        }


def device_bounds(
    work: Mapping[str, GraphWork], targets: Iterable[Target], images: int, *, samples: bool
) -> tuple[list[DeviceBound], dict[str, str]]:
    """The bounds, the most frames a watt first, and what has none: target -> why.

    Args:
        work: of one inference of ``images`` images, by precision.
        samples: the network needs GridSample, which some devices have no TensorRT for.
    """
    rows: list[DeviceBound] = []
    without: dict[str, str] = {}
    for target in targets:
        if not target.compute_capability:
            continue
        if samples and (limit := target.refusal("gridsample")):
            without[target.name] = f"{limit.why}; {limit.instead}"
            continue
        for mode in target.power_modes or (None,):
            peaks = peaks_of(target, mode)
            for precision, counted in work.items():
                if not _known(counted, peaks):
                    continue
                watts = target.watts if mode is None else mode.watts
                name = None if mode is None else mode.name + (" (Super)" if mode.super else "")
                rows.append(
                    _row(target, name, mode is None or mode.default, precision, counted, peaks, images, watts)
                )
        unknown = [
            precision.upper() for precision, counted in work.items() if not _known(counted, peaks_of(target))
        ]
        if unknown:
            refusal = target.refusal("int8")
            why = refusal.why if refusal and unknown == ["INT8"] else "no dense peak is known"
            without[target.name] = f"{', '.join(unknown)}: {why}"
    rows.sort(key=lambda row: (-(row.frames_per_joule or 0.0), -row.frames_per_second))
    return rows, without


def cpu_bounds(work: Mapping[str, GraphWork], name: str, peaks: Peaks, images: int) -> list[DeviceBound]:
    """The bounds on this machine's CPU by its measured peaks: what is not INT8 is FP32, its bytes counted as FP16's."""
    cpu = Target(name="cpu", title=name, family="cpu", source="measured")
    rows = []
    for precision, counted in work.items():
        if precision == "int8":
            layers = tuple(
                replace(one, precision="fp32") if one.precision == "fp16" else one for one in counted.layers
            )
            counted = replace(counted, layers=layers)
        if _known(counted, peaks):
            rows.append(_row(cpu, None, True, precision, counted, peaks, images, None))
    return sorted(rows, key=lambda row: row.seconds)


def _known(work: GraphWork, peaks: Peaks) -> bool:
    return all(layer.precision in peaks.macs for layer in work.layers if layer.macs)


def _row(
    target: Target,
    mode: str | None,
    default: bool,
    precision: str,
    work: GraphWork,
    peaks: Peaks,
    images: int,
    watts: float | None,
) -> DeviceBound:
    found = bound(work.layers, peaks)
    return DeviceBound(
        target=target.name,
        title=target.title,
        mode=mode,
        default=default,
        precision=precision,
        images=images,
        seconds=found.seconds,
        bandwidth_share=found.bandwidth_share,
        memory=weight_bytes(work.layers) + work.live,
        watts=watts,
        unknown=peaks.unknown,
    )
