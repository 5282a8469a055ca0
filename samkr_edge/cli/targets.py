"""`samkr-edge targets`, and the targets' errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from targets.profile import Target


def targets(
    name: Annotated[str | None, typer.Argument(help="Show one target.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Device profiles: what a model can be built for, and what a device cannot do.

    Examples:

      samkr-edge targets

      samkr-edge targets jetson-orin-nano
    """
    from rich.table import Table

    from samkr_edge.cli.console import emit
    from targets.profile import all_targets

    if name is not None:
        target = find_target(name)
        emit({"target": target.model_dump(mode="json")}, _describe(target), as_json)
        return
    table = Table(title="targets")
    for column in ("name", "device", "SM", "memory", "INT8 dense peak", "TensorRT"):
        table.add_column(column)
    for target in all_targets():
        table.add_row(
            target.name,
            target.title,
            target.compute_capability or "",
            f"{target.memory_gb:g} GB" if target.memory_gb else "",
            f"{target.int8_tops:g} TOPS" if target.int8_tops else "no INT8" if target.refusal("int8") else "",
            " to ".join(target.tensorrt) if target.tensorrt else "",
        )
    emit({"targets": [target.model_dump(mode="json") for target in all_targets()]}, table, as_json)


def find_target(name: str) -> Target:
    """A profile by name; raises SamkrError SE-U50 with the nearest names."""
    from targets.profile import UnknownTarget, load_target

    try:
        return load_target(name)
    except UnknownTarget as error:
        near = [f"nearest    {', '.join(error.near)}"] if error.near else []
        raise SamkrError("SE-U50", f"there is no target {name!r}", near, fix="samkr-edge targets") from error


def _describe(target: Target) -> str:
    lines = [f"{target.name}: {target.title}"]
    facts = {
        "SM": target.compute_capability,
        "SMs": target.sms,
        "memory": f"{target.memory_gb:g} GB" if target.memory_gb else None,
        "bandwidth": f"{target.bandwidth_gbs:g} GB/s" if target.bandwidth_gbs else None,
        "INT8 peak": f"{target.int8_tops:g} TOPS, dense" if target.int8_tops else None,
        "DLA cores": target.dla_cores or None,
        "JetPack": ", ".join(target.jetpack) or None,
        "TensorRT": " to ".join(target.tensorrt) if target.tensorrt else None,
    }
    lines += [f"  {label:<12}{value}" for label, value in facts.items() if value is not None]
    for mode in target.power_modes:
        clock = f"{mode.mhz} MHz" if mode.mhz else "highest clock"
        lines.append(
            f"  power mode  {mode.name}: {mode.sms} SMs, {clock}{' (default)' if mode.default else ''}"
        )
    lines += [f"  cannot      {limit.what}: {limit.why}; {limit.instead}" for limit in target.cannot]
    lines.append(f"  source      {target.source}")
    return "\n".join(lines)
