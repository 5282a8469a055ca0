"""Run `samkr-edge` with the code of this checkout, whatever is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Started by its place: it runs the code beside it.
_LAUNCH = Path(__file__).resolve().parents[2] / "samkr_edge" / "child_process.py"


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """`samkr-edge ARGUMENTS` in a process of its own; all it prints goes to stderr."""
    return subprocess.Popen([sys.executable, str(_LAUNCH), "samkr_edge", *arguments], stdout=sys.stderr)
