"""One benchmark run: open the models, time them in turn, score them, judge, and record everything."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.judge.verdict import decide
from benchmarks.measure.latency import LatencyRun, Timed, measure
from benchmarks.measure.sensors import Sensors, find_sensors
from benchmarks.measure.stability import reasons_of_run
from benchmarks.measure.timing_images import timing_images
from benchmarks.plan import Opened, Plan, Progress, open_plan
from benchmarks.rows import machine_row, measured_row
from benchmarks.sample_pictures import INDEX
from benchmarks.schema import (
    AgainstFp32,
    Energy,
    MemoryMb,
    ModelResult,
    PowerFacts,
    Results,
    Settings,
)
from samkr_edge import __version__
from samkr_edge.evaluation.protocol import Protocol, notes_of
from samkr_edge.files.one_file import refuse_replaced

if TYPE_CHECKING:
    from benchmarks.measure.accuracy import Accuracy
    from samkr_edge.pose_model import PoseModel
    from samkr_edge.roofline.against_bound import AgainstBound


@dataclass(frozen=True)
class _EnergyByModel:
    """The meter, each model's energy per frame, and the reason if there is no meter."""

    meter: PowerFacts | None = None
    of: Mapping[str, Energy] = field(default_factory=dict)
    reason: str | None = None


def run_bench(
    plan: Plan, samples_folder: Path | None, progress: Progress, sensors: Sensors | None = None
) -> Results:
    """Measure and return the results; sample pictures are written to ``samples_folder``.

    ``sensors`` reads this machine; tests pass their own.

    Raises:
        SamkrError: those of ``open_plan``; SE-A29 a model was replaced meanwhile.
    """
    with open_plan(plan, progress) as opened:
        return _measured(
            plan, opened, samples_folder, progress, sensors or find_sensors(on_gpu=opened.on_gpu)
        )


def _measured(
    plan: Plan, opened: Opened, samples_folder: Path | None, progress: Progress, sensors: Sensors
) -> Results:
    memory = _memory(plan, opened.files, progress)
    images = timing_images(opened.records)
    power_before = sensors.power_mode()
    run = _time(plan, opened.models, images, sensors, progress)
    power_modes = (power_before, sensors.power_mode())
    accuracy = _accuracy(plan, opened, progress)
    against_fp32 = _against_fp32(opened, progress)
    energy = _energy(plan, opened, images, progress)
    bounds, no_bounds = _bounds(plan, opened, progress)
    samples = _save_samples(plan, opened, samples_folder, progress)
    rows = [
        measured_row(
            name,
            model,
            opened.files[name],
            opened.hashes[name],
            run,
            opened.baseline,
            accuracy=accuracy.get(name),
            against_fp32=against_fp32.get(name),
            memory=memory.get(name),
            energy=energy.of.get(name),
            bound=bounds.get(name),
            trained_on=name in opened.seen.models or str(plan.rescore) in opened.seen.models,
        )
        for name, model in opened.models.items()
    ]
    for model in opened.models.values():
        model.runner.close()
    refuse_replaced(
        {opened.files[name]: digest for name, digest in opened.hashes.items()}, "nothing was written"
    )
    return _results(plan, opened, run, sensors, power_modes, len(images), rows, energy, samples, no_bounds)


def _results(
    plan: Plan,
    opened: Opened,
    run: LatencyRun,
    sensors: Sensors,
    power_modes: tuple[str | None, str | None],
    images: int,
    rows: list[ModelResult],
    energy: _EnergyByModel,
    samples: str | None,
    no_bounds: list[str],
) -> Results:
    """All measurements, with the verdict."""
    from samkr_edge.doctor.environment import environment

    unstable = _reasons(run, opened, sensors, power_modes)
    stable = not unstable and all(row.stable for row in rows)
    facts = opened.facts
    verdict = decide(rows, images=facts.images if facts else None, max_drop=plan.max_drop, unstable=unstable)
    return Results(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=plan.command,
        version=__version__,
        environment=environment(),
        settings=_settings(plan, run, images, opened.dataset is None),
        machine=machine_row(run, sensors, power_modes),
        stable=stable,
        reasons=unstable,
        stability_fix=None if stable else sensors.fix,
        dataset=facts,
        protocol=opened.measured_by,
        verdict=verdict.sentence,
        notes=[*verdict.notes, *opened.seen.notes, *_notes(opened.models, opened.protocol), *no_bounds],
        recommended=verdict.recommended,
        models=rows,
        power=energy.meter,
        power_reason=energy.reason,
        samples=samples,
    )


def _reasons(
    run: LatencyRun, opened: Opened, sensors: Sensors, power_modes: tuple[str | None, str | None]
) -> list[str]:
    """Reasons why the whole run cannot be trusted."""
    reasons = reasons_of_run(
        run.states,
        run.network_ms(),
        on_gpu=opened.on_gpu,
        one_chip=sensors.family == "jetson",
        power_modes=power_modes,
    )
    return reasons if run.settled else [*reasons, "the warm-up ended before the medians settled"]


# -- Measuring ---------------------------------------------------------------------------------------------------


def _memory(plan: Plan, files: Mapping[str, Path], progress: Progress) -> dict[str, MemoryMb]:
    if not plan.memory:
        return {}
    from benchmarks.measure.peak_memory import measure_memory

    found = {}
    with progress("memory", len(files), unit="models") as advance:
        for name, path in files.items():
            found[name] = measure_memory(path, plan.threads)
            advance(1)
    return found


def _time(
    plan: Plan,
    models: Mapping[str, PoseModel],
    images: list[np.ndarray],
    sensors: Sensors,
    progress: Progress,
) -> LatencyRun:
    """The interleaved measurement; in offline mode with the times of one image."""
    from samkr_edge.machine.opencv_threads import opencv_threads

    timed: Mapping[str, Timed] = models
    queries: Sequence[Any] = images
    if plan.mode == "offline":
        from benchmarks.measure.offline import Batched, batches

        timed = {name: Batched(model, plan.batch) for name, model in models.items()}
        queries = batches(images, plan.batch)
    # OpenCV would resize with its own threads, even if the model has few.
    with (
        opencv_threads(plan.threads),
        progress("latency", plan.rounds or plan.seconds, unit="rounds" if plan.rounds else "s") as advance,
    ):
        advance(0, note="warming up")
        run = measure(
            timed,
            queries,
            rounds=plan.rounds,
            seconds=plan.seconds,
            sensors=sensors.read,
            advance=lambda done: advance(done, note="measuring"),
        )
    return run.per_image(plan.batch) if plan.mode == "offline" else run


def _accuracy(plan: Plan, opened: Opened, progress: Progress) -> dict[str, Accuracy]:
    if opened.dataset is None or opened.facts is None or opened.reference is not None:
        return {}
    from benchmarks.measure.accuracy import measure_accuracy

    with progress("accuracy", len(opened.records) * len(opened.models), unit="images") as advance:
        return measure_accuracy(
            opened.models,
            opened.hashes,
            opened.baseline,
            opened.dataset,
            opened.facts,
            opened.protocol,
            opened.measured_by,
            limit=plan.limit,
            reuse=plan.reuse,
            advance=advance,
        )


def _against_fp32(opened: Opened, progress: Progress) -> dict[str, AgainstFp32]:
    if opened.reference is None:
        return {}
    from benchmarks.measure.against_fp32 import measure_against_fp32

    with progress("against FP32", len(opened.records) * len(opened.models), unit="photos") as advance:
        return measure_against_fp32(opened.models, opened.baseline, opened.reference, advance)


def _energy(plan: Plan, opened: Opened, images: list[np.ndarray], progress: Progress) -> _EnergyByModel:
    if not plan.power:
        return _EnergyByModel()
    from benchmarks.measure.energy import find_power, measure_energy

    source, reason = find_power(on_gpu=opened.on_gpu)
    if source is None:
        return _EnergyByModel(reason=reason)
    with progress("energy", None) as advance:
        advance(0, note=source.rail)
        meter, energy = measure_energy(opened.models, images, source)
    missing = [name for name in opened.models if name not in energy]
    return _EnergyByModel(meter, energy, f"too few readings for {', '.join(missing)}" if missing else None)


def _bounds(plan: Plan, opened: Opened, progress: Progress) -> tuple[dict[str, AgainstBound], list[str]]:
    """The lower bound of each model's network, and why the others have none."""
    if not plan.bound:
        return {}, []
    from benchmarks.measure.bounds import measure_bound

    found: dict[str, AgainstBound] = {}
    without = []
    with progress("bounds", len(opened.models), unit="models") as advance:
        for name, model in opened.models.items():
            one = measure_bound(model, opened.files[name], plan.threads)
            if isinstance(one, str):
                without.append(f"{name} has no bound: {one}")
            else:
                found[name] = one
            advance(1)
    return found, without


def _save_samples(plan: Plan, opened: Opened, folder: Path | None, progress: Progress) -> str | None:
    """The folder's name; None without samples."""
    if folder is None:
        return None
    # Pictures of an earlier run must not be shown with this run's numbers.
    if (folder / INDEX).is_file():
        shutil.rmtree(folder)
    if opened.dataset is None or plan.samples == 0:
        return None
    from benchmarks.measure.samples import write_samples

    with progress("samples", min(plan.samples, len(opened.records)), unit="images") as advance:
        write_samples(folder, opened.dataset, opened.records, opened.models, plan.samples, advance)
    return folder.name


# -- What is recorded --------------------------------------------------------------------------------------------


def _notes(models: Mapping[str, PoseModel], protocol: Protocol) -> list[str]:
    """What users must know about how the models ran and what their AP is."""
    notes = [note for model in models.values() for note in (*model.notes, *notes_of(model.card, protocol))]
    if protocol.rescoring is not None:
        notes += protocol.rescoring.doubts(protocol)
    if not protocol.deployment:
        notes.append(f"AP is by {protocol.label}; times are of one plain pass, as deployed.")
    return list(dict.fromkeys(notes))


def _settings(plan: Plan, run: LatencyRun, images: int, random: bool) -> Settings:
    return Settings(
        mode=plan.mode,
        batch=plan.batch,
        threads=plan.threads,
        cuda_graph=plan.cuda_graph,
        rounds=len(next(iter(run.frames.values())).total),
        seconds=round(run.seconds, 2),
        warmup_rounds=run.warmup_rounds,
        warmup_settled=run.settled,
        images=images,
        random_image=random,
    )
