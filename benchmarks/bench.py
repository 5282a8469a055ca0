"""One benchmark run: open the models, time them in turns, score them, judge, and write it all down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.judge.verdict import decide
from benchmarks.measure.int8_share import int8_share
from benchmarks.measure.latency import Run, Timed, measure
from benchmarks.measure.sensors import Device, find_device
from benchmarks.measure.stability import reasons_of_run
from benchmarks.measure.timing_images import timing_images
from benchmarks.rows import machine_row, measured_row, row_names
from benchmarks.schema import (
    DatasetFacts,
    Energy,
    MemoryMb,
    PowerFacts,
    ProtocolFacts,
    Results,
    Settings,
)
from samkr_edge import __version__
from samkr_edge.dataset.trained_on import Seen, require_unseen, trainings_of
from samkr_edge.evaluation.protocol import Protocol, notes_of
from samkr_edge.files.one_file import digests_of, refuse_replaced, refuse_twice

if TYPE_CHECKING:
    from benchmarks.measure.accuracy import Accuracy
    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.pose_model import PoseModel

Progress = Callable[..., AbstractContextManager[Callable[..., Any]]]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        models: model files; names in the table are made from their cards.
        baseline: the file that the others are compared with.
        data, split, limit: where accuracy and images come from; ``data=None`` measures latency only.
        protocol: what AP is measured by, without its rescoring network, which is read from the file ``rescore``.
        rounds, seconds: budget of the timing; one of the two.
        threads: threads of each model.
        cuda_graph: launch the network of each TensorRT engine as one CUDA graph.
        mode, batch: one image after the other, or ``offline`` in batches of so many.
        power: measure energy too, where there is a meter.
        memory: measure peak memory too, in a process of its own for each model.
        samples: images with predictions to save.
        max_drop: AP budget of the verdict.
        anyway: measure train-fit AP where a model was trained on these images.
        reuse: take the AP of unchanged models from the results that are already in the output folder.
        command: the command line, to be recorded.
    """

    models: Sequence[Path]
    baseline: Path
    data: Path | None = None
    split: str = "val"
    limit: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    rescore: Path | None = None
    rounds: int | None = None
    seconds: float | None = None
    threads: int = 1
    cuda_graph: bool = False
    mode: Literal["single-stream", "offline"] = "single-stream"
    batch: int = 1
    power: bool = False
    memory: bool = True
    samples: int = 6
    max_drop: float | None = None
    anyway: bool = False
    reuse: Results | None = None
    command: str = ""


def run_bench(
    plan: Plan, samples_folder: Path | None, progress: Progress, device: Device | None = None
) -> Results:
    """Measure and return the results; sample pictures are written to ``samples_folder``.

    ``device`` is how this machine is read; a test passes its own.

    Raises:
        SamkrError: what opening a model or the data raises; SE-D60 and SE-D26 data that does not fit; SE-U75 a model
            that cannot follow the protocol; SE-U62 the same model twice; SE-A29 a model replaced meanwhile;
            SE-D45 a model was trained on these images.
    """
    from samkr_edge.doctor.environment import environment
    from samkr_edge.evaluation.many_images import opencv_threads

    # The data first: opening it is quick, and a mistake in it should not cost the loading of the models.
    dataset, facts, records = _open_data(plan)
    digests = digests_of(plan.models)
    models, files = _open_models(plan)
    on_gpu = _on_gpu(models)
    device = device or find_device(on_gpu=on_gpu)
    baseline = next(name for name, path in files.items() if path == plan.baseline)
    hashes = {name: digests[path] for name, path in files.items()}
    accuracy: dict[str, Accuracy] = {}
    seen = Seen()
    protocol, measured_by = plan.protocol, ProtocolFacts()
    if dataset is not None:
        protocol, measured_by, seen = _judged_by(plan, models, dataset, records)
    memory = _memory(plan, files, progress)
    images = timing_images(records)
    power_before = device.power_mode()
    # OpenCV would resize with threads of its own, however few the model was given.
    with opencv_threads(plan.threads):
        run = _time(plan, models, images, device, progress)
    power_modes = (power_before, device.power_mode())
    if dataset is not None and facts is not None:
        from benchmarks.measure.accuracy import measure_accuracy

        with progress("accuracy", len(records) * len(models), unit="images") as advance:
            accuracy = measure_accuracy(
                models,
                hashes,
                baseline,
                dataset,
                facts,
                protocol,
                measured_by,
                limit=plan.limit,
                reuse=plan.reuse,
                advance=advance,
            )
    power, energy, power_reason = _energy(plan, models, images, progress)
    saved = _save_samples(plan, samples_folder, dataset, records, models, progress)
    rows = [
        measured_row(name, model, files[name], hashes[name], run, baseline, accuracy.get(name)).model_copy(
            update={
                "memory_mb": memory.get(name),
                "int8_share": int8_share(files[name]),
                "energy": energy.get(name),
                "trained_on": name in seen.models or str(plan.rescore) in seen.models,
            }
        )
        for name, model in models.items()
    ]
    for model in models.values():
        model.runner.close()
    refuse_replaced(digests, "nothing was written")
    unstable = reasons_of_run(
        run.states,
        run.network_ms(),
        on_gpu=on_gpu,
        one_chip=device.family == "jetson",
        power_modes=power_modes,
    )
    if not run.settled:
        unstable.append("the warm-up ended before the medians stood still")
    stable = not unstable and all(row.stable for row in rows)
    verdict = decide(rows, images=facts.images if facts else None, max_drop=plan.max_drop, unstable=unstable)
    return Results(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=plan.command,
        version=__version__,
        environment=environment(),
        settings=_settings(plan, run, len(images), dataset is None),
        machine=machine_row(run, device, power_modes),
        stable=stable,
        reasons=unstable,
        stability_fix=None if stable else device.fix,
        dataset=facts,
        protocol=measured_by,
        verdict=verdict.sentence,
        notes=[*verdict.notes, *seen.notes, *_notes(models, protocol)],
        recommended=verdict.recommended,
        models=rows,
        power=power,
        power_reason=power_reason,
        samples=saved,
    )


def _judged_by(
    plan: Plan, models: Mapping[str, PoseModel], dataset: KeypointDataset, records: Sequence[ImageRecord]
) -> tuple[Protocol, ProtocolFacts, Seen]:
    """What AP is measured by, what is recorded of that, and who was trained on these images: asked before the work."""
    from benchmarks.measure.accuracy import check_skeletons, open_protocol

    check_skeletons(models, dataset)
    protocol, measured_by = open_protocol(plan.protocol, plan.rescore, models, dataset.skeleton)
    trainings = {name: trainings_of(model.card) for name, model in models.items()}
    if plan.rescore is not None and protocol.rescoring is not None:
        trainings |= {str(plan.rescore): protocol.rescoring.trainings}
    seen = require_unseen(trainings, dataset, records, anyway=plan.anyway)
    return protocol, measured_by, seen


def _notes(models: Mapping[str, PoseModel], protocol: Protocol) -> list[str]:
    """What must be known of how the models run, and of what their AP is."""
    notes = [note for model in models.values() for note in (*model.notes, *notes_of(model.card, protocol))]
    if protocol.rescoring is not None:
        notes += protocol.rescoring.doubts(protocol)
    if not protocol.deployment:
        notes.append(f"AP is by {protocol.label}; times are those of one pass as deployed, without that.")
    return list(dict.fromkeys(notes))


def _time(
    plan: Plan, models: Mapping[str, PoseModel], images: list[np.ndarray], device: Device, progress: Progress
) -> Run:
    """The interleaved measurement; in offline mode with the times of one image."""
    timed: Mapping[str, Timed] = models
    queries: Sequence[Any] = images
    if plan.mode == "offline":
        from benchmarks.measure.offline import Batched, batches

        timed = {name: Batched(model, plan.batch) for name, model in models.items()}
        queries = batches(images, plan.batch)
    with progress("latency", plan.rounds or plan.seconds, unit="rounds" if plan.rounds else "s") as advance:
        advance(0, note="warming up")
        run = measure(
            timed,
            queries,
            rounds=plan.rounds,
            seconds=plan.seconds,
            sensors=device.read,
            advance=lambda done: advance(done, note="measuring"),
        )
    return run.per_image(plan.batch) if plan.mode == "offline" else run


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


def _energy(
    plan: Plan, models: Mapping[str, PoseModel], images: list[np.ndarray], progress: Progress
) -> tuple[PowerFacts | None, dict[str, Energy], str | None]:
    """(the meter, energy of each model, why there is none)."""
    if not plan.power:
        return None, {}, None
    from benchmarks.measure.energy import find_power, measure_energy

    source, reason = find_power(on_gpu=_on_gpu(models))
    if source is None:
        return None, {}, reason
    with progress("energy", None) as advance:
        advance(0, note=source.rail)
        facts, energy = measure_energy(models, images, source)
    missing = [name for name in models if name not in energy]
    return facts, energy, f"too few readings for {', '.join(missing)}" if missing else None


def _on_gpu(models: Mapping[str, PoseModel]) -> bool:
    return any(model.kind == "engine" for model in models.values())


def _open_data(
    plan: Plan,
) -> tuple[KeypointDataset | None, DatasetFacts | None, tuple[ImageRecord, ...]]:
    if plan.data is None:
        return None, None, ()
    from benchmarks.measure.accuracy import dataset_facts, evaluated_images
    from samkr_edge.cli.console import say
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.use import remarks

    dataset = open_dataset(plan.data, plan.split)
    facts, records = dataset_facts(dataset, plan.limit), evaluated_images(dataset, plan.limit)
    for line in remarks(dataset, records):
        say(line)
    return dataset, facts, records


def _open_models(plan: Plan) -> tuple[dict[str, PoseModel], dict[str, Path]]:
    from samkr_edge.pose_model import load_model

    paths = list(plan.models)
    refuse_twice(paths, "measured")
    loaded = [load_model(path, threads=plan.threads, cuda_graph=plan.cuda_graph) for path in paths]
    names = row_names(loaded)
    return dict(zip(names, loaded, strict=True)), dict(zip(names, paths, strict=True))


def _save_samples(
    plan: Plan,
    folder: Path | None,
    dataset: KeypointDataset | None,
    records: Sequence[ImageRecord],
    models: Mapping[str, PoseModel],
    progress: Progress,
) -> str | None:
    if folder is None:
        return None
    # Pictures of an earlier run must not stand beside this run's numbers.
    if (folder / "samples.json").is_file():
        shutil.rmtree(folder)
    if dataset is None or plan.samples == 0:
        return None
    from benchmarks.measure.samples import write_samples

    with progress("samples", min(plan.samples, len(records)), unit="images") as advance:
        write_samples(folder, dataset, records, models, plan.samples, advance)
    return folder.name


def _settings(plan: Plan, run: Run, images: int, random: bool) -> Settings:
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
