"""`samkr-edge targets`, and the targets' errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import AsJson
from samkr_edge.cli.unused_options import refuse_unused
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from targets.device import Device
    from targets.profile import Target


def targets(
    name: Annotated[str | None, typer.Argument(help="Show one target; `auto`: this device.")] = None,
    network: Annotated[
        str | None,
        typer.Option(help="The least time of this network (zoo name or exported ONNX file) on every target."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="With --network: input HxW, multiples of 32 [default: the network's].")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="With --network: images of an inference.")] = None,
    as_json: AsJson = False,
) -> None:
    """Device profiles: what a model can be built for, and what a device cannot do.

    With --network, the lower bound of the network's time on every target, in every power mode and precision: per layer
    the larger of its multiply-accumulates over the dense peak and its bytes over the bandwidth. A bound, not a
    measurement.

    Examples:

      samkr-edge targets

      samkr-edge targets jetson-orin-nano

      samkr-edge targets auto

      samkr-edge targets --network samkr_w32

      samkr-edge targets jetson-orin-nano --network qat.onnx --size 256x256
    """
    from dataclasses import asdict

    from rich.table import Table

    from samkr_edge.cli.console import emit
    from samkr_edge.machine.device import running_device, target_of
    from samkr_edge.terminal import say
    from targets.profile import all_targets, broken_profiles

    refuse_unused("--network NAME", network, {"--size": size, "--batch": batch})
    if network is not None:
        from samkr_edge.cli.targets_network import network_bounds

        network_bounds(network, None if name is None else find_target(name), size, batch, as_json)
        return
    if name is not None:
        device = running_device() if name == "auto" else None
        target = target_of(device) if device else find_target(name)
        payload = {"target": target.model_dump(mode="json"), "device": asdict(device) if device else None}
        here = _describe_device(device) if device else ""
        emit(payload, _describe(target) + here, as_json)
        return
    table = Table(title="targets")
    for column in ("name", "device", "SM", "memory", "INT8 dense peak", "TensorRT"):
        table.add_column(column)
    for target in all_targets():
        table.add_row(
            ", ".join((target.name, *target.aliases)),
            target.title,
            ", ".join(target.capabilities),
            f"{target.memory_gb:g} GB" if target.memory_gb else "",
            f"{target.int8_tops:g} TOPS" if target.int8_tops else "no INT8" if target.refusal("int8") else "",
            " to ".join(target.tensorrt) if target.tensorrt else "",
        )
    for broken in broken_profiles():
        say(
            f"not listed: {broken.path.name} is not a valid profile; samkr-edge targets {quoted(broken.path.stem)}"
        )
    emit({"targets": [target.model_dump(mode="json") for target in all_targets()]}, table, as_json)


def find_target(name: str) -> Target:
    """A profile by name, ``auto`` for this device.

    Raises:
        SamkrError: SE-U50 there is no such target; SE-U52 its profile cannot be read.
    """
    from samkr_edge.machine.device import broken_profile, running_device, target_of
    from targets.profile import BrokenProfile, UnknownTarget, broken_profiles, load_target

    if name == "auto":
        return target_of(running_device())
    try:
        return load_target(name)
    except BrokenProfile as error:
        raise broken_profile(error) from error
    except UnknownTarget as error:
        facts = {
            "nearest": ", ".join(error.near) or None,
            "not valid": [broken.path.name for broken in broken_profiles()],
        }
        raise SamkrError("SE-U50", f"there is no target {name!r}", facts, fix="samkr-edge targets") from error


def _describe(target: Target) -> str:
    def figure(value: float | None, unit: str) -> str | None:
        return None if value is None else f"{value:g} {unit}"

    lines = [f"{target.name}: {target.title}"]
    dla = f"{target.dla_cores} x {target.dla_int8_tops or '?'} TOPS INT8, dense" if target.dla_cores else None
    facts = {
        "SM": ", ".join(target.capabilities) or None,
        "SMs": target.sms,
        "GPU clock": figure(target.max_mhz, "MHz at most"),
        "memory": figure(target.memory_gb, "GB"),
        "bandwidth": figure(target.bandwidth_gbs, "GB/s"),
        "INT8 peak": figure(target.int8_tops, "TOPS, dense"),
        "FP16 peak": figure(target.fp16_tflops, "TFLOPS, dense"),
        "DLA": dla,
        "JetPack": ", ".join(target.jetpack) or None,
        "TensorRT": " to ".join(target.tensorrt) if target.tensorrt else None,
    }
    lines += [f"  {label:<12}{value}" for label, value in facts.items() if value is not None]
    for mode in target.power_modes:
        clock = f"{mode.mhz} MHz" if mode.mhz else "highest clock"
        marks = [mark for mark, on in (("Super", mode.super), ("default", mode.default)) if on]
        lines.append(
            f"  power mode  {mode.name}: {mode.sms} SMs, {clock}{' (' + ', '.join(marks) + ')' if marks else ''}"
        )
    lines += [f"  cannot      {limit.what}: {limit.why}; {limit.instead}" for limit in target.cannot]
    lines.append(f"  source      {target.source}")
    return "\n".join(lines)


def _describe_device(device: Device) -> str:
    facts = {
        "model": device.model,
        "GPU": device.gpu,
        "live SMs": device.sms,
        "release": device.release,
        "power mode": device.power_mode,
        "CUDA": f"up to {device.cuda}" if device.cuda else None,
    }
    lines = [f"  {label:<12}{value}" for label, value in facts.items() if value]
    return "\nthis device\n" + "\n".join(lines or ["  no NVIDIA GPU is visible"])
