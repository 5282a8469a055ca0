"""The results of a self-test: the JSON, the table, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.selftest.outcome import StageOutcome, State
from samkr_edge.machine.tensorrt_module import TITLES

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA_VERSION = 1
# The stage that compares whole networks, on which the sentence's statement on engines is based.
NETWORKS = 4
_STYLES: dict[State, str] = {
    "passed": "green",
    "failed": "bold red",
    "not run": "yellow",
    "unfinished": "yellow",
}


def payload(begun: str, facts: Mapping[str, Any], outcomes: Sequence[StageOutcome]) -> dict[str, Any]:
    """The JSON next to the table. ``begun``: UTC, ISO 8601; ``facts``: ``Machine.facts``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "time": begun,
        **facts,
        "verdict": verdict(outcomes, facts.get("title", ""), facts.get("versions", {})),
        "passed": passed(outcomes),
        "stages": [outcome.to_dict() for outcome in outcomes],
    }


def passed(outcomes: Sequence[StageOutcome]) -> bool | None:
    """False if a stage failed, True if some passed and none failed, None if nothing is known."""
    states = {outcome.state for outcome in outcomes}
    if "failed" in states:
        return False
    return True if "passed" in states else None


def verdict(
    outcomes: Sequence[StageOutcome], title: str = "", versions: Mapping[str, str] | None = None
) -> str:
    """One sentence. ``title`` of the device; ``versions``: ``Machine.versions``."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    left = [outcome for outcome in outcomes if outcome.state in ("not run", "unfinished")]
    unfinished = [outcome for outcome in outcomes if outcome.state == "unfinished"]
    good = [outcome for outcome in outcomes if outcome.state == "passed"]
    if failed:
        first = failed[0]
        rest = f"; {_stages(left)} not run" if left else ""
        more = f", and {_numbers(failed[1:])} too" if failed[1:] else ""
        return f"Stage {first.number}, {first.title}, failed{more}: {first.why.rstrip('.')}{rest}."
    if not good:
        why = "; ".join(dict.fromkeys(outcome.why for outcome in left if outcome.why))
        return f"No stage finished: {why}." if unfinished else f"No stage could be run: {why}."
    on = f" on {title}" if title else ""
    known = versions or {}
    built_by = " and ".join(f"{name} {known[name]}" for name in TITLES.values() if name in known)
    said = ""
    if any(outcome.number == NETWORKS for outcome in good):
        said = f": engines built by {built_by or 'TensorRT'}{on} compute what their ONNX does"
    count = (
        f"{_stages(good, article=False).capitalize()} passed" if left else f"All {len(good)} stages passed"
    )
    if len(good) == 1 and not left:
        count = f"Stage {good[0].number}, {good[0].title}, passed"
    rest = f"; {_stages(left)} not finished" if unfinished else f"; {_stages(left)} not run" if left else ""
    return f"{count}{said or on}{rest}."


def table(outcomes: Sequence[StageOutcome]) -> RenderableType:
    """One row a check; for a stage without checks, its reason."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "measured", "limit", "verdict"):
        shown.add_column(heading, overflow="fold", no_wrap=heading == "verdict")
    for outcome in outcomes:
        name = f"{outcome.number:>2} {outcome.title}"
        judged = outcome.state != "not run"
        for check in outcome.checks if judged else ():
            state: State = "not run" if check.passed is None else "passed" if check.passed else "failed"
            shown.add_row(name, f"{check.what}: {check.found}", check.limit, Text(state, _STYLES[state]))
            name = ""
        if outcome.state in ("not run", "unfinished"):
            shown.add_row(name, Text(outcome.why, "dim"), "", Text(outcome.state, _STYLES[outcome.state]))
    return shown


def summary(outcomes: Sequence[StageOutcome], facts: Mapping[str, Any]) -> RenderableType:
    """Table, the last output of a failed stage, and the verdict."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = [table(outcomes), Text("")]
    for outcome in outcomes:
        if outcome.state == "failed" and outcome.said:
            lines += [Text(f"stderr of stage {outcome.number}:", "dim")]
            lines += [Text(f"  {line}", "dim") for line in outcome.said] + [Text("")]
    lines.append(Text(verdict(outcomes, facts.get("title", ""), facts.get("versions", {})), "bold"))
    return Group(*lines)


def _stages(outcomes: Sequence[StageOutcome], article: bool = True) -> str:
    """``stage 4 was`` and ``stages 5 to 12 were``; without the article ``stage 4``."""
    one = len(outcomes) == 1
    verb = (" was" if one else " were") if article else ""
    return f"stage{'' if one else 's'} {_numbers(outcomes)}{verb}"


def _numbers(outcomes: Sequence[StageOutcome]) -> str:
    """``0 to 3, 5 and 7``."""
    runs: list[list[int]] = []
    for outcome in outcomes:
        if runs and outcome.number == runs[-1][-1] + 1:
            runs[-1].append(outcome.number)
        else:
            runs.append([outcome.number])
    parts = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
