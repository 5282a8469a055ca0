"""Run `samkr-edge` from this checkout, whichever version is installed."""

from __future__ import annotations

import subprocess
import sys

from samkr_edge import child_process


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """`samkr-edge ARGUMENTS` in a child process; all its output goes to stderr."""
    return subprocess.Popen(child_process.command(*arguments), stdout=sys.stderr)
