"""Run a sequence of `samkr-edge` commands, repeating only those whose inputs, settings or results changed.

A step's key is a hash of its command line, the bytes of its inputs and the state of the pictures that it reads; its
outputs are recorded with their hashes. So a repeated run reuses results, and makes an edited or damaged one again.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samkr_edge import __version__, child_process
from samkr_edge.cli.console import heading, show
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.picture_digests import disk_state
from samkr_edge.files.artefact import json_of, sha256_of, write_json
from samkr_edge.frames.photo_set import photo_files
from samkr_edge.stopping import taking_along
from samkr_edge.terminal import say

STATE_VERSION = 1


@dataclass(frozen=True)
class CommandStep:
    """One command of the sequence.

    Attributes:
        title: what it does, for people.
        arguments: command line after ``samkr-edge``.
        inputs: files whose bytes decide whether the step must run again.
        outputs: files that it makes.
        splits: (data set, split) whose annotations and pictures decide that too.
        photos: what `--photos` names; these pictures decide that too.
        workspace: a folder of this step only, with unfinished work to resume from.
    """

    title: str
    arguments: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    workspace: Path | None = None
    splits: tuple[tuple[Path, str], ...] = ()
    photos: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The equivalent single command, to paste into a shell."""
        return "samkr-edge " + shlex.join(self.arguments)

    def key(self) -> str:
        """Hash of everything the result depends on."""
        read = [sha256_of(path) for path in self.inputs]
        for root, split in self.splits:
            dataset = open_dataset(root, split)
            read += [sha256_of(dataset.annotation_path), disk_state(image.path for image in dataset.images)]
        if self.photos:
            read.append(disk_state(photo_files(self.photos)))
        parts = [__version__, list(self.arguments), read]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class StepFailed(Exception):
    """A step's command failed; it has already printed its own error."""

    def __init__(self, step: CommandStep, exit_code: int) -> None:
        super().__init__(step.command)
        self.step = step
        self.exit_code = exit_code


class StepLog:
    """The finished steps, in one JSON file that is rewritten after every step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        try:
            state = json_of(path.read_text(encoding="utf-8"))
            if state.get("schema_version") == STATE_VERSION:
                self.entries = {name: _entry(entry) for name, entry in dict(state["steps"]).items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # The log only saves work: without a readable one, everything is made again.
            say(f"{path.name} is not readable, so nothing is reused")

    def save(self) -> None:
        write_json(self.path, {"schema_version": STATE_VERSION, "steps": self.entries})

    def is_done(self, name: str, key: str, outputs: tuple[Path, ...]) -> bool:
        """True if the step was finished with this key and every output still has the same bytes."""
        entry = self.entries.get(name, {})
        if entry.get("key") != key or not entry.get("finished"):
            return False
        recorded = entry.get("outputs", {})
        damaged = [
            path for path in outputs if not path.is_file() or sha256_of(path) != recorded.get(path.name)
        ]
        for path in damaged:
            say(f"{path} is missing or was changed, so it is made again")
            path.unlink(missing_ok=True)
        return not damaged


def _entry(entry: Any) -> dict[str, Any]:
    """One step as ``StepLog.is_done`` reads it; TypeError for anything else."""
    if not isinstance(entry, dict) or not isinstance(entry.get("outputs", {}), dict):
        raise TypeError("a step is not an object with outputs")
    return entry


def run_steps(steps: list[CommandStep], log: StepLog) -> list[float]:
    """Run the steps in order; returns the seconds each took, 0 for a reused one.

    Raises:
        StepFailed: a command failed. Everything before it is kept and reused next time.
        KeyboardInterrupt: passed on after the running command has saved its work.
    """
    seconds: list[float] = []
    for number, step in enumerate(steps, 1):
        name = f"{number:02d} {step.arguments[0]}"
        key = step.key()
        heading(f"{number}/{len(steps)}  {step.title}")
        show(f"$ {step.command}", "dim")
        if log.is_done(name, key, step.outputs):
            show("already made from the same inputs: reused", "green")
            seconds.append(0.0)
            continue
        if step.workspace is not None and log.entries.get(name, {}).get("key") != key:
            _set_aside(step.workspace)
        log.entries[name] = {"key": key, "finished": False}
        log.save()
        started = time.perf_counter()
        code = _run(step.arguments)
        if code != 0:
            raise StepFailed(step, code)
        missing = [str(path) for path in step.outputs if not path.is_file()]
        if missing:
            raise RuntimeError(f"{step.command} succeeded but did not write {', '.join(missing)}")
        seconds.append(time.perf_counter() - started)
        log.entries[name] = {
            "key": key,
            "finished": True,
            "seconds": round(seconds[-1], 1),
            "outputs": {path.name: sha256_of(path) for path in step.outputs},
        }
        log.save()
    return seconds


def _run(arguments: tuple[str, ...]) -> int:
    """One command in a child process, exactly as a user would run it; its end frees its memory."""
    sys.stdout.flush()
    child = subprocess.Popen(child_process.command(*arguments))
    with taking_along(child):
        return child.wait()


def _set_aside(workspace: Path) -> None:
    """Keep unfinished work of other settings under another name; no work is deleted."""
    if workspace.exists():
        previous = workspace.with_name(f"{workspace.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        workspace.rename(previous)
        say(f"{workspace.name} was made with other settings: kept as {previous.name}")
