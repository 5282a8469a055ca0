"""A target: the device a model is built for, as data."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

PROFILES = Path(__file__).parent


class Part(BaseModel):
    """A section of a profile; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PowerMode(Part):
    """A power mode by name (ids differ between boards): live SMs and the GPU's highest clock in MHz."""

    name: str
    sms: int = Field(ge=1)
    mhz: int | None = Field(default=None, ge=1)
    default: bool = False


class Limit(Part):
    """Something this device cannot do, why, and what to do instead."""

    what: str
    why: str
    instead: str


class Target(Part):
    """One device.

    Attributes:
        name: file name of the profile.
        family: ``cpu``, ``jetson`` or ``rtx``.
        compute_capability: for example ``8.7``.
        sms: streaming multiprocessors with all of them live.
        memory_gb, bandwidth_gbs: capacity and GB/s.
        int8_tops, fp16_tflops: dense peak of the GPU alone, at its highest clock; None where not published.
        dla_cores: deep-learning accelerators.
        jetpack: JetPack versions that run on it.
        tensorrt: lowest and highest TensorRT version known to build for it.
        power_modes: nvpmodel modes; they gate SMs as well as clocks.
        cannot: refusals with their reasons.
        source: where the figures come from.
    """

    name: str
    title: str
    family: Literal["cpu", "jetson", "rtx"]
    compute_capability: str | None = None
    sms: int | None = None
    memory_gb: float | None = None
    bandwidth_gbs: float | None = None
    int8_tops: float | None = None
    fp16_tflops: float | None = None
    dla_cores: int = 0
    jetpack: tuple[str, ...] = ()
    tensorrt: tuple[str, str] | None = None
    power_modes: tuple[PowerMode, ...] = ()
    cannot: tuple[Limit, ...] = ()
    aliases: tuple[str, ...] = ()
    source: str

    def refusal(self, what: str) -> Limit | None:
        """The limit that forbids ``what`` (``int8``, ``dla``), if there is one."""
        return next((limit for limit in self.cannot if limit.what == what), None)


class UnknownTarget(LookupError):
    """No profile of this name; ``near`` holds the closest names."""

    def __init__(self, name: str, near: list[str]) -> None:
        super().__init__(name)
        self.name = name
        self.near = near


@cache
def all_targets() -> tuple[Target, ...]:
    """Every profile, by family and name."""
    profiles = [
        Target.model_validate({"name": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))})
        for path in PROFILES.glob("*.yaml")
    ]
    return tuple(sorted(profiles, key=lambda target: (target.family, target.name)))


def load_target(name: str) -> Target:
    """A profile by its name or alias; raises :class:`UnknownTarget`."""
    for target in all_targets():
        if name in (target.name, *target.aliases):
            return target
    names = [n for target in all_targets() for n in (target.name, *target.aliases)]
    raise UnknownTarget(name, difflib.get_close_matches(name, names, n=3, cutoff=0.4))
