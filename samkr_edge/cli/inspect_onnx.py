"""`samkr-edge inspect` for ONNX files, exported or built for a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from samkr_edge.builder.inspect.finding import Finding
    from samkr_edge.builder.inspect.lint import Lint

SHOWN = 20


def inspect_onnx(model: Path, profile: bool, as_json: bool) -> tuple[Finding, ...]:
    """Card, share of INT8, passport, and what keeps INT8 from being fast; returns the findings.

    ``profile`` also times the layers on this CPU.

    Raises:
        SamkrError: SE-A21, SE-A27, SE-B87 no ONNX file of ours; of a built one what `preflight` refuses.
    """
    from samkr_edge.builder.cpu.build import parse_onnx
    from samkr_edge.builder.inspect.lint import lint
    from samkr_edge.cli.bound_lines import measured_lines
    from samkr_edge.cli.console import emit
    from samkr_edge.model_card import PREPARED_KEY, TARGET_KEY
    from samkr_edge.onnx_graph.foreign import refused_by
    from samkr_edge.onnx_graph.graph import Graph
    from samkr_edge.onnx_graph.onnx_card import card_of
    from samkr_edge.onnx_graph.onnx_reading import decoded, read_bytes
    from samkr_edge.passport import is_built
    from samkr_edge.preflight import preflight
    from samkr_edge.roofline.against_bound import AgainstBound, measure_on_cpu

    data = read_bytes(model)
    graph = decoded(data, model)
    card = card_of(graph, model)
    built = is_built(model) or TARGET_KEY in graph.metadata
    passport = preflight(model) if built else None
    refused = {} if built or PREPARED_KEY in graph.metadata else refused_by(graph, model)
    found = lint(Graph(parse_onnx(data, model)), built=built)
    lines = [
        f"{model}: {card.title}, opset {graph.opset}",
        *_summary(found, built),
        *(f"  {key:<18} {value}" for key, value in card.provenance.items() if not isinstance(value, dict)),
    ]
    lines += [f"  {'weights' if not n else '':<10} {line}" for n, line in enumerate(card.weights_from)]
    lines += [f"  without    its {part}: {judged}" for part, judged in card.left_out.items()]
    pictures = _pictures(graph.metadata)
    lines += [f"  not built  for {runtime}: {reason}" for runtime, reason in refused.items()]
    if pictures:
        lines.append(f"  pictures   {pictures['what']} travel with it, {pictures['bytes'] / 1e3:.0f} kB")
    if passport:
        lines.append(
            f"  passport   target {passport.target}, built {passport.created} with {passport.versions}"
        )
    measured = measure_on_cpu(data, graph, card) if profile else None
    lines += [] if measured is None else measured_lines(measured)
    payload: dict[str, Any] = {
        "card": card.to_dict(),
        "passport": passport.model_dump(mode="json") if passport else None,
        "probe": pictures,
        "refused": refused,
        "bound": measured.to_dict() if isinstance(measured, AgainstBound) else None,
        **found.to_dict(),
    }
    emit(payload, _with_table(lines, found, card.quantized), as_json)
    return found.findings


def _pictures(metadata: dict[str, str]) -> dict[str, Any] | None:
    """The probe images in the file: whoever shares the file shares them."""
    from samkr_edge.builder.check.probe import PROBE_KEY, parse_probe

    if PROBE_KEY not in metadata:
        return None
    try:
        probe = parse_probe(metadata[PROBE_KEY])
        kind, what = probe.kind, str(probe)
    except SamkrError:
        kind, what = "damaged", "damaged images"
    return {"kind": kind, "what": what, "bytes": len(metadata[PROBE_KEY])}


def _summary(found: Lint, built: bool) -> list[str]:
    if found.int8_share is None:
        why = "some map sizes are unknown" if found.convolutions else "it has no convolutions"
        return [f"  INT8 share not counted: {why}"]
    int8 = sum(one.int8 for one in found.convolutions)
    floating = [one for one in found.convolutions if not one.int8]
    lines = [
        f"  {found.format.upper():<11}{found.int8_share:.1%} of {found.macs / 1e9:.2f} GMACs; "
        f"{int8} of {len(found.convolutions)} convolutions, {found.int8_sums} of {found.sums} sums"
    ]
    if found.channel_scales and not built:
        lines.append(
            f"  weights    {found.channel_scales} of {int8} {found.format.upper()} convolutions have a scale per "
            "channel; TensorRT for RTX writes the results of these in FP32"
        )
    if found.for_rtx:
        lines.append(
            "  weights    one scale each, for TensorRT for RTX: INT8 that meets float costs no kernel there"
        )
    if found.int8_macs:
        largest = sorted(floating, key=lambda one: one.macs, reverse=True)[:6]
        lines += [f"  float      {one.module}  {one.macs / 1e6:.1f} MMACs" for one in largest]
        if len(floating) > len(largest):
            lines.append(f"             and {len(floating) - len(largest)} smaller ones")
    return lines


def _with_table(lines: list[str], found: Lint, quantized: bool) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    text = Text("\n".join(lines))
    if not found.findings:
        form = found.format.upper()
        if found.int8_macs:
            return Group(text, Text(f"  nothing found that breaks {form}"))
        return text if quantized else Group(text, Text("  no INT8 inside"))
    table = Table(title=counted(len(found.findings), "finding"))
    for column in ("kind", "where", "what", "policy line that fixes it"):
        table.add_column(column, overflow="fold")
    for finding in found.findings[:SHOWN]:
        table.add_row(
            *(
                Text(value)
                for value in (finding.kind, finding.modules[0], finding.what, finding.policy or finding.note)
            )
        )
    more = len(found.findings) - SHOWN
    return Group(text, table, *([Text(f"  and {more} more: --json lists them")] if more > 0 else []))
