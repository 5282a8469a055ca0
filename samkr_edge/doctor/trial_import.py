"""Which modules really import here, tried in a child process.

Metadata says that a package is installed, not that it works: ONNX Runtime 1.18 next to NumPy 2, an OpenCV without libGL
and a CUDA package without its libraries are all "installed". An import can also end the whole process, so it is tried
in another one.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from samkr_edge import child_process
from samkr_edge.machine.onnx_runtime_module import switch_off_telemetry

_LIMIT_S = 300
_MARK = "samkr-edge-trial "


@dataclass(frozen=True)
class ImportTrial:
    """The result of one import.

    Attributes:
        found: False if there is no such module.
        version: the ``__version__`` of the top-level package, if it has one.
        error: why the import failed; None if it worked or nothing was found.
        lacks: another package that is missing and must be installed; this one is intact.
    """

    found: bool
    version: str | None = None
    error: str | None = None
    lacks: str | None = None

    @property
    def works(self) -> bool:
        return self.found and self.error is None


def trial_imports(modules: Sequence[str]) -> dict[str, ImportTrial]:
    """Import each module in a child process; if one ends the child, the rest is tried in another."""
    trials: dict[str, ImportTrial] = {}
    while remaining := [module for module in modules if module not in trials]:
        trials.update(_in_a_child(remaining))
    return trials


def _in_a_child(modules: Sequence[str]) -> dict[str, ImportTrial]:
    """The trials that one child finished, and the one that ended it."""
    command = child_process.module("samkr_edge.doctor.trial_import", *modules)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=_LIMIT_S
        )
        printed, ending = done.stdout, f"it crashes the process (exit code {done.returncode})"
    except subprocess.TimeoutExpired as error:
        printed, ending = (error.stdout or b"").decode("utf-8", "replace"), f"it took more than {_LIMIT_S} s"
    trials: dict[str, ImportTrial] = {}
    for line in printed.splitlines():
        # Modules print too when they are imported.
        if line.startswith(_MARK):
            module, facts = json.loads(line.removeprefix(_MARK))
            trials[module] = ImportTrial(**facts)
    unfinished = next((module for module in modules if module not in trials), None)
    if unfinished is not None:
        trials[unfinished] = ImportTrial(True, error=ending)
    return trials


def _try(module: str) -> ImportTrial:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        top, name = module.partition(".")[0], error.name or ""
        if name == top:
            return ImportTrial(False)
        return ImportTrial(
            True, error=str(error), lacks=None if name.startswith(f"{top}.") else name.partition(".")[0]
        )
    except BaseException as error:  # SystemExit too: a package must not end the trial of the others
        # For a module compiled for another NumPy, NumPy writes to stderr and raises an ImportError without text.
        reason = " ".join((str(error).strip() or said.getvalue()).split())
        return ImportTrial(True, error=f"{type(error).__name__}: {reason}"[:200])
    package = sys.modules[module.partition(".")[0]]
    if (
        getattr(package, "__file__", None) is None
        and package.__spec__ is not None
        and package.__spec__.origin is None
    ):
        return ImportTrial(False)  # a folder of that name without the package
    version = getattr(package, "__version__", None)
    return ImportTrial(True, None if version is None else str(version))


def _main(modules: Sequence[str]) -> None:
    switch_off_telemetry()
    for module in modules:
        trial = _try(module)
        # On a new line: a module may have printed without ending its line.
        print("\n" + _MARK + json.dumps([module, asdict(trial)]), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
