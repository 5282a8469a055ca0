"""Which target is this device? By its own facts; pure, so that recorded texts can test it."""

from __future__ import annotations

import re

from targets.device import Device
from targets.profile import Limit, Target, all_targets, broken_profiles, load_target


def recognise(device: Device) -> Target:
    """The profile of a device.

    A Jetson is recognised by its module id, else by its model line and the nearest memory size, else (a container hides
    both) by its chip and memory; a card by its name in the driver. A GPU without a profile gets one from the driver's
    facts; without a GPU it is ``cpu``.

    Raises:
        BrokenProfile: no readable profile is exactly this device's, and one of its family is broken.
    """
    profiles = all_targets()
    ids = {found for text in device.compatible for found in re.findall(r"p\d{4}-\d{4}", text)}
    for target in profiles:
        if ids & set(target.modules):
            return target
    named = [t for t in profiles if any(part.lower() in device.model.lower() for part in t.models)]
    if device.model and named:
        _require_readable(jetsons=True)
        return _nearest(named, device)
    if device.gpu is None:
        return load_target("cpu")
    if device.is_jetson:
        _require_readable(jetsons=True)
        return _jetson_by_chip(profiles, device)
    for target in profiles:
        if device.gpu.lower() in (name.lower() for name in target.gpu_names):
            return target
    _require_readable(jetsons=False)
    return Target(
        name=f"gpu-sm{(device.compute_capability or '0.0').replace('.', '')}",
        title=device.gpu,
        family="gpu",
        compute_capability=device.compute_capability,
        sms=device.sms,
        memory_gb=_memory_gb(device),
        source="the CUDA driver of this machine; there is no profile of this GPU",
    )


def _require_readable(*, jetsons: bool) -> None:
    """Raise the error of a broken profile that may be this device's, before it gets the nearest other one."""
    for broken in broken_profiles():
        if broken.path.stem.startswith("jetson") == jetsons:
            raise broken


def _jetson_by_chip(profiles: tuple[Target, ...], device: Device) -> Target:
    """The module by chip, live SMs and memory; of two that fit, the lesser one, without DLA."""
    likely = [
        target
        for target in profiles
        if target.family == "jetson"
        and (target.soc == device.chip or device.chip is None)
        and target.compute_capability == device.compute_capability
        and (target.sms or 0) >= (device.sms or 0)
    ]
    if likely:
        return _nearest(likely, device)
    return Target(
        name=f"jetson-sm{(device.compute_capability or '0.0').replace('.', '')}",
        title=f"Jetson, GPU {device.gpu}",
        family="jetson",
        soc=device.chip,
        compute_capability=device.compute_capability,
        sms=device.sms,
        memory_gb=_memory_gb(device),
        cannot=(Limit(what="dla", why="the module is unknown", instead="build for the GPU"),),
        source="the CUDA driver of this machine; there is no profile of this module",
    )


def _nearest(targets: list[Target], device: Device) -> Target:
    size = (device.memory_bytes or 0) / 1e9
    return min(targets, key=lambda target: (abs((target.memory_gb or 0) - size), target.dla_cores))


def _memory_gb(device: Device) -> float | None:
    return round(device.memory_bytes / 2**30, 1) if device.memory_bytes else None
