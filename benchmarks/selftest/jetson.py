"""Stage 11: a Jetson is recognised, and its reports of clocks and power are right."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from benchmarks.measure.energy import PowerSource, Sampler, ina3221, tegrastats_power
from benchmarks.measure.sensors import ROOT, gpu_devfreq, jetson_power_mode, read_jetson
from benchmarks.selftest.as_root import can_be_root, output_of, run_as_root
from benchmarks.selftest.jetson_engines import engine_checks
from benchmarks.selftest.stage import Check, Rig, not_run
from samkr_edge.machine.device import running_device, target_of
from targets.device import Device

# A power mode may have fewer live SMs; firmware and carve-outs reduce the memory.
_MEMORY = (0.75, 1.05)
_POWER_LIMIT = 0.1
_POWER_S = 6.0


def checks(rig: Rig, root: Path = ROOT) -> Iterator[Check]:
    """The machine first, then engines on it, then the clocks, which are locked briefly and restored."""
    device = running_device()
    yield recognised(device)
    yield jetpack(device)
    yield gpu_node(root)
    yield power(ina3221(root), tegrastats_power())
    yield from engine_checks(rig, device, root)
    yield locked_clocks(rig.folder / "clocks", root)


def recognised(device: Device) -> Check:
    """Identify the profile by the module's id, and compare the driver's facts about the GPU with it."""
    what, target = "module", target_of(device)
    ids = sorted({found for text in device.compatible for found in re.findall(r"p\d{4}-\d{4}", text)})
    memory = (device.memory_bytes or 0) / 2**30
    found = f"{target.name} ({', '.join(ids) or 'no module id'}; {device.model or 'no model line'})"
    limit = "a profile of this module, with this GPU and memory"
    figures = {"target": target.name, "ids": ids, "sms": device.sms, "memory_gib": round(memory, 2)}
    if not ids:
        return Check(what, f"{found}: a container hides the id", limit, None, figures)
    wrong = [
        *([] if set(ids) & set(target.modules) else ["no profile has this id"]),
        *(
            []
            if device.compute_capability == target.compute_capability
            else [f"SM {device.compute_capability}, not {target.compute_capability}"]
        ),
        *([] if (device.sms or 0) <= (target.sms or 0) else [f"{device.sms} SMs, not {target.sms}"]),
        *(
            []
            if target.memory_gb is None
            or _MEMORY[0] * target.memory_gb <= memory <= _MEMORY[1] * target.memory_gb
            else [f"{memory:.1f} GiB, not {target.memory_gb:g}"]
        ),
    ]
    return Check(what, "; ".join([found, *wrong]), limit, not wrong, figures)


def jetpack(device: Device) -> Check:
    """Its release by L4T's version."""
    what = "JetPack"
    if device.l4t is None:
        return not_run(what, device.release)
    return Check(what, device.release, "a known release", device.jetpack is not None, {"l4t": device.l4t})


def gpu_node(root: Path) -> Check:
    """Its clock from sysfs alone, without `tegrastats`."""
    node, mhz = gpu_devfreq(root), read_jetson(root).gpu_mhz
    found = "none" if node is None else f"{node.relative_to(root)}: {mhz or 0:.0f} MHz"
    return Check("GPU's clock in sysfs", found, "found, above 0 MHz", bool(mhz), {"mhz": mhz})


def power(monitor: PowerSource | None, tegrastats: PowerSource | None, seconds: float = _POWER_S) -> Check:
    """INA3221 through sysfs against `tegrastats`, both read for the same seconds."""
    what = "power: INA3221 against tegrastats"
    if monitor is None:
        return not_run(what, "no INA3221 that this user can read")
    if tegrastats is None:
        return not_run(what, "there is no tegrastats, or it prints no known rail")
    with Sampler(monitor) as ours, Sampler(tegrastats) as theirs:
        time.sleep(seconds)
    if not ours.samples or not theirs.samples:
        return not_run(what, "one of the two gave no reading")
    watts, expected = fmean(ours.samples), fmean(theirs.samples)
    apart = watts / expected - 1 if expected else float("inf")
    return Check(
        what,
        f"{watts:.2f} W ({monitor.rail}) against {expected:.2f} W ({tegrastats.rail}): {apart:+.1%}",
        f"within {_POWER_LIMIT:.0%}",
        abs(apart) <= _POWER_LIMIT,
        {"ina3221_watts": watts, "tegrastats_watts": expected},
    )


def locked_clocks(store: Path, root: Path) -> Check:
    """Whether locked clocks are recognised. `jetson_clocks` restores its changes from ``store``."""
    what = "clocks locked after jetson_clocks"
    if (seen := _clocks(root)) is None:
        return not_run(what, "nvpmodel names no mode, or the GPU's clock has no node")
    if seen.endswith("locked"):
        return Check(what, f"{seen}, before it was run", "seen as locked", True)
    if not can_be_root():
        return not_run(
            what, "needs root: sudo jetson_clocks, then samkr-edge selftest --stage 11 --out selftest-11"
        )
    if not run_as_root("jetson_clocks", "--store", str(store)):
        return not_run(what, "jetson_clocks --store failed, so nothing was changed")
    try:
        if not run_as_root("jetson_clocks"):
            return not_run(what, "jetson_clocks failed")
        after = _clocks(root) or "nothing"
    finally:
        run_as_root("jetson_clocks", "--restore", str(store))
    return Check(what, f"{after}, before {seen}", "seen as locked", after.endswith("locked"))


def _clocks(root: Path) -> str | None:
    """``MAXN (id 0), clocks locked``; None if unknown."""
    mode = jetson_power_mode(output_of("nvpmodel", "-q"), root)
    return mode if mode and mode.rpartition(", ")[2] in ("clocks locked", "clocks free") else None
