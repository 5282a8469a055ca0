"""An engine's layers by precision, MACs and time, and why its INT8 is not faster.

``engine_layers`` parses the layers, ``engine_findings`` has the findings.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samkr_edge.builder.inspect.builder_listing import layers_path
from samkr_edge.builder.inspect.engine_findings import find
from samkr_edge.builder.inspect.engine_layers import (
    Layer,
    listed_engine,
    parse_layers,
    parse_profile,
    profile_records,
    profiled_engine,
)
from samkr_edge.builder.inspect.engine_measures import EngineMeasures, measure
from samkr_edge.builder.inspect.finding import Finding
from samkr_edge.builder.inspect.kernel_findings import find_kernels
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import behind, sha256_of, write_json
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import quoted
from samkr_edge.passport import Passport, passport_path, read_passport

# Inferences whose layers are timed: a few seconds, enough for a mean.
PROFILED_RUNS = 100


@dataclass(frozen=True)
class EngineReport:
    """Layers, sums over them and findings, most expensive first.

    Attributes:
        unlisted_ms: time in the profile of layers that are not listed.
    """

    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...] = field(default=())
    unlisted_ms: float = 0.0

    def counts(self) -> dict[str, int]:
        """Layers that compute, by precision."""
        return self._sum(lambda layer: 1)

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates by precision, of the layers where they are known."""
        return self._sum(lambda layer: layer.macs or 0)

    def ms(self) -> dict[str, float] | None:
        """Time by precision, and of conversions; None without a profile."""
        if all(layer.ms is None for layer in self.layers):
            return None
        found: dict[str, float] = self._sum(lambda layer: layer.ms or 0.0)
        found["conversions"] = sum(layer.ms or 0.0 for layer in self.conversions())
        return found

    def measures(self) -> EngineMeasures:
        """Kernels, bytes moved and output types of convolutions."""
        return measure(self.layers)

    def conversions(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.role == "conversion"]

    def _sum(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = defaultdict(int)
        for layer in self.layers:
            if layer.role not in ("conversion", "none") and value(layer):
                found[layer.precision] += value(layer)
        return dict(found)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers_by_precision": self.counts(),
            "macs_by_precision": self.macs(),
            "ms_by_precision": self.ms(),
            "unlisted_ms": self.unlisted_ms,
            "conversions": len(self.conversions()),
            "measures": self.measures().to_dict(),
            "findings": [asdict(finding) for finding in self.findings],
            "layers": [
                {**asdict(layer), "constants": len(layer.constants), "module": layer.module}
                for layer in self.layers
            ],
        }


def inspect_layers(text: str, profile: str | None = None) -> EngineReport:
    """Layers and findings from the inspector's JSON and, where given, a profile's JSON.

    Args:
        text: ``EngineInspector.get_engine_information(JSON)`` or ``trtexec --exportLayerInfo``.
        profile: ``trtexec --exportProfile``, or an object layer name -> milliseconds.

    Raises:
        SamkrError: SE-B92 not such JSON, SE-B93 the engine was built without layer details.
    """
    times = parse_profile(profile) if profile else {}
    layers = parse_layers(text, times)
    unlisted = sum(times[name] for name in times.keys() - {layer.name for layer in layers})
    findings = sorted([*find_kernels(layers), *find(layers)], key=lambda finding: -(finding.ms or 0.0))
    return EngineReport(tuple(layers), tuple(findings), unlisted)


def layers_of_engine(engine: Path) -> str:
    """The inspector's JSON of an engine: from ``ENGINE.layers.json`` next to it, else from this machine's TensorRT.

    Raises:
        SamkrError: SE-A23 no such engine, SE-V92 there is neither, SE-B92 or SE-B93 the list next to it is damaged; and
            those of opening the engine.
    """
    beside = layers_path(behind(engine))
    why = f"there is no {beside.name}"
    if beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
        with _naming(beside, _lister(engine)):
            listed = listed_engine(text)
            if listed is None or not engine.is_file() or listed == sha256_of(engine):
                parse_layers(text)
                return text
        why = f"{beside.name} belongs to another engine"
    _require(engine)
    from samkr_edge.machine.driver import load_driver

    if load_driver() is not None:
        from samkr_edge.runtime.tensorrt import TensorRTRunner

        runner = TensorRTRunner(engine)  # its passport is compared first: loading runs native code
        try:
            return runner.layers()
        finally:
            runner.close()
    raise _unlisted(engine, why)


def _unlisted(engine: Path, why: str) -> SamkrError:
    beside, passport = layers_path(behind(engine)), _passport(engine)
    if passport is not None and passport.runtime == "rtx":
        message = (
            f"there is no list of the layers of {engine.name} here; its build writes one, on any machine"
        )
        fix = passport.build_again(engine)
    else:
        message = f"the layers of {engine.name} can be listed only where TensorRT and its GPU are"
        fix = f"on the device: samkr-edge inspect {quoted(engine.name)}   # or, for {beside.name}: {_trtexec(engine)}"
    return SamkrError("SE-V92", message, {"reason": why}, fix=fix)


def _lister(engine: Path) -> str:
    """The command that rewrites the list next to an engine."""
    passport = _passport(engine)
    if passport is not None and passport.runtime == "rtx":
        return passport.build_again(engine)
    return f"on the device: {_trtexec(engine)}"


def _trtexec(engine: Path) -> str:
    return f"trtexec --loadEngine={quoted(engine)} --exportLayerInfo={quoted(layers_path(behind(engine)))}"


def _passport(engine: Path) -> Passport | None:
    return read_passport(engine) if passport_path(behind(engine)).is_file() else None


@contextmanager
def _naming(file: Path, fix: str) -> Iterator[None]:
    """Make errors of parsing name the file and how to rewrite it."""
    try:
        yield
    except SamkrError as error:
        raise SamkrError(error.code, f"{file.name}: {error.message}", error.facts, fix=fix) from error


def profile_of_engine(engine: Path) -> tuple[str | None, str]:
    """The profile next to an engine, ``ENGINE.profile.json``; None and the reason if there is none of this engine."""
    beside = profile_path(behind(engine))
    if not beside.is_file():
        return None, f"no profile; on the device: samkr-edge inspect {quoted(engine.name)} --profile"
    text = beside.read_text(encoding="utf-8", errors="replace")
    with _naming(beside, f"on the device: samkr-edge inspect {quoted(engine)} --profile"):
        measured = profiled_engine(text)
        parse_profile(text)
    if measured is not None and engine.is_file() and measured != sha256_of(engine):
        again = f"samkr-edge inspect {quoted(engine.name)} --profile"
        return None, f"{beside.name} belongs to another engine; on the device: {again}"
    return text, ""


def profile_engine(engine: Path) -> tuple[str, str]:
    """Layers and profile of an engine, measured here; the profile is saved next to it as ``ENGINE.profile.json``.

    Raises:
        SamkrError: SE-A23 no such engine, SE-D01 the profile cannot be written; and those of opening the engine.
    """
    _require(engine)
    from samkr_edge.runtime.tensorrt import TensorRTRunner

    runner = TensorRTRunner(engine)  # its passport is compared first: loading runs native code
    try:
        layers, runs = runner.layers(), runner.layer_milliseconds(PROFILED_RUNS)
    finally:
        runner.close()
    records = profile_records(runs, runner.passport.sha256)
    write_json(profile_path(behind(engine)), records)
    return layers, json.dumps(records)


def profile_path(engine: Path) -> Path:
    """``model.engine`` -> ``model.engine.profile.json``."""
    return engine.with_name(engine.name + ".profile.json")


def _require(engine: Path) -> None:
    if not engine.is_file():
        raise missing_file(engine, "engine")
