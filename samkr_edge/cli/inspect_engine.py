"""`samkr-edge inspect` for TensorRT engines and bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samkr_edge.builder.inspect.engine import EngineReport
    from samkr_edge.builder.inspect.finding import Finding
    from samkr_edge.passport import Passport
    from samkr_edge.roofline.against_bound import AgainstBound

_MODULES_SHOWN = 4


def inspect_engine(engine: Path, measure: bool, as_json: bool) -> tuple[Finding, ...]:
    """Passport, layers by precision, and why INT8 is not faster; returns the findings.

    ``measure`` times the layers here; without it the profile next to the engine is used, if there is one.
    """
    from samkr_edge.builder.inspect.engine import (
        inspect_layers,
        layers_of_engine,
        profile_engine,
        profile_of_engine,
    )
    from samkr_edge.cli.bound_lines import measured_lines
    from samkr_edge.cli.console import emit
    from samkr_edge.files.artefact import behind
    from samkr_edge.passport import passport_path, read_passport
    from samkr_edge.roofline.against_bound import AgainstBound

    profile: str | None
    if measure:
        (layers, profile), untimed = profile_engine(engine), ""
    else:
        layers, (profile, untimed) = layers_of_engine(engine), profile_of_engine(engine)
    report = inspect_layers(layers, profile)
    passport = read_passport(engine) if passport_path(behind(engine)).is_file() else None
    measured = None if profile is None else _against_bounds(report, passport, here=measure)
    emit(
        {
            "path": str(engine),
            "passport": passport.model_dump(mode="json") if passport else None,
            "bound": measured.to_dict() if isinstance(measured, AgainstBound) else None,
            **report.to_dict(),
        },
        "\n".join(
            [
                str(engine),
                *_passport_lines(passport),
                *render(report, untimed),
                *(measured_lines(measured) if measured is not None else []),
            ]
        ),
        as_json,
    )
    return report.findings


def _against_bounds(report: EngineReport, passport: Passport | None, *, here: bool) -> AgainstBound | str:
    """The timed layers beside their bounds: on this device in its power mode if they ran ``here``, else on the target
    that the engine was built for, at its highest clocks; or why there are no bounds.
    """
    from samkr_edge.machine.device import running_device, target_of
    from samkr_edge.roofline.against_bound import measure_engine
    from targets.profile import BrokenProfile, UnknownTarget, load_target

    device = running_device() if here else None
    try:
        target = target_of(device) if device else load_target(passport.target if passport else "")
    except (BrokenProfile, UnknownTarget):
        return "the engine's target is unknown"
    return measure_engine(report.layers, target, device)


def inspect_bundle(path: Path, as_json: bool) -> None:
    """What a bundle holds."""
    from samkr_edge.cli.bundle import describe, describe_lines
    from samkr_edge.cli.console import emit
    from samkr_edge.deploy.bundle import read_bundle

    bundle = read_bundle(path)
    emit(describe(bundle), describe_lines(bundle), as_json)


def render(report: EngineReport, untimed: str = "no profile") -> list[str]:
    """The report for people; ``untimed`` says why there are no times."""
    lines = [f"  layers       {_parts(report.counts(), 'd')}; {len(report.conversions())} conversions"]
    macs = report.macs()
    if macs:
        unknown = sum(layer.role == "conv" and layer.macs is None for layer in report.layers)
        rest = f"; {unknown} convolutions unknown" if unknown else ""
        lines.append(f"  MACs         {_shares(macs)} of {sum(macs.values()) / 1e9:.2f} G{rest}")
    found = report.measures()
    convolutions = {
        f"{computes} -> {writes}": number for (computes, writes), number in found.convolutions.items()
    }
    lines += [
        f"  kernels      {found.kernels}, {found.elementwise} of them elementwise; "
        f"{found.bytes_moved / 1e6:.1f} MB of activations moved",
        f"  convolutions {_parts(convolutions, 'd')}" if convolutions else "  convolutions none",
    ]
    times = report.ms()
    if times is None:
        lines.append(f"  time         {untimed}")
    else:
        # A profiler waits after every layer, so this takes longer than an inference.
        lines.append(f"  time         {_shares(times)} of {sum(times.values()):.2f} ms, layer by layer")
        if report.unlisted_ms:
            lines.append(f"               and {report.unlisted_ms:.2f} ms in layers that are not listed")
    if not report.findings:
        lines.append("  findings     none")
    for finding in report.findings:
        lines += _finding(finding)
    return lines


def _finding(finding: Finding) -> list[str]:
    cost = f"{finding.ms:.3f} ms  " if finding.ms is not None else ""
    more = len(finding.modules) - _MODULES_SHOWN
    lines = [f"  {finding.kind}: {cost}{finding.what}"]
    lines += [f"      {module}" for module in finding.modules[:_MODULES_SHOWN]]
    if more > 0:
        lines.append(f"      and {more} more (--json names them)")
    if finding.note:
        lines.append(f"    {finding.note}")
    if finding.policy:
        lines.append("    policy:")
        lines += [f"      {line}" for line in finding.policy.splitlines()[: 4 * _MODULES_SHOWN + 1]]
    return lines


def _passport_lines(passport: Passport | None) -> list[str]:
    if passport is None:
        return ["  passport     none"]
    from samkr_edge.machine.tensorrt_module import TITLES

    return [
        f"  passport     target {passport.target}, built {passport.created} from {passport.source}",
        f"               {TITLES[passport.runtime]} {passport.runtime_version}, {passport.runs_on}",
    ]


def _parts(numbers: dict[str, int], form: str) -> str:
    return ", ".join(f"{value:{form}} {name}" for name, value in sorted(numbers.items(), key=lambda i: -i[1]))


def _shares(numbers: dict[str, float] | dict[str, int]) -> str:
    total = sum(numbers.values()) or 1
    return ", ".join(
        f"{100 * value / total:.1f} % {name}" for name, value in sorted(numbers.items(), key=lambda i: -i[1])
    )
