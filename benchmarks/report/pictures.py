"""Part of the report: sample predictions, every model's next to the baseline's, with the joints that moved."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.movement import compare
from benchmarks.report.svg import skeletons
from benchmarks.sample_pictures import read_samples
from benchmarks.schema import Results
from samkr_edge.printable import counted


@dataclass
class Budget:
    """Bytes of pictures that a page has room for."""

    left: int


def pictures(
    number: int, results: Results, folder: Path, labels: dict[str, str], budget: Budget
) -> list[dict[str, Any]]:
    """The pictures of run ``number`` as the template shows them, until the budget is spent.

    Args:
        folder: the folder of the run's file; its samples are in a folder next to it.
        labels: model name -> what it is called in the page.
    """
    samples = read_samples(folder / results.samples) if results.samples else None
    if samples is None or results.samples is None:
        return []
    baseline = results.baseline().name
    order = [model.name for model in results.models]
    found = []
    for index, image in enumerate(samples.images):
        if baseline not in image.people:
            continue
        encoded = base64.b64encode((folder / results.samples / image.file).read_bytes()).decode()
        if len(encoded) > budget.left:
            break
        budget.left -= len(encoded)
        cells = []
        for series, name in enumerate(order):
            if name not in image.people:
                continue
            movement = compare(
                image.people[baseline],
                image.people[name],
                samples.sigmas,
                grouped=baseline in samples.grouped,
            )
            moved = frozenset() if name == baseline else movement.moved
            overlay = skeletons(
                image.people[name], samples.edges, moved, size=(image.width, image.height), series=series % 4
            )
            caption = _people_text(len(image.people[name]))
            if name != baseline:
                changes = [f"{len(moved)} of {movement.joints} joints moved"] if movement.joints else []
                changes += [f"{movement.missing} lost"] if movement.missing else []
                changes += [f"{movement.extra} new"] if movement.extra else []
                caption = ", ".join(changes) or caption
            cells.append(
                {"label": labels[name], "series": series % 4, "overlay": overlay, "caption": caption}
            )
        found.append(
            {
                "id": f"photo-{number}-{index}",
                "width": image.width,
                "height": image.height,
                "data": f"data:image/jpeg;base64,{encoded}",
                "cells": cells,
            }
        )
    return found


def _people_text(count: int) -> str:
    return counted(count, "person", "people") if count else "nobody found"
