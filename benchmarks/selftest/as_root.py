"""Commands that only root may run, where this user may become root without being asked for a password."""

from __future__ import annotations

import os
import shutil
import subprocess

_LIMIT_S = 60


def can_be_root() -> bool:
    """Whether ``run_as_root`` can work here; without asking for a password or changing anything."""
    if os.geteuid() == 0:
        return True
    return shutil.which("sudo") is not None and _run(["sudo", "-n", "true"], "") is not None


def run_as_root(*command: str, answer: str = "") -> bool:
    """Run it with ``answer`` as what is typed; False where it is missing, fails or hangs."""
    return _run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], answer) is not None


def output_of(*command: str) -> str:
    """What a command prints, as this user; empty where it is missing, fails or hangs."""
    return _run(list(command), "") or ""


def _run(command: list[str], answer: str) -> str | None:
    try:
        done = subprocess.run(
            command,
            input=answer,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
