"""The report's part on sensitivity: reads what `samkr-edge sensitivity` writes (``sensitivity.json``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.judge.wording import signed
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import read_json
from samkr_edge.printable import counted


class _Shown(BaseModel):
    model_config = ConfigDict(
        extra="ignore"
    )  # another command's file, which may hold more than is shown here


class _ShownDifference(_Shown):
    ap: tuple[float, float, float]


class _ShownTrial(_Shown):
    difference: _ShownDifference


class _ShownGroup(_Shown):
    group: str
    macs_share: float
    distinguishable: bool
    alone: _ShownTrial


class _ShownSensitivity(_Shown):
    checkpoint: str
    images: int
    fp32_ap: float
    trained_on: bool = False  # older files did not record it, nor the metric
    metric: str | None = None
    reference: dict[str, Any] | None = None  # the network whose people stood for labels
    groups: list[_ShownGroup]
    conclusion: str


@dataclass(frozen=True)
class GroupBar:
    """One group: its AP difference in INT8 as text, and where its bar and interval lie on an axis of 0..100."""

    group: str
    difference: str
    interval: str
    macs: str
    distinguishable: bool
    start: float
    width: float
    low: float
    high: float


@dataclass(frozen=True)
class SensitivityPart:
    """What the template shows; ``metric`` names AP, ``zero`` is the place of no difference on the axis of 0..100."""

    metric: str
    caption: str
    conclusion: str
    zero: float
    bars: list[GroupBar]


def read_sensitivity(path: Path) -> SensitivityPart:
    """Read the file, or the one in a folder.

    Raises:
        SamkrError: SE-A23 missing, SE-D03 not JSON; SE-A68 not a sensitivity file.
    """
    path = path / "sensitivity.json" if path.is_dir() else path
    try:
        found = _ShownSensitivity.model_validate(read_json(path, "sensitivity file"))
    except ValidationError as error:
        first = error.errors()[0]
        raise SamkrError(
            "SE-A68",
            f"{path.name} is not a file of `samkr-edge sensitivity`",
            {"at": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"},
            fix="samkr-edge sensitivity CHECKPOINT --data DIR",
        ) from error
    values = [value for group in found.groups for value in group.alone.difference.ap]
    low, high = min([0.0, *values]), max([0.0, *values])
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return 100 * (value - low) / span

    bars = []
    for group in found.groups:
        value, lower, upper = group.alone.difference.ap
        bars.append(
            GroupBar(
                group.group,
                signed(value),
                f"[{signed(lower)}, {signed(upper)}]",
                f"{group.macs_share:.0%}",
                group.distinguishable,
                place(min(value, 0.0)),
                place(max(value, 0.0)) - place(min(value, 0.0)),
                place(lower),
                place(upper),
            )
        )
    metric = found.metric or ("train-fit AP" if found.trained_on else "AP")
    # Against its own people FP32 has 100.
    float_ap = "" if found.reference else f", FP32 {found.fp32_ap:.1f} {metric}"
    caption = f"{found.checkpoint}, {counted(found.images, 'image')}{float_ap}"
    return SensitivityPart(metric, caption, found.conclusion, place(0.0), bars)
