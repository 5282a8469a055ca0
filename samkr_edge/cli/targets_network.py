"""`samkr-edge targets --network`: the least time of a network on every device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from samkr_edge.roofline.device_bounds import DeviceBound
    from samkr_edge.roofline.graph_work import GraphWork
    from targets.profile import Target

_NOTE = (
    "Bounds, not measurements: no engine can be faster than the device's dense peaks and bandwidth allow, and real "
    "ones are slower. Memory without workspace and runtime."
)


def network_bounds(
    network: str, target: Target | None, size: str | None, batch: int | None, as_json: bool
) -> None:
    """Print the bounds of a network of the zoo, or of an ONNX file, on every profile or on one.

    Raises:
        SamkrError: SE-U01 there is no such network, SE-U03 no such size; of an ONNX file what reading it raises, and
            SE-B04 without the package onnx.
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.roofline.device_bounds import device_bounds
    from targets.profile import all_targets

    work, needs_sampling, shape = _work(network, size, batch)
    without: dict[str, str] = {}
    if target is not None and target.family == "cpu":
        rows = _on_this_cpu(work, shape[0])
    else:
        chosen = all_targets() if target is None else [target]
        rows, without = device_bounds(work, chosen, shape[0], samples=needs_sampling)
    title = f"{network}, {shape[0]} x {shape[1]}x{shape[2]}: lower bounds, most frames a watt first"
    payload: dict[str, Any] = {
        "network": network,
        "batch": shape[0],
        "input_size": list(shape[1:]),
        "what": "lower bounds, not measurements",
        "bounds": [row.to_dict() for row in rows],
        "without": without,
    }
    emit(payload, _table(title, rows, without), as_json)


def _work(
    network: str, size: str | None, batch: int | None
) -> tuple[dict[str, GraphWork], bool, tuple[int, int, int]]:
    """The work by precision, whether the network samples, and (images, height, width)."""
    from samkr_edge.input_size import parse_size
    from samkr_edge.network_name import unknown_network
    from samkr_edge.roofline.networks import input_size, network_names, network_work, samples

    wanted = None if size is None else parse_size(size)
    if network in network_names():
        height, width = wanted or input_size(network)
        images = batch or 1
        return network_work(network, (height, width), images), samples(network), (images, height, width)
    if network.endswith(".onnx"):
        return _work_of_file(Path(network), wanted, batch)
    raise unknown_network(
        network,
        network_names(),
        fix="samkr-edge targets --network samkr_w32   # or an exported MODEL.onnx",
    )


def _work_of_file(
    path: Path, size: tuple[int, int] | None, batch: int | None
) -> tuple[dict[str, GraphWork], bool, tuple[int, int, int]]:
    from samkr_edge.builder.cpu.build import parse_onnx
    from samkr_edge.onnx_graph.onnx_card import card_of
    from samkr_edge.onnx_graph.onnx_reading import decoded, read_bytes
    from samkr_edge.roofline.onnx_work import work_of_model

    data = read_bytes(path)
    model = decoded(data, path)
    work, shape = work_of_model(parse_onnx(data, path), card_of(model, path).precision, size, batch)
    return work, any(node.op_type == "GridSample" for node in model.nodes), shape


def _on_this_cpu(work: dict[str, GraphWork], images: int) -> list[DeviceBound]:
    from samkr_edge.machine.cpu import cpu_name
    from samkr_edge.roofline.cpu_peaks import cpu_peaks
    from samkr_edge.roofline.device_bounds import cpu_bounds

    return cpu_bounds(work, cpu_name(), cpu_peaks(), images)


def _table(title: str, rows: Sequence[DeviceBound], without: dict[str, str]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    table.add_column("target")
    table.add_column("power mode")
    table.add_column("precision")
    for heading in ("bound ms", "frames/s", "W", "frames/s a watt"):
        table.add_column(heading, justify="right")
    table.add_column("bounded by")
    table.add_column("MB", justify="right")
    for row in rows:
        table.add_row(
            row.target,
            f"{row.mode}{', default' if row.default else ''}" if row.mode else "",
            row.precision.upper(),
            f"{1e3 * row.seconds:.3g}" if row.seconds < 1 else f"{1e3 * row.seconds:.0f}",
            _three(row.frames_per_second),
            "" if row.watts is None else f"{row.watts:g}",
            "" if row.frames_per_joule is None else _three(row.frames_per_joule),
            f"{row.by}, {max(row.bandwidth_share, 1 - row.bandwidth_share):.0%} of it",
            _three(row.memory / 1e6),
        )
    left_out = [Text(f"no bound: {name}, {why}") for name, why in without.items()]
    return Group(table, Text(_NOTE), *left_out)


def _three(value: float) -> str:
    """Three figures, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
