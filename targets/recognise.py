"""Which target is this? From what a device says about itself; pure, so that recorded texts can test it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from targets.jetpack import jetpack_of
from targets.profile import Target, all_targets, load_target


@dataclass(frozen=True)
class Device:
    """What the running device says about itself; empty where it does not say.

    Attributes:
        machine, system: ``aarch64``, ``Linux``.
        model: the device tree's model line; ``compatible`` its list of ids.
        l4t: L4T version, on a Jetson.
        gpu, compute_capability, sms, memory_bytes: of GPU 0, from the CUDA driver; ``sms`` counts live ones, which a
            power mode can gate, and ``memory_bytes`` is all memory (a Jetson's is shared with its CPU).
        cuda: the highest CUDA version the driver knows.
        power_mode: name of the nvpmodel mode.
    """

    machine: str = ""
    system: str = ""
    model: str = ""
    compatible: tuple[str, ...] = ()
    l4t: str | None = None
    gpu: str | None = None
    compute_capability: str | None = None
    sms: int | None = None
    memory_bytes: int | None = None
    cuda: str | None = None
    power_mode: str | None = None

    @property
    def jetpack(self) -> str | None:
        """JetPack version, where the L4T version belongs to a known one."""
        release = jetpack_of(self.l4t) if self.l4t else None
        return release.version if release else None


def recognise(device: Device) -> Target:
    """The profile of a device.

    A Jetson is known by its module id, else by its model line and the memory nearest to it; a card by the name its
    driver prints. A GPU without a profile gets one made of what the driver says; without any GPU it is ``cpu``.
    """
    profiles = all_targets()
    ids = {found for text in device.compatible for found in re.findall(r"p\d{4}-\d{4}", text)}
    for target in profiles:
        if ids & set(target.modules):
            return target
    named = [t for t in profiles if any(part.lower() in device.model.lower() for part in t.models)]
    if device.model and named:
        size = (device.memory_bytes or 0) / 1e9
        return min(named, key=lambda t: abs((t.memory_gb or 0) - size))
    if device.gpu is None:
        return load_target("cpu")
    for target in profiles:
        if device.gpu.lower() in (name.lower() for name in target.gpu_names):
            return target
    return Target(
        name=f"gpu-sm{(device.compute_capability or '0.0').replace('.', '')}",
        title=device.gpu,
        family="gpu",
        compute_capability=device.compute_capability,
        sms=device.sms,
        memory_gb=round(device.memory_bytes / 2**30, 1) if device.memory_bytes else None,
        source="the CUDA driver of this machine; there is no profile of this GPU",
    )


def parse_model(data: bytes) -> str:
    """``/proc/device-tree/model``: ends in a NUL."""
    return data.decode("utf-8", "replace").strip("\0 \n")


def parse_compatible(data: bytes) -> tuple[str, ...]:
    """``/proc/device-tree/compatible``: NUL-separated ids, the most exact first."""
    return tuple(part for part in data.decode("utf-8", "replace").split("\0") if part.strip())


def parse_power_mode(text: str) -> str | None:
    """Name of the mode from ``nvpmodel -q``: ``NV Power Mode: MODE_30W`` and ``NV Power Mode: 30W`` alike."""
    found = re.search(r"^NV Power Mode:\s*(?:MODE_)?(\S+)", text, flags=re.MULTILINE)
    return found[1] if found else None
