"""Build an engine from a plan with this device's TensorRT, 8.5 to 11, or TensorRT for RTX, and write its passport."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samkr_edge import __version__
from samkr_edge.builder.check.agreement import Agreement
from samkr_edge.builder.inspect.builder_listing import layers_path, layers_text
from samkr_edge.builder.inspect.engine_measures import EngineMeasures
from samkr_edge.builder.tensorrt.builder_errors import otherwise
from samkr_edge.builder.tensorrt.calibrator import CalibrationImages
from samkr_edge.builder.tensorrt.engine_bytes import Report, SerializedEngine, build_bytes
from samkr_edge.builder.tensorrt.engine_composition import inspect_built, made_of
from samkr_edge.builder.tensorrt.engine_trial import agree, compare_speed
from samkr_edge.builder.tensorrt.fallbacks import after_failure
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.builder.tensorrt.sampling_check import settle_sampling
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import require_writable, sha256_of
from samkr_edge.files.cache import cache_folder
from samkr_edge.files.temporary import temporary_folder
from samkr_edge.machine.device import any_gpu, gpu_device, running_device
from samkr_edge.machine.driver import require_gpu
from samkr_edge.machine.tensorrt_module import MODULES, tensorrt_version
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_facts import precision_mix
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import Passport, passport_path, passport_text, write_built
from samkr_edge.runtime.tensorrt import TensorRTRunner
from samkr_edge.runtime.tensorrt_log import is_about_memory


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine: where it is, its passport, and what was measured.

    Attributes:
        agreement: with the graph in ONNX Runtime; None if no GPU of this machine can run the engine.
        milliseconds: precision -> median GPU time of its candidate; only for ``best``, if it was timed.
        measures: precision -> sums over the builder's list of layers; empty without a list. ``best`` decides by them if
            nothing could be timed.
        notes: what the user should know about the plan and the build.
    """

    path: Path
    passport: Passport
    agreement: Agreement | None
    milliseconds: dict[str, float]
    measures: dict[str, EngineMeasures]
    notes: tuple[str, ...]


def build_tensorrt(
    source: Path,
    out: Path,
    plans: tuple[BuildPlan, ...],
    *,
    graph: OnnxFile | None = None,
    calibration: Path | None = None,
    report: Report | None = None,
) -> BuiltEngine:
    """Build each plan's engine from ``source`` and keep the fastest in ``out``, with its passport next to it.

    Args:
        plans: one, or the candidates of ``best``.
        graph: of ``source``, if it has already been read.
        calibration: list of images, for plans that calibrate.
        report: called for every step of the builder, if TensorRT reports them (10 and later).

    Raises:
        SamkrError: SE-V87 no GPU, where one is needed, SE-V91 no TensorRT, SE-D01 ``out`` cannot be written, SE-B91
            the parser refuses the graph, SE-B90 the build fails, SE-B96 the memory is short, SE-B89 the engine does not
            compute what the ONNX does, SE-B83 it computes in fewer bits what must be FP32, SE-B80 this TensorRT samples
            wrongly.
    """
    ahead_of_time = plans[0].compute_capabilities
    if not ahead_of_time:
        require_gpu()
    version = tensorrt_version(plans[0].flavour)
    require_writable(out)
    graph = graph or read_onnx(source)
    card = card_of(graph, source)
    origin = _Origin(source.name, graph.sha256, card)
    images = CalibrationImages(calibration, card.input_size) if calibration else None
    candidates: list[_BuiltPlan] = []
    refused: list[_Refused] = []
    for wanted in plans:
        try:
            plan, engine = _build_nearest(source, graph, wanted, images, report)
            candidates.append(_candidate(origin, plan, engine, version, images))
        except SamkrError as error:
            _set_aside(refused, wanted, error)
    candidates = _kept(candidates, refused)
    if ahead_of_time and running_device().compute_capability not in ahead_of_time:
        return _write(out, _cheapest(candidates), candidates, None, {})
    with temporary_folder() as folder:
        paths = []
        for one in candidates:
            path = folder / f"{one.plan.precision}.engine"
            path.write_bytes(one.engine.data)
            passport_path(path).write_text(passport_text(one.passport), encoding="utf-8")
            paths.append(path)
        if not ahead_of_time:
            candidates = _sound(candidates, paths)
            paths = [path for path in paths if path.stem in {one.plan.precision for one in candidates}]
        milliseconds: dict[str, float] = {}
        if len(paths) > 1:
            times = compare_speed(paths)
            milliseconds = {c.plan.precision: t for c, t in zip(candidates, times, strict=True)}
        chosen, agreement = _fastest_that_agrees(source, graph, card, candidates, paths, milliseconds)
    return _write(out, chosen, candidates, agreement, milliseconds)


def _fastest_that_agrees(
    source: Path,
    graph: OnnxFile,
    card: ModelCard,
    candidates: Sequence[_BuiltPlan],
    paths: Sequence[Path],
    milliseconds: dict[str, float],
) -> tuple[_BuiltPlan, Agreement]:
    """The fastest candidate that computes what its graph does; raises SamkrError SE-B89 if none does."""
    refused: list[_Refused] = []
    pairs = zip(candidates, paths, strict=True)
    for one, path in sorted(pairs, key=lambda pair: milliseconds.get(pair[0].plan.precision, 0.0)):
        agreement = agree(graph, one.plan, path, card)
        if agreement.holds:
            return _kept([one], refused)[0], agreement
        error = SamkrError(
            "SE-B89",
            "the engine does not compute what its graph does, so it was not written",
            agreement.facts(),
            fix=otherwise(str(source), one.plan),
        )
        _set_aside(refused, one.plan, error)
    raise refused[0].error


def _build_nearest(
    source: Path,
    graph: OnnxFile,
    plan: BuildPlan,
    images: CalibrationImages | None,
    report: Report | None,
) -> tuple[BuildPlan, SerializedEngine]:
    """The engine of the plan, or of the nearest plan that this TensorRT builds; with the plan used.

    If none can be built, the error is the first plan's.
    """
    failure: SamkrError | None = None
    attempt: BuildPlan | None = plan
    while attempt is not None:
        attempt = settle_sampling(attempt, graph)
        try:
            return attempt, build_bytes(source, attempt, images, report, graph=graph)
        except SamkrError as error:
            failure = failure or error
            attempt = after_failure(attempt, error.code, reason_in(error))
    assert failure is not None
    raise failure


def reason_in(error: SamkrError) -> str:
    """TensorRT's words in an error, or else the error's."""
    return str(error.facts.get("TensorRT", error.message))


@dataclass(frozen=True)
class _BuiltPlan:
    """One built plan; ``layers`` is in the structure of the inspector's JSON, if the builder lists them."""

    plan: BuildPlan
    engine: SerializedEngine
    passport: Passport
    layers: dict[str, Any] | None
    measures: EngineMeasures | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Origin:
    """The ONNX file to build, as it was read."""

    name: str
    sha256: str
    card: ModelCard


def _candidate(
    origin: _Origin,
    plan: BuildPlan,
    engine: SerializedEngine,
    version: str,
    images: CalibrationImages | None,
) -> _BuiltPlan:
    passport = _passport(origin, plan, engine, version, images)
    if engine.listing is None:
        return _BuiltPlan(plan, engine, passport, None, None, plan.notes)
    found = made_of(engine, plan)
    layers = None
    if found.layers is not None and found.measures is not None:
        layers = {**found.layers, "engine_sha256": passport.sha256}
        mix = {**passport.precision, "layers": found.measures.to_dict()}
        passport = passport.model_copy(update={"precision": mix})
    return _BuiltPlan(plan, engine, passport, layers, found.measures, (*plan.notes, *found.notes))


@dataclass(frozen=True)
class _Refused:
    """A plan whose engine is refused, which must not stop the other plan of `best`."""

    plan: BuildPlan
    error: SamkrError

    def note(self) -> str:
        first = next(iter(self.error.facts.values()))
        why = first[0] if isinstance(first, list) else first
        return f"{self.plan.precision} was rejected: {self.error.message} ({why})"


def _set_aside(refused: list[_Refused], plan: BuildPlan, error: SamkrError) -> None:
    """Keep the error of an engine that is wrong or cannot be built; re-raise any other."""
    if error.code not in ("SE-B83", "SE-B89", "SE-B90") or is_about_memory(reason_in(error)):
        raise error
    refused.append(_Refused(plan, error))


def _kept(candidates: Sequence[_BuiltPlan], refused: Sequence[_Refused]) -> list[_BuiltPlan]:
    """The candidates, with a note on each refused one; raises the first refusal if none is left."""
    if not candidates:
        raise refused[0].error
    notes = tuple(one.note() for one in refused)
    return [replace(one, notes=(*one.notes, *notes)) for one in candidates]


def _sound(candidates: Sequence[_BuiltPlan], paths: Sequence[Path]) -> list[_BuiltPlan]:
    """Those that keep their graph's promises; raises SamkrError SE-B83 if none does."""
    kept: list[_BuiltPlan] = []
    refused: list[_Refused] = []
    for candidate, path in zip(candidates, paths, strict=True):
        try:
            kept.append(_inspected(candidate, path))
        except SamkrError as error:
            _set_aside(refused, candidate.plan, error)
    return _kept(kept, refused)


def _inspected(candidate: _BuiltPlan, path: Path) -> _BuiltPlan:
    """Add what the engine inspector reports once a GPU has loaded the engine; raises SamkrError SE-B83."""
    runner = TensorRTRunner(path)
    try:
        text = runner.layers()
    finally:
        runner.close()
    notes = inspect_built(text, candidate.engine, candidate.plan)
    return replace(candidate, notes=(*candidate.notes, *notes))


def _cheapest(candidates: Sequence[_BuiltPlan]) -> _BuiltPlan:
    """The one with the lowest predicted cost; if a list is missing, the first, which is FP16."""
    costs = [one.measures.cost for one in candidates if one.measures is not None]
    if len(costs) < len(candidates):
        return candidates[0]
    return candidates[costs.index(min(costs))]


def _write(
    out: Path,
    chosen: _BuiltPlan,
    candidates: Sequence[_BuiltPlan],
    agreement: Agreement | None,
    milliseconds: dict[str, float],
) -> BuiltEngine:
    """Write the engine, its passport with the measurements, and its list of layers."""
    measured: dict[str, Any] = {}
    if agreement is not None:
        measured["agreement"] = agreement.to_dict()
    if milliseconds:
        measured["gpu_ms"] = milliseconds
    passport = chosen.passport.model_copy(update={"measured": measured})
    beside = {} if chosen.layers is None else {layers_path(out): layers_text(chosen.layers)}
    write_built(out, chosen.engine.data, passport, beside)
    measures = {one.plan.precision: one.measures for one in candidates if one.measures}
    return BuiltEngine(out, passport, agreement, milliseconds, measures, chosen.notes)


def _passport(
    origin: _Origin,
    plan: BuildPlan,
    engine: SerializedEngine,
    version: str,
    images: CalibrationImages | None,
) -> Passport:
    cache_file = cache_folder() / plan.timing_cache if plan.timing_cache else None
    caches = {"timing_cache": sha256_of(cache_file)} if cache_file and cache_file.is_file() else {}
    here = running_device()
    return Passport(
        target=plan.target,
        flavour=plan.flavour,
        card=replace(origin.card, precision=plan.precision).to_dict(),
        sha256=hashlib.sha256(engine.data).hexdigest(),
        source=origin.name,
        source_sha256=origin.sha256,
        hashes={**caches, **({"calibration_images": images.digest()} if images else {})},
        device=any_gpu(here, plan.compute_capabilities) if plan.compute_capabilities else gpu_device(here),
        versions={"samkr_edge": __version__, MODULES[plan.flavour]: version},
        precision={
            "engine": plan.precision,
            "typing": plan.typing,
            **precision_mix(engine.graph),
        },
        settings=plan.to_dict(),
    )
