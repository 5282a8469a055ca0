"""One benchmark run: open the models, time them in turns, score them, judge, and write it all down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.latency import Frames, Run, measure, speed_up
from benchmarks.paper import paper_figure
from benchmarks.results import (
    DatasetFacts,
    LatencyStats,
    Machine,
    ModelResult,
    PaperResult,
    Results,
    Settings,
    SplitMs,
    Spread,
)
from benchmarks.stability import reasons_of_model, reasons_of_run
from benchmarks.verdict import decide
from samkr_edge import __version__
from samkr_edge.artefact import sha256_of
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from benchmarks.accuracy import Accuracy
    from samkr_edge.dataset import ImageRecord, KeypointDataset
    from samkr_edge.pose_model import PoseModel

Progress = Callable[..., AbstractContextManager[Callable[..., Any]]]

# Images that the timing rotates over: enough that no cache holds one of them.
_TIMED_IMAGES = 50
_RANDOM_SIZE = (480, 640)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        models: model files; names in the table are made from their cards.
        baseline: the file that the others are compared with.
        data, split, limit: where accuracy and images come from; ``data=None`` measures latency only.
        rounds, seconds: budget of the timing; one of the two.
        threads: threads of each model.
        samples: images with predictions to save.
        max_drop: AP budget of the verdict.
        reuse: take the AP of unchanged models from the results that are already in the output folder.
        command: the command line, to be recorded.
    """

    models: Sequence[Path]
    baseline: Path
    data: Path | None = None
    split: str = "val"
    limit: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    threads: int = 1
    samples: int = 6
    max_drop: float | None = None
    reuse: Results | None = None
    command: str = ""


def run_bench(plan: Plan, samples_folder: Path | None, progress: Progress) -> Results:
    """Measure and return the results; sample pictures are written to ``samples_folder``.

    Raises:
        SamkrError: what opening a model or the data raises; SE-D60 and SE-D61 data that does not fit; SE-U62 the same
            model twice.
    """
    from samkr_edge.doctor import environment

    # The data first: opening it is quick, and a mistake in it should not cost the loading of the models.
    dataset, facts, records = _open_data(plan)
    models, files = _open_models(plan)
    baseline = next(name for name, path in files.items() if path == plan.baseline)
    hashes = {name: sha256_of(path) for name, path in files.items()}
    accuracy: dict[str, Accuracy] = {}
    if dataset is not None:
        from benchmarks.accuracy import check_skeletons, measure_accuracy

        check_skeletons(models, dataset)
    images = _timing_images(records)
    unit = "rounds" if plan.rounds else "s"
    with progress("latency", plan.rounds or plan.seconds, unit=unit) as advance:
        advance(0, note="warming up")
        run = measure(
            models,
            images,
            rounds=plan.rounds,
            seconds=plan.seconds,
            advance=lambda done: advance(done, note="measuring"),
        )
    if dataset is not None:
        with progress("accuracy", len(records) * len(models), unit="images") as advance:
            accuracy = measure_accuracy(
                models, hashes, baseline, dataset, limit=plan.limit, reuse=plan.reuse, advance=advance
            )
    saved = _save_samples(plan, samples_folder, dataset, records, models, progress)
    rows = [
        _row(name, model, files[name], hashes[name], run, baseline, accuracy.get(name))
        for name, model in models.items()
    ]
    for model in models.values():
        model.runner.close()
    unstable = reasons_of_run(run.states, run.network_ms())
    if not run.settled:
        unstable.append("the warm-up ended before the medians stood still")
    verdict = decide(rows, images=facts.images if facts else None, max_drop=plan.max_drop, unstable=unstable)
    return Results(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=plan.command,
        version=__version__,
        environment=environment(),
        settings=_settings(plan, run, len(images), dataset is None),
        machine=_machine(run),
        stable=not unstable and all(row.stable for row in rows),
        reasons=unstable,
        dataset=facts,
        verdict=verdict.sentence,
        notes=verdict.notes,
        recommended=verdict.recommended,
        models=rows,
        samples=saved,
    )


def _open_data(
    plan: Plan,
) -> tuple[KeypointDataset | None, DatasetFacts | None, tuple[ImageRecord, ...]]:
    if plan.data is None:
        return None, None, ()
    from benchmarks.accuracy import dataset_facts, evaluated_images
    from samkr_edge.dataset import open_dataset

    dataset = open_dataset(plan.data, plan.split)
    return dataset, dataset_facts(dataset, plan.limit), evaluated_images(dataset, plan.limit)


def _open_models(plan: Plan) -> tuple[dict[str, PoseModel], dict[str, Path]]:
    from samkr_edge.pose_model import load_model

    paths = list(plan.models)
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise SamkrError(
            "SE-U62", f"{twice[0]} was named twice, so nothing was measured", fix="name each model once"
        )
    loaded = [load_model(path, threads=plan.threads) for path in paths]
    names = row_names(loaded)
    return dict(zip(names, loaded, strict=True)), dict(zip(names, paths, strict=True))


def row_names(models: Sequence[PoseModel]) -> list[str]:
    """``samkr_tiny INT8 QAT``; where several rows would be called alike, the kind or else the file is added."""
    plain = [_title(model) for model in models]
    with_kind = [f"{title}, {model.kind}" for title, model in zip(plain, models, strict=True)]
    with_file = [f"{title}, {model.path.name}" for title, model in zip(plain, models, strict=True)]
    with_folder = [f"{title}, {model.path}" for title, model in zip(plain, models, strict=True)]
    names = []
    for at in range(len(models)):
        options = (plain, with_kind, with_file, with_folder)
        names.append(next((o[at] for o in options if o.count(o[at]) == 1), with_folder[at]))
    return names


def _title(model: PoseModel) -> str:
    card = model.card
    parts = [card.model, card.precision.upper()]
    if card.stage not in (card.precision, "fp32"):
        parts.append(card.stage.upper())
    return " ".join(parts)


def _timing_images(records: Sequence[ImageRecord]) -> list[np.ndarray]:
    """Real images, spread over the evaluated ones; without data one random image."""
    from benchmarks.samples import evenly_spaced
    from samkr_edge.dataset import read_image

    if not records:
        return [random_image()]
    return [read_image(record.path) for record in evenly_spaced(records, _TIMED_IMAGES)]


def random_image(seed: int = 0) -> np.ndarray:
    """A uint8 (480, 640, 3) image of random blobs of all sizes, the same for the same seed."""
    import cv2

    generator = np.random.default_rng(seed)
    height, width = _RANDOM_SIZE
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        noise = generator.random((2**octave, 2**octave, 3), dtype=np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low) * 255).astype(np.uint8)


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
    from benchmarks.samples import write_samples

    with progress("samples", min(plan.samples, len(records)), unit="images") as advance:
        write_samples(folder, dataset, records, models, plan.samples, advance)
    return folder.name


def _row(
    name: str,
    model: PoseModel,
    path: Path,
    sha256: str,
    run: Run,
    baseline: str,
    accuracy: Accuracy | None,
) -> ModelResult:
    frames = run.frames[name]
    ratio = None if name == baseline else speed_up(run.frames[baseline], frames)
    reasons = reasons_of_model(frames.network)
    figure = paper_figure(model.card.model, model.card.skeleton.name)
    return ModelResult(
        name=name,
        file=path.name,
        sha256=sha256,
        size_mb=round(path.stat().st_size / 1e6, 3),
        network=model.card.model,
        kind=model.kind,
        precision=model.card.precision,
        stage=model.card.stage,
        input_size=model.card.input_size,
        is_baseline=name == baseline,
        latency=latency_stats(frames),
        split_ms=split(frames),
        speed_up=Spread(value=ratio.value, low=ratio.low, high=ratio.high) if ratio else None,
        accuracy=accuracy.scores if accuracy else None,
        difference=accuracy.difference if accuracy else None,
        accuracy_reused=accuracy.reused if accuracy else False,
        paper=PaperResult(ap=figure.ap, where=figure.where, latency_ms=figure.latency_ms) if figure else None,
        stable=not reasons,
        reasons=reasons,
    )


def latency_stats(frames: Frames) -> LatencyStats:
    """Percentiles (linear interpolation) and mean of the total time."""
    total = frames.total
    p50, p90, p99 = (float(value) for value in np.percentile(total, [50, 90, 99]))
    mean = float(total.mean())
    return LatencyStats(
        frames=len(total),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=mean,
        min_ms=float(total.min()),
        max_ms=float(total.max()),
        cv=float(total.std() / mean),
        throughput_fps=1000.0 / mean,
    )


def split(frames: Frames) -> SplitMs:
    """Mean of each stage over the frames whose total lies between p10 and p90.

    Means add up, medians do not; leaving out both tails keeps the sum close to the p50 of the total.
    """
    low, high = np.percentile(frames.total, [10, 90])
    usual = (frames.total >= low) & (frames.total <= high)
    stages = [float(stage[usual].mean()) for stage in (frames.preprocess, frames.network, frames.decode)]
    other = max(0.0, float(frames.total[usual].mean()) - sum(stages))
    return SplitMs(preprocess=stages[0], network=stages[1], decode=stages[2], other=other)


def _settings(plan: Plan, run: Run, images: int, random: bool) -> Settings:
    return Settings(
        threads=plan.threads,
        rounds=len(next(iter(run.frames.values())).total),
        seconds=round(run.seconds, 2),
        warmup_rounds=run.warmup_rounds,
        warmup_settled=run.settled,
        images=images,
        random_image=random,
    )


def _machine(run: Run) -> Machine:
    mhz = [state.mhz for state in run.states if state.mhz is not None]
    celsius = [state.celsius for state in run.states if state.celsius is not None]
    return Machine(
        mhz_before=run.states[0].mhz,
        mhz_after=run.states[-1].mhz,
        mhz_min=min(mhz, default=None),
        mhz_max=max(mhz, default=None),
        celsius_before=run.states[0].celsius,
        celsius_after=run.states[-1].celsius,
        celsius_max=max(celsius, default=None),
    )
