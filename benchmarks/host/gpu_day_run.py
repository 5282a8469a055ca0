"""Runs the steps of ``gpu_day`` in order within the time available, and saves each record when its step ends."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.host.gpu_day_steps import GpuDayStep

FILE = "gpu_day.json"
ATTEMPTS = 2


@dataclass
class Day:
    """Folders, interpreters and records of one day.

    Attributes:
        bundle: the folder that `prepare` made.
        work: networks, engines and records of one machine.
        out: gets a copy of the records after every step; None for no copy.
        pythons: ``torch`` and ``tensorrt`` -> that Python's command, None if there is none.
        extra: ``torch`` and ``tensorrt`` -> a folder to put first on that Python's path.
        records: step name -> its result.
    """

    bundle: Path
    work: Path
    out: Path | None
    pythons: dict[str, str | None]
    extra: dict[str, Path] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def is_done(self, step: GpuDayStep) -> bool:
        return self.records.get(step.name, {}).get("state") == "done"

    def is_there(self, step: GpuDayStep) -> bool:
        """Whether the files it makes for other steps exist."""
        return all((self.work / name).exists() for name in step.makes)

    def keep(self, name: str, record: dict[str, Any]) -> None:
        self.records[name] = record
        text = json.dumps({"kind": "gpu day", "steps": self.records}, indent=1) + "\n"
        for folder in (self.work, self.out):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{FILE}.part").write_text(text, encoding="utf-8")
                os.replace(folder / f"{FILE}.part", folder / FILE)


def pending(day: Day, steps: Sequence[GpuDayStep], only: str | None = None) -> list[GpuDayStep]:
    """Steps to run, in order: those not done and those that make their missing inputs, failed ones last.

    Args:
        only: ``torch`` or ``tensorrt``: just the steps that need it, and those that make their inputs.
    """
    by_name = {step.name: step for step in steps}
    needed: set[str] = set()
    for step in steps:
        if only in (None, step.needs) and not day.is_done(step):
            chain = _chain(day, by_name, step)
            if all(tries(day, by_name[name]) < ATTEMPTS for name in chain):  # else it can never run
                needed |= chain
    chosen = [step for step in steps if step.name in needed]
    return [s for s in chosen if not tries(day, s)] + [s for s in chosen if tries(day, s)]


def _chain(day: Day, by_name: dict[str, GpuDayStep], step: GpuDayStep) -> set[str]:
    """The step and all steps that must run before it."""
    found = {step.name}
    for name in missing_for(day, by_name, step):
        found |= _chain(day, by_name, by_name[name])
    return found


def missing_for(day: Day, by_name: dict[str, GpuDayStep], step: GpuDayStep) -> list[str]:
    """Steps whose files it reads and that are not done or have lost those files."""
    return [name for name in step.after if not (day.is_done(by_name[name]) and day.is_there(by_name[name]))]


def tries(day: Day, step: GpuDayStep) -> int:
    """How often it has failed."""
    return int(day.records.get(step.name, {}).get("failures", 0))


def run(
    day: Day,
    steps: Sequence[GpuDayStep],
    minutes: float,
    only: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run as many pending steps as fit into the minutes; returns how many are still pending."""
    end = clock() + 60 * minutes
    by_name = {step.name: step for step in steps}
    for step in pending(day, steps, only):
        left = end - clock()
        missing = missing_for(day, by_name, step)
        if missing:
            later = f"{missing[0]} is missing"
        elif day.pythons.get(step.needs) is None:
            later = f"there is no {step.needs} here"
        elif 60 * step.minutes > left:
            later = f"it takes about {step.minutes:g} minutes, {left / 60:.1f} are left"
        else:
            record = attempt(day, step, min(180 * step.minutes, left))
            day.keep(step.name, record)
            print(f"{record['state']:<7} {step.name} ({record['seconds']:.0f} s){why(record)}", flush=True)
            continue
        print(f"later   {step.name}: {later}", flush=True)
    return len(pending(day, steps, only))


def why(record: dict[str, Any]) -> str:
    lines = str(record.get("printed", "")).strip().splitlines()
    return f": {lines[-1][:160]}" if record["state"] == "failed" and lines else ""


def attempt(day: Day, step: GpuDayStep, limit_s: float) -> dict[str, Any]:
    """Run a step; returns its record."""
    command = [str(day.pythons[step.needs]), *(fill(day, text) for text in step.command)]
    environment = dict(os.environ)
    if step.needs in day.extra:
        for name in ("PYTHONPATH", "EXTRA_PYTHONPATH"):
            parts = [str(day.extra[step.needs]), environment.get(name, "")]
            environment[name] = os.pathsep.join(part for part in parts if part)
    if step.result is not None:
        (day.work / step.result).unlink(missing_ok=True)  # of an earlier attempt
    begun = time.monotonic()
    code, printed, errors = call(command, environment, limit_s)
    result = None
    if step.result is not None and (day.work / step.result).is_file():
        result = json.loads((day.work / step.result).read_text(encoding="utf-8"))
    elif step.result is None and code == 0:
        result = parsed(printed)
    done = code == 0 and day.is_there(step) and (step.result is None or result is not None)
    return {
        "state": "done" if done else "failed",
        "failures": tries(day, step) + (not done),
        "command": " ".join(step.command),
        "exit_code": code,
        "seconds": round(time.monotonic() - begun, 1),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "printed": (errors or printed)[-4000:],
        "result": result,
    }


def call(command: list[str], environment: dict[str, str], limit_s: float) -> tuple[int, str, str]:
    """(exit code, stdout, stderr); on a timeout, 124 and what it had printed by then."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="replace",
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            printed, errors = process.communicate(timeout=limit_s)
            return process.returncode, printed, errors
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            printed, errors = process.communicate()
            return 124, printed, f"{errors}\nended after {limit_s:.0f} s"


def fill(day: Day, text: str) -> str:
    return text.replace("{work}", str(day.work)).replace("{bundle}", str(day.bundle))


def parsed(printed: str) -> Any:
    """The JSON that a command printed; its last line if it printed none."""
    start = printed.find("{")
    try:
        return json.loads(printed[start:]) if start >= 0 else printed.strip().splitlines()[-1:]
    except ValueError:
        return printed.strip().splitlines()[-1:]


def version_of(python: str) -> str | None:
    """A Python's version as ``3.12``; None if the command does not start."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def works(python: str, module: str, extra: Path | None) -> bool:
    """Whether a Python can import ``module`` with the folder ``extra`` first on its path."""
    environment = dict(os.environ)
    if extra is not None:
        environment |= {"PYTHONPATH": str(extra), "EXTRA_PYTHONPATH": str(extra)}
    try:
        return not subprocess.run(
            [python, "-c", f"import {module}"], capture_output=True, env=environment
        ).returncode
    except OSError:
        return False
