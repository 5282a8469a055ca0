"""A stage's own process: checks go out on a pipe, one JSON line each, as they are measured.

Not on stdout, where TensorRT, torch and the driver print too.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from pathlib import Path
from typing import Any

from benchmarks.selftest.run import run_stage
from benchmarks.selftest.stage import Check, Rig, Stage

# The last line: without it the process ended before its stage, whatever its exit code.
DONE = "done"


def plain(value: Any) -> Any:
    """``value`` as strict JSON has it: numbers of numpy become Python's, NaN and infinities become text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def arguments(stage: Stage, rig: Rig, pipe: int) -> list[str]:
    """The command line of ``main``."""
    facts = {"number": stage.number, "title": stage.title, "checks": stage.checks, "minutes": stage.minutes}
    return [json.dumps(facts), str(rig.folder), str(rig.shared), str(pipe)]


def main(given: list[str]) -> None:
    """Run the stage that ``arguments`` describes."""
    stage, rig = Stage(needs=(), **json.loads(given[0])), Rig(Path(given[1]), Path(given[2]))
    pipe = int(given[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps: gigabytes that nobody reads
    os.set_inheritable(pipe, False)  # a process left behind by the stage must not keep it open
    with os.fdopen(pipe, "w", encoding="utf-8") as out:
        for check in run_stage(stage, rig):
            print(json.dumps(plain(check.to_dict())), file=out, flush=True)
        print(json.dumps(DONE), file=out, flush=True)


def read_line(line: str) -> Check | None:
    """The check in a line of the pipe; None for the last line."""
    found = json.loads(line)
    return None if found == DONE else Check(**found)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:  # sent by the parent process, which reports it
        sys.exit(130)
