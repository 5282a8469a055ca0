"""The outcome of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.selftest.stage import Check, Stage

# `unfinished`: stopped by Ctrl-C or by the end of `--minutes` before it was done, without a failure so far.
State = Literal["passed", "failed", "not run", "unfinished"]


@dataclass(frozen=True)
class StageOutcome:
    """One stage, judged.

    Attributes:
        checks: in the order in which they were measured.
        why: the reason why a stage was not run or not finished, or the first failed check.
        seconds: wall time of its process.
        said: the last lines that its process wrote to stderr, if it failed.
    """

    number: int
    title: str
    state: State
    checks: tuple[Check, ...] = ()
    why: str = ""
    seconds: float = 0.0
    said: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def not_run_stage(stage: Stage, why: str) -> StageOutcome:
    return StageOutcome(stage.number, stage.title, "not run", why=why)


def judge(
    stage: Stage, checks: Sequence[Check], seconds: float, said: Sequence[str] = (), unfinished: str = ""
) -> StageOutcome:
    """The outcome of a stage that was run; ``unfinished`` is the reason if it was stopped.

    A stage counts as not run if none of its checks could be run: nothing is known about it.
    """
    failed = [check for check in checks if check.passed is False]
    if failed:
        why = f"{failed[0].what}: {failed[0].found}"
        return StageOutcome(stage.number, stage.title, "failed", tuple(checks), why, seconds, tuple(said))
    if unfinished:
        return StageOutcome(stage.number, stage.title, "unfinished", tuple(checks), unfinished, seconds)
    if all(check.passed is None for check in checks):
        why = "; ".join(dict.fromkeys(check.found for check in checks))
        return StageOutcome(stage.number, stage.title, "not run", tuple(checks), why, seconds)
    return StageOutcome(stage.number, stage.title, "passed", tuple(checks), "", seconds)
