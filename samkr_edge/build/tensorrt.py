"""Build an engine as a plan says, by this device's TensorRT, 8.5 to 11, or TensorRT for RTX; its passport beside it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samkr_edge import __version__
from samkr_edge.artefact import cache_folder, replacing, require_writable, sha256_of
from samkr_edge.build.builder_listing import layers_path, layers_text
from samkr_edge.build.calibrator import CalibrationImages
from samkr_edge.build.engine_bytes import Report, SerializedEngine, build_bytes
from samkr_edge.build.engine_measures import EngineMeasures
from samkr_edge.build.engine_trial import agree, compare_speed
from samkr_edge.build.fallbacks import after_failure
from samkr_edge.build.made_of import inspect_built, made_of
from samkr_edge.build.onnx_file import OnnxFile, decode_onnx, read_onnx
from samkr_edge.build.plan import BuildPlan
from samkr_edge.build.sampling_check import settle_sampling
from samkr_edge.build.tensorrt_graph import precision_mix
from samkr_edge.device import running_device
from samkr_edge.driver import require_gpu
from samkr_edge.engine_device import any_gpu, gpu_device
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.passport import Passport, passport_path, passport_text, write_passport
from samkr_edge.runtime.tensorrt import TensorRTRunner
from samkr_edge.runtime.tensorrt_module import MODULES, tensorrt_version


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine: where it is, its passport, and what was measured.

    Attributes:
        cosines: heatmap and offset against the graph in ONNX Runtime, on noise; None where no GPU of this machine
            can run the engine.
        milliseconds: precision -> median GPU time of its candidate; only of ``best``, and only where it was timed.
        measures: precision -> what the builder's list of its layers amounts to; empty where it gave none. Where
            nothing could be timed, ``best`` goes by it.
        notes: what the user should know, of the plan and of the build.
    """

    path: Path
    passport: Passport
    cosines: tuple[float, float] | None
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
    """Build each plan's engine from ``source``, keep the fastest in ``out``, with its passport beside it.

    Args:
        plans: one, or the candidates of ``best``.
        graph: what ``source`` holds, where it has been read already.
        calibration: list of images, for plans that calibrate.
        report: told of every step of the builder, where TensorRT reports them (10 and later).

    Raises:
        SamkrError: SE-V87 no GPU, where one is needed, SE-V91 no TensorRT, SE-D01 ``out`` cannot be written, SE-B91
            the parser refuses the graph, SE-B90 the build fails or the memory is short, SE-B89 the engine does not
            compute what the ONNX does, SE-B83 it computes in fewer bits what has to be FP32, SE-B80 this TensorRT
            samples wrong.
    """
    ahead_of_time = plans[0].compute_capabilities
    if not ahead_of_time:
        require_gpu()
    version = tensorrt_version(plans[0].flavour)
    require_writable(out)
    graph = graph or read_onnx(source)
    card = card_of_file(graph, source)
    images = CalibrationImages(calibration, card.input_size) if calibration else None
    candidates = []
    for wanted in plans:
        plan, engine = _build_nearest(source, graph, wanted, images, report)
        candidates.append(_candidate(source, card, plan, engine, version, images))
    if ahead_of_time and running_device().compute_capability not in ahead_of_time:
        return _write(out, _cheapest(candidates), candidates, None, {})
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for one in candidates:
            path = Path(folder) / f"{one.plan.precision}.engine"
            path.write_bytes(one.engine.data)
            write_passport(path, one.passport)
            paths.append(path)
        if not ahead_of_time:
            candidates = _sound(candidates, paths)
            paths = [path for path in paths if path.stem in {one.plan.precision for one in candidates}]
        times = compare_speed(paths) if len(paths) > 1 else [0.0]
        best = times.index(min(times))
        agreement = agree(graph, candidates[best].plan, paths[best], card)
    named = zip((one.plan.precision for one in candidates), times, strict=True)
    milliseconds = dict(named) if len(candidates) > 1 else {}
    if not agreement.holds:
        raise SamkrError(
            "SE-B89",
            "the engine does not compute what its graph does, so it was not written",
            agreement.facts(),
            fix=f"samkr-edge build {source} --target auto --precision fp32   # then report which precision fails",
        )
    return _write(out, candidates[best], candidates, agreement.cosines, milliseconds)


def _build_nearest(
    source: Path,
    graph: OnnxFile,
    plan: BuildPlan,
    images: CalibrationImages | None,
    report: Report | None,
) -> tuple[BuildPlan, SerializedEngine]:
    """The engine of the plan, or of the nearest one that this TensorRT builds; with the plan that it was.

    Where none is built, the error is the first plan's.
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
    """TensorRT's own words in an error, or the error's."""
    said = (fact.removeprefix("TensorRT ").strip() for fact in error.facts if fact.startswith("TensorRT "))
    return next(said, error.message)[:120]


@dataclass(frozen=True)
class _Candidate:
    """One built plan; ``layers`` is the inspector's JSON, where the builder says what it made."""

    plan: BuildPlan
    engine: SerializedEngine
    passport: Passport
    layers: dict[str, Any] | None
    measures: EngineMeasures | None
    notes: tuple[str, ...]


def _candidate(
    source: Path,
    card: ModelCard,
    plan: BuildPlan,
    engine: SerializedEngine,
    version: str,
    images: CalibrationImages | None,
) -> _Candidate:
    passport = _passport(source, card, plan, engine, version, images)
    if engine.listing is None:
        return _Candidate(plan, engine, passport, None, None, plan.notes)
    found = made_of(engine, plan)
    layers = None
    if found.layers is not None and found.measures is not None:
        layers = {**found.layers, "engine_sha256": passport.sha256}
        mix = {**passport.precision, "layers": found.measures.to_dict()}
        passport = passport.model_copy(update={"precision": mix})
    return _Candidate(plan, engine, passport, layers, found.measures, (*plan.notes, *found.notes))


def _sound(candidates: Sequence[_Candidate], paths: Sequence[Path]) -> list[_Candidate]:
    """Those that keep their graph's promises; raises SamkrError SE-B83 where none does."""
    kept, refused = [], []
    for candidate, path in zip(candidates, paths, strict=True):
        try:
            kept.append(_inspected(candidate, path))
        except SamkrError as error:
            if error.code != "SE-B83":
                raise
            refused.append((candidate, error))
    if not kept:
        raise refused[0][1]
    notes = tuple(
        f"{one.plan.precision} was set aside: {error.message} ({error.facts[0].removeprefix('layer').strip()})"
        for one, error in refused
    )
    return [replace(one, notes=(*one.notes, *notes)) for one in kept]


def _inspected(candidate: _Candidate, path: Path) -> _Candidate:
    """With what the engine inspector says of it, now that a GPU can load it; raises SamkrError SE-B83."""
    runner = TensorRTRunner(path)
    try:
        text = runner.layers()
    finally:
        runner.close()
    notes = inspect_built(text, candidate.engine, candidate.plan)
    return replace(candidate, notes=(*candidate.notes, *notes))


def _cheapest(candidates: Sequence[_Candidate]) -> _Candidate:
    """The one of the least predicted cost; where a list is missing, the first, which is FP16."""
    costs = [one.measures.cost for one in candidates if one.measures is not None]
    if len(costs) < len(candidates):
        return candidates[0]
    return candidates[costs.index(min(costs))]


def _write(
    out: Path,
    chosen: _Candidate,
    candidates: Sequence[_Candidate],
    cosines: tuple[float, float] | None,
    milliseconds: dict[str, float],
) -> BuiltEngine:
    """The engine and its passport, with what was measured of it, and the list of its layers."""
    measured: dict[str, Any] = {}
    if cosines is not None:
        measured["cosine"] = {"heatmap": cosines[0], "offset": cosines[1]}
    if milliseconds:
        measured["gpu_ms"] = milliseconds
    passport = chosen.passport.model_copy(update={"measured": measured})
    # All are written before any takes its name: where the disk is full, what was there stays as it was.
    with replacing(out) as engine, replacing(passport_path(out)) as beside:
        engine.write_bytes(chosen.engine.data)
        beside.write_text(passport_text(passport), encoding="utf-8")
        if chosen.layers is not None:
            with replacing(layers_path(out)) as listed:
                listed.write_text(layers_text(chosen.layers), encoding="utf-8")
    measures = {one.plan.precision: one.measures for one in candidates if one.measures}
    return BuiltEngine(out, passport, cosines, milliseconds, measures, chosen.notes)


def card_of_file(model: OnnxFile, path: Path) -> ModelCard:
    """The model card in an ONNX file's metadata; raises SamkrError SE-A90."""
    try:
        return ModelCard.from_json(model.metadata[METADATA_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise SamkrError(
            "SE-A90",
            f"{path} was not exported by samkr-edge, so its outputs could not be decoded",
            [f"metadata   {', '.join(model.metadata) or 'none'}"],
            fix="samkr-edge export CHECKPOINT -o model.onnx",
        ) from error


def _passport(
    source: Path,
    card: ModelCard,
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
        card=replace(card, precision=plan.precision).to_dict(),
        sha256=hashlib.sha256(engine.data).hexdigest(),
        source=source.name,
        source_sha256=sha256_of(source),
        hashes={**caches, **({"calibration_images": images.digest()} if images else {})},
        device=any_gpu(here, plan.compute_capabilities) if plan.compute_capabilities else gpu_device(here),
        versions={"samkr_edge": __version__, MODULES[plan.flavour]: version},
        precision={
            "engine": plan.precision,
            "typing": plan.typing,
            **precision_mix(decode_onnx(engine.parsed)),
        },
        settings=plan.to_dict(),
    )
