"""A target: the device a model is built for, as data."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PROFILES = Path(__file__).parent
Capability = Annotated[str, Field(pattern=r"^\d+\.\d$")]


class ProfileSection(BaseModel):
    """A section of a profile; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PowerMode(ProfileSection):
    """A power mode by name (ids differ between boards): live SMs and the GPU's highest clock in MHz.

    ``super`` marks the modes of JetPack 6.2's Super configuration, which has its own names and default. ``watts`` is
    the module's budget, None where a mode has none (MAXN); ``bandwidth_gbs`` is given where it differs from the
    profile's.
    """

    name: str
    sms: int = Field(ge=1)
    mhz: int | None = Field(default=None, ge=1)
    watts: float | None = Field(default=None, gt=0)
    bandwidth_gbs: float | None = Field(default=None, gt=0)
    super: bool = False
    default: bool = False


class Limit(ProfileSection):
    """Something this device cannot do (``int8``, ``dla``, ``gridsample``), why, and what to do instead."""

    what: Literal["int8", "dla", "gridsample"]
    why: str
    instead: str


class Target(ProfileSection):
    """One device.

    Attributes:
        name: file name of the profile.
        family: ``cpu``, ``jetson``, ``rtx``, or ``gpu`` for a card without a profile, described by its driver.
        soc: the Tegra chip, which decides the JetPacks.
        modules: device-tree ids of the module; ``models`` parts of the device tree's model line.
        gpu_names: as the driver prints them.
        compute_capability: for example ``8.7``.
        compute_capabilities: of a target for many GPUs, which has no ``compute_capability``.
        sms: streaming multiprocessors with all of them live.
        max_mhz: the GPU's highest clock in any mode.
        memory_gb, bandwidth_gbs: capacity and GB/s.
        l2_mb: L2 cache of the GPU, MB of 2^20 bytes.
        watts: the card's power limit; a Jetson's is that of its power modes.
        int8_tops, fp16_tflops: dense peak of the GPU alone, at its highest clock; None where not published.
        dla_cores: deep-learning accelerators; ``dla_int8_tops`` the dense peak of each.
        jetpack: JetPack versions that run on it; see ``targets.jetpack``.
        tensorrt: lowest and highest TensorRT version known to build for it.
        power_modes: nvpmodel modes; they gate SMs as well as clocks.
        cannot: refusals with their reasons.
        source: where the figures come from; an unchecked figure is marked unverified in the YAML.
    """

    name: str
    title: str
    family: Literal["cpu", "jetson", "rtx", "gpu"]
    aliases: tuple[str, ...] = ()
    soc: str | None = None
    modules: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    gpu_names: tuple[str, ...] = ()
    compute_capability: Capability | None = None
    compute_capabilities: tuple[Capability, ...] = ()
    sms: int | None = Field(default=None, ge=1)
    max_mhz: int | None = Field(default=None, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    bandwidth_gbs: float | None = Field(default=None, gt=0)
    l2_mb: float | None = Field(default=None, gt=0)
    watts: float | None = Field(default=None, gt=0)
    int8_tops: float | None = Field(default=None, gt=0)
    fp16_tflops: float | None = Field(default=None, gt=0)
    dla_cores: int = Field(default=0, ge=0)
    dla_int8_tops: float | None = Field(default=None, gt=0)
    jetpack: tuple[str, ...] = ()
    tensorrt: tuple[str, str] | None = None
    power_modes: tuple[PowerMode, ...] = ()
    cannot: tuple[Limit, ...] = ()
    source: str

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Every compute capability that an engine for this target has to run on."""
        return self.compute_capabilities or ((self.compute_capability,) if self.compute_capability else ())

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Target:
        for configuration in (False, True):
            modes = [mode for mode in self.power_modes if mode.super is configuration]
            if modes and sum(mode.default for mode in modes) != 1:
                raise ValueError(f"{self.name}: exactly one power mode is the default")
            if len({mode.name for mode in modes}) != len(modes):
                raise ValueError(f"{self.name}: a power mode is listed twice")
            if any(mode.sms > (self.sms or 0) for mode in modes):
                raise ValueError(f"{self.name}: a power mode has more SMs than the chip")
        if self.refusal("int8") and self.int8_tops:
            raise ValueError(f"{self.name}: refuses INT8 and gives a peak for it")
        if bool(self.dla_cores) == bool(self.refusal("dla")) and self.family == "jetson":
            raise ValueError(f"{self.name}: either has DLA cores or says that it has none")
        if self.compute_capability and self.compute_capabilities:
            raise ValueError(f"{self.name}: either one compute capability or several")
        if self.tensorrt and version_tuple(self.tensorrt[0]) > version_tuple(self.tensorrt[1]):
            raise ValueError(f"{self.name}: the TensorRT range runs backwards")
        return self

    def refusal(self, what: str) -> Limit | None:
        """The limit that forbids ``what`` (``int8``, ``dla``), if there is one."""
        return next((limit for limit in self.cannot if limit.what == what), None)


def version_tuple(text: str) -> tuple[int, ...]:
    """``10.3.0.26`` -> (10, 3, 0, 26); it ends before the first part that is not a number."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


class UnknownTarget(LookupError):
    """No profile has this name; ``near`` holds the closest names."""

    def __init__(self, name: str, near: list[str]) -> None:
        super().__init__(name)
        self.name = name
        self.near = near


class BrokenProfile(ValueError):
    """A profile that cannot be read; ``reasons`` say what is wrong, by key where possible."""

    def __init__(self, path: Path, reasons: dict[str, str]) -> None:
        super().__init__(f"{path}: {reasons}")
        self.path = path
        self.reasons = reasons


def read_profile(path: Path) -> Target:
    """The profile in a file; raises ``BrokenProfile``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            found = "nothing" if content is None else f"a {type(content).__name__}"
            raise BrokenProfile(path, {"expected": "keys with values", "found": found})
        return Target.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        wrong = {".".join(map(str, one["loc"])) or "profile": one["msg"] for one in error.errors()[:4]}
        raise BrokenProfile(path, wrong) from error
    except BrokenProfile:
        raise
    # ValueError: not UTF-8, or a date that does not exist; RecursionError: endless nesting.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BrokenProfile(path, {"reason": _reason_of(error)}) from error


def _reason_of(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None)}"


@cache
def _profiles() -> tuple[tuple[Target, ...], tuple[BrokenProfile, ...]]:
    good, broken = [], []
    for path in sorted(PROFILES.glob("*.yaml")):
        try:
            good.append(read_profile(path))
        except BrokenProfile as error:
            broken.append(error)
    return tuple(sorted(good, key=lambda target: (target.family, target.name))), tuple(broken)


def all_targets() -> tuple[Target, ...]:
    """Every profile that can be read, by family and name."""
    return _profiles()[0]


def broken_profiles() -> tuple[BrokenProfile, ...]:
    """The others, by file name: they stop only commands that need them."""
    return _profiles()[1]


def load_target(name: str) -> Target:
    """A profile by its name or alias; raises ``UnknownTarget`` or ``BrokenProfile``."""
    for target in all_targets():
        if name in (target.name, *target.aliases):
            return target
    # An alias is in the file, which cannot be read; ours are the beginning of its name.
    for broken in broken_profiles():
        if f"{broken.path.stem}-".startswith(f"{name}-"):
            raise broken
    names = [n for target in all_targets() for n in (target.name, *target.aliases)]
    raise UnknownTarget(name, difflib.get_close_matches(name, names, n=3, cutoff=0.4))
