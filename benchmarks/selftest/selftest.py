"""One run of the self-test: which stages, in which order, for how long; their outcomes are always on disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.selftest.machine import MachineUnderTest
from benchmarks.selftest.outcome import StageOutcome, judge, not_run_stage
from benchmarks.selftest.report import payload
from benchmarks.selftest.stage import Check, Stage
from benchmarks.selftest.supervise import OnCheck, StoppedByUser, supervise
from samkr_edge.files.artefact import require_writable, write_json

FILE = "selftest.json"


class Selftest:
    """Stages, run one after the other by the command line, or by one test each.

    Args:
        folder: gets ``FILE``, which is written again after every check; that of an earlier run is set aside.
        shared: a folder that lives as long as the run; see ``Rig``.
        stages: those of the run, in order.
        minutes: of the whole run; None without a limit.
        keep_going: also after a stage has failed.

    Raises:
        SamkrError: SE-D01 nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        shared: Path,
        stages: Sequence[Stage],
        machine: MachineUnderTest,
        *,
        minutes: float | None = None,
        keep_going: bool = False,
    ) -> None:
        self.file, self.shared, self.stages = folder / FILE, shared, tuple(stages)
        self.machine, self.facts = machine, machine.facts()
        self.minutes, self.keep_going = minutes, keep_going
        self.begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._start = time.monotonic()
        self._outcomes: dict[int, StageOutcome] = {}
        require_writable(self.file)
        self._is_ours = False

    @property
    def outcomes(self) -> list[StageOutcome]:
        """Outcomes of all stages of the run, in order; those not reached count as not run."""
        return [
            self._outcomes.get(stage.number) or not_run_stage(stage, self._ended()) for stage in self.stages
        ]

    def run(self, stage: Stage, measured: OnCheck) -> StageOutcome:
        """One stage, unless something prevents it; ``measured`` is called for every check immediately.

        Raises:
            StoppedByUser: Ctrl-C; what was measured is in the file.
        """
        against = self._against(stage)
        if against:
            return self._keep(not_run_stage(stage, against))
        checks: list[Check] = []
        begun = time.monotonic()

        def note(check: Check) -> None:
            # Saved after every check, in case the machine loses power during a stage.
            checks.append(check)
            self._keep(judge(stage, checks, time.monotonic() - begun, unfinished="it did not finish"))
            measured(check)

        left = None if self.minutes is None else self.minutes * 60 - (begun - self._start)
        try:
            return self._keep(supervise(stage, self.shared, note, left))
        except StoppedByUser as stopped:
            self._keep(stopped.outcome)
            raise

    def take_over(self, known: Iterable[StageOutcome]) -> None:
        """Outcomes of an earlier run that still hold."""
        for outcome in known:
            self._keep(replace(outcome, why="kept from an earlier run"))

    def _against(self, stage: Stage) -> str:
        """Why a stage is not run; empty if it is."""
        failed = self._first_failed()
        if failed is not None and not self.keep_going:
            return f"stage {failed.number} failed"
        for need in stage.needs:
            if need in self.machine.lacking:
                return self.machine.lacking[need]
        if self.minutes is not None:
            left = max(0.0, self.minutes - (time.monotonic() - self._start) / 60)
            if stage.minutes > left:
                return f"it takes about {stage.minutes:g} minutes, {left:.1f} of {self.minutes:g} are left"
        return ""

    def _ended(self) -> str:
        failed = self._first_failed()
        return f"stage {failed.number} failed" if failed else "the self-test ended before it"

    def _first_failed(self) -> StageOutcome | None:
        return next((one for one in self._outcomes.values() if one.state == "failed"), None)

    def _keep(self, outcome: StageOutcome) -> StageOutcome:
        self._outcomes[outcome.number] = outcome
        if not self._is_ours:
            self._set_aside()
        write_json(self.file, payload(self.begun, self.facts, self.outcomes))
        return outcome

    def _set_aside(self) -> None:
        """Rename the earlier file, with its time in the name: a run of some stages must not replace a full one."""
        self._is_ours = True
        if self.file.is_file():
            written = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.file.stat().st_mtime))
            self.file.replace(self.file.with_name(f"{self.file.stem}-{written}.json"))
