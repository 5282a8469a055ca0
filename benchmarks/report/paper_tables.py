"""The paper's tables next to our measurements, each in separate columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.judge.wording import milliseconds
from benchmarks.paper import PaperRow, PaperTable, is_measured_alike
from benchmarks.schema import ModelResult, Results
from samkr_edge.printable import counted


@dataclass(frozen=True)
class OursRow:
    """What we measured for a printed row.

    Attributes:
        what: model, data and protocol.
        cells: as text, '' if not measured.
        alike: on the images and by the protocol of the printed row; never for times, which name their machine instead.
    """

    what: str
    cells: tuple[str, ...]
    alike: bool = True


def ours(table: PaperTable, row: PaperRow, runs: Sequence[tuple[str, Results]]) -> list[OursRow]:
    """Our measurements in the runs (name, results) for a printed row; empty if there are none.

    Those measured like the printed row come first. Runs by the paper's protocol show no time: they time checkpoints,
    which no device runs.
    """
    found: list[OursRow] = []
    for name, results in runs:
        for model in results.models:
            if model.network not in row.networks:
                continue
            alike = True
            if table.skeleton is None:
                if model.simulated or results.protocol.name == "paper":
                    continue
                what, cells = f"{_precision(model)}, {name}", _times(table, model)
            elif (
                results.dataset is not None and results.dataset.skeleton == table.skeleton and model.accuracy
            ):
                data = results.dataset
                what = (
                    f"{_precision(model)}, {counted(data.images, 'image')} of {data.name}/{results.ap_label}"
                )
                cells = tuple(_cell(model.accuracy.get(key)) for key, _ in table.metrics)
                alike = is_measured_alike(results, table.split or "") and not model.trained_on
            else:
                continue
            mine = OursRow(what, cells, alike)
            if mine not in found:  # the same AP from runs that differ in latency only
                found.append(mine)
    return sorted(found, key=lambda mine: not mine.alike)


def _precision(model: ModelResult) -> str:
    stage = model.stage.upper()
    return (
        model.precision.upper()
        if stage in (model.precision.upper(), "FP32")
        else f"{model.precision.upper()} {stage}"
    )


def _times(table: PaperTable, model: ModelResult) -> tuple[str, ...]:
    times = {**dict(model.latency), **dict(model.split_ms)}
    return tuple(milliseconds(times[key]) for key, _ in table.metrics)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
