"""The figures of a run: a row for each model (name, times, accuracy, the paper's AP), and the machine's state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure.bounds import lower_bound
from benchmarks.measure.int8_share import int8_share
from benchmarks.measure.latency import LatencyRun, latency_stats, speed_up, split
from benchmarks.measure.stability import reasons_of_model
from benchmarks.paper import paper_figure
from benchmarks.schema import (
    AgainstFp32,
    Energy,
    Machine,
    MemoryMb,
    ModelResult,
    PaperResult,
    Spread,
)

if TYPE_CHECKING:
    from benchmarks.measure.accuracy import Accuracy
    from benchmarks.measure.sensors import Sensors
    from samkr_edge.pose_model import PoseModel
    from samkr_edge.roofline.against_bound import AgainstBound


def row_names(models: Sequence[PoseModel]) -> list[str]:
    """``samkr_tiny INT8 QAT``; if several rows would have the same name, the kind or else the file is added."""
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
    return ", ".join([" ".join(parts), *(f"without {part}" for part in card.left_out)])


def measured_row(
    name: str,
    model: PoseModel,
    path: Path,
    sha256: str,
    run: LatencyRun,
    baseline: str,
    *,
    accuracy: Accuracy | None = None,
    against_fp32: AgainstFp32 | None = None,
    memory: MemoryMb | None = None,
    energy: Energy | None = None,
    bound: AgainstBound | None = None,
    trained_on: bool = False,
) -> ModelResult:
    """The row of a model file: its times, and its speed against the baseline's in the same run."""
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
        against_fp32=against_fp32,
        trained_on=trained_on,
        memory_mb=memory,
        int8_share=int8_share(path),
        energy=energy,
        bound=None if bound is None else lower_bound(bound, split(frames).network),
        paper=PaperResult(ap=figure.ap, where=figure.where, latency_ms=figure.latency_ms) if figure else None,
        stable=not reasons,
        reasons=reasons,
    )


def machine_row(run: LatencyRun, sensors: Sensors, power_modes: tuple[str | None, str | None]) -> Machine:
    """Clocks, temperatures and throttling from the first reading of a run to the last."""
    first, last = run.states[0], run.states[-1]
    mhz = [state.mhz for state in run.states if state.mhz is not None]
    gpu_mhz = [state.gpu_mhz for state in run.states if state.gpu_mhz is not None]
    celsius = [state.celsius for state in run.states if state.celsius is not None]
    return Machine(
        family=sensors.family,
        power_mode_before=power_modes[0],
        power_mode_after=power_modes[1],
        mhz_before=first.mhz,
        mhz_after=last.mhz,
        mhz_min=min(mhz, default=None),
        mhz_max=max(mhz, default=None),
        celsius_before=first.celsius,
        celsius_after=last.celsius,
        celsius_max=max(celsius, default=None),
        gpu_mhz_before=first.gpu_mhz,
        gpu_mhz_after=last.gpu_mhz,
        gpu_mhz_min=min(gpu_mhz, default=None),
        gpu_mhz_max=max(gpu_mhz, default=None),
        gpu_celsius_before=first.gpu_celsius,
        gpu_celsius_after=last.gpu_celsius,
        throttled=sorted({name for state in run.states for name in state.throttled}),
    )
