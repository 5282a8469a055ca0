"""Run `samkr-edge` with the code of this checkout, whatever is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """`samkr-edge ARGUMENTS` in a process of its own; all it prints goes to stderr."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "samkr_edge", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=sys.stderr,
    )
