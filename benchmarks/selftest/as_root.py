"""Commands that only root may run, for users who can become root without a password."""

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
    """Run a command with ``answer`` as its input; False if it is missing, fails or hangs."""
    return _run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], answer) is not None


def output_of(*command: str) -> str:
    """Output of a command run as this user; empty if it is missing, fails or hangs."""
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
