"""The device side at the lowest versions that pyproject.toml allows: an environment of them, and its tests inside it.

    python tests/installation/minimums.py 3.10 3.12

For every Python, uv takes the lowest version with a wheel of each direct dependency of the extras `build` and `report`,
and the newest of all that they need in turn: what a resolver may give a user, and no pinned environment ever holds.
There is no torch in it, as on a device; tests that need one are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/samkr_edge", "tests/targets", "tests/benchmarks", "tests/contracts")


def check(python: str) -> bool:
    """Make the environment in a temporary folder and run the tests in it."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        inside = {**os.environ, "VIRTUAL_ENV": str(venv), "OMP_NUM_THREADS": "1"}

        def uv(*words: str) -> None:
            subprocess.run([find_uv_bin(), *words], cwd=ROOT, env=inside, check=True)

        print(f"\n== Python {python}", flush=True)
        uv("venv", "--quiet", "--python", python, str(venv))
        lowest = ("--resolution", "lowest-direct", "--only-binary", ":all:")
        extras = ("--extra", "build", "--extra", "report")
        uv("pip", "install", "--quiet", *lowest, "-r", "pyproject.toml", *extras)
        uv("pip", "install", "--quiet", "--no-deps", "-e", ".")
        uv("pip", "install", "--quiet", "pytest", "pytest-xdist", "hatchling")
        uv("pip", "list", "--exclude-editable")
        command = [str(venv / "bin/python"), "-m", "pytest", "-n", "auto", "--dist", "loadfile", *TESTS]
        return subprocess.run(command, cwd=ROOT, env=inside).returncode == 0


def main(pythons: list[str]) -> int:
    results = {python: check(python) for python in pythons}
    print()
    for python, passed in results.items():
        print(f"Python {python}: {'passed' if passed else 'FAILED'} at the minimums")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [f"{sys.version_info[0]}.{sys.version_info[1]}"]))
