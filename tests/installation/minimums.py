"""The lowest versions that pyproject.toml allows: an environment of them, and the tests inside it.

    python tests/installation/minimums.py 3.10 3.12
    python tests/installation/minimums.py 3.10 --host

For every Python, uv takes the lowest version with a wheel of each direct dependency, and the newest of all that they
need in turn: what a resolver may give a user, and no pinned environment ever holds. Without ``--host`` it is the device
side alone (extras `opencv`, `build`, `report` and `serve`), so there is no torch, and tests that need one are skipped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
DEVICE = (("opencv", "build", "report", "serve"), ("samkr_edge", "targets", "benchmarks", "contracts"))
HOST = (("all", "serve"), ("",))


def check(python: str, extras: tuple[str, ...], tests: tuple[str, ...]) -> bool:
    """Make the environment in a temporary folder and run the tests in it."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        inside = {**os.environ, "VIRTUAL_ENV": str(venv), "OMP_NUM_THREADS": "1"}

        def uv(*words: str) -> None:
            subprocess.run([find_uv_bin(), *words], cwd=ROOT, env=inside, check=True)

        print(f"\n== Python {python}", flush=True)
        uv("venv", "--quiet", "--python", python, str(venv))
        lowest = ["--resolution", "lowest-direct", "--only-binary", ":all:"]
        for extra in extras:
            lowest += ["--extra", extra]
        uv("pip", "install", "--quiet", "-r", "pyproject.toml", *lowest)
        uv("pip", "install", "--quiet", "--no-deps", "-e", ".")
        uv("pip", "install", "--quiet", "pytest", "pytest-timeout", "pytest-xdist", "hatchling")
        uv("pip", "list", "--exclude-editable")
        command = [str(venv / "bin/python"), "-m", "pytest", "-n", "auto", "--dist", "loadfile"]
        command += [f"tests/{name}" for name in tests]
        return subprocess.run(command, cwd=ROOT, env=inside).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="3.10, or a path")
    parser.add_argument("--host", action="store_true", help="training and quantization too")
    given = parser.parse_args()
    results = {python: check(python, *(HOST if given.host else DEVICE)) for python in given.pythons}
    print()
    for python, passed in results.items():
        print(f"Python {python}: {'passed' if passed else 'FAILED'} at the minimums")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
