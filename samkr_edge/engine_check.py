"""Does an engine run on this device? Compares the device in its passport with this one. Pure."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import gpu_device, gpu_model, target_of
from samkr_edge.passport import Passport
from targets.device import Device
from targets.profile import version_tuple

# Docker's --privileged shows the device tree as well.
_GUESSED = (
    "by chip and memory: the container hides which module this is, unless run with "
    "docker run --security-opt systempaths=unconfined"
)


def check_engine(model: Path, passport: Passport, here: Device, tensorrt: str) -> None:
    """Compare an engine's passport with the device ``here`` and its TensorRT version; pure.

    A plain engine runs on its GPU model with its TensorRT version. Hardware compatibility widens the first, version
    compatibility the second. An engine of TensorRT for RTX runs on the compute capabilities that it was built for. A
    power mode other than the build's is slower or faster, and no reason to refuse.

    Raises:
        SamkrError: SE-A86 a DLA core that this device lacks, SE-A87 other platform, SE-A88 other GPU, SE-A89 other
            version of its TensorRT.
    """
    built, now = passport.device, gpu_device(here)
    again = passport.build_again(model, target="auto")
    if any(built.get(key) != now[key] for key in ("machine", "system")):
        raise SamkrError(
            "SE-A87",
            f"{model.name} was built on another platform, so it was not loaded",
            {
                "built on": f"{built.get('system')} {built.get('machine')}",
                "this is": f"{now['system']} {now['machine']}",
            },
            fix=again,
        )
    if passport.runtime == "rtx":
        _check_ahead_of_time(model, passport, here, tensorrt, again)
        return
    settings = passport.settings
    level = settings.get("hardware_compatibility")
    same_capability = built.get("compute_capability") == now["compute_capability"]
    fits = same_capability and (level is not None or built.get("model") == now["model"])
    if level == "AMPERE_PLUS":
        fits = version_tuple(now["compute_capability"] or "0") >= (8, 0)
    if not fits:
        raise SamkrError(
            "SE-A88",
            f"{model.name} was built for another GPU, so it was not loaded",
            {
                "built on": f"{built.get('model')}, SM {built.get('compute_capability')}",
                "this is": f"{now['model']}, SM {now['compute_capability']}",
                "portable": level or "no: a plain engine belongs to its GPU model",
                "guessed": _GUESSED if here.is_jetson and not (here.model or here.compatible) else None,
            },
            fix=again,
        )
    found = passport.runtime_version
    _check_dla(model, passport, here, again)
    compatible = "VERSION_COMPATIBLE" in settings.get("builder_flags", ())
    if not _loads(found, tensorrt, compatible):
        raise SamkrError(
            "SE-A89",
            f"{model.name} was built with another TensorRT, so it was not loaded",
            {
                "built with": f"{found}{' (version compatible)' if compatible else ''}",
                "this is": tensorrt,
            },
            fix=again,
        )


def power_note(model: Path, passport: Passport, here: Device) -> str | None:
    """A warning if the engine was built with another number of SMs on, as in another nvpmodel mode; or None.

    It loads and computes the same, but its kernels were chosen for another number of SMs: an engine built in this mode
    may be faster.
    """
    built, now = passport.device, gpu_device(here)
    if (
        built.get("model") != now["model"]
        or None in (built.get("sms"), now["sms"])
        or built["sms"] == now["sms"]
    ):
        return None
    was, is_now = (
        f"{one['sms']} SMs{f' ({mode})' if (mode := one.get('power_mode')) else ''}" for one in (built, now)
    )
    return (
        f"{model.name} was built with {was} switched on, and now it is {is_now}: its kernels were chosen for the "
        f"former; for this mode: {passport.build_again(model, target='auto')}"
    )


def _check_dla(model: Path, passport: Passport, here: Device, again: str) -> None:
    core, device = passport.settings.get("dla_core"), target_of(here)
    if core is not None and core >= device.dla_cores:
        raise SamkrError(
            "SE-A86",
            f"{model.name} runs on a DLA core that this device does not have, so it was not loaded",
            {"built for": f"DLA core {core}", "this is": f"{device.title}, DLA cores: {device.dla_cores}"},
            fix=again,
        )


def _check_ahead_of_time(model: Path, passport: Passport, here: Device, version: str, again: str) -> None:
    """An engine of TensorRT for RTX runs on its compute capabilities, and only with the release that built it."""
    capabilities = passport.device.get("compute_capabilities", [])
    if here.compute_capability not in capabilities:
        raise SamkrError(
            "SE-A88",
            f"{model.name} was built for other GPUs, so it was not loaded",
            {
                "built for": f"SM {', '.join(capabilities)}",
                "this is": f"{gpu_model(here)}, SM {here.compute_capability}",
            },
            fix=again,
        )
    if not _loads(passport.runtime_version, version, version_compatible=False):
        raise SamkrError(
            "SE-A89",
            f"{model.name} was built with another TensorRT for RTX, so it was not loaded",
            {
                "built with": passport.runtime_version,
                "this is": version,
                "reason": "a release loads only its own engines",
            },
            fix=again,
        )


def _loads(built: str, here: str, version_compatible: bool) -> bool:
    """Whether TensorRT ``here`` loads an engine of ``built``; a missing build number matches any."""
    old, new = version_tuple(built), version_tuple(here)
    length = min(len(old), len(new))
    if old[:length] == new[:length]:
        return length > 0
    # Across major versions only 8 -> 10 and 10 -> 11: NVIDIA's support matrix of 11.4.
    return (
        version_compatible
        and old < new
        and (old[0], new[0]) in ((8, 8), (10, 10), (11, 11), (8, 10), (10, 11))
    )
