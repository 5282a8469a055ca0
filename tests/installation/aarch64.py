"""Whether every package of the device side has a wheel for a Jetson's Python: resolved, not installed.

    python tests/installation/aarch64.py

CPython 3.10 (JetPack 6) and 3.12 (JetPack 7) on aarch64 Linux, at the versions of constraints.txt, extras `opencv`,
`build`, `report` and `serve`. A wheel for manylinux_2_28 will do: JetPack 6 has glibc 2.35, JetPack 7 has 2.39.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = {"JetPack 6": "3.10", "JetPack 7": "3.12"}


def main() -> int:
    failed = False
    for jetpack, python in PYTHONS.items():
        command = [
            find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate",
            "--python-platform", "aarch64-manylinux_2_28", "--python-version", python, "--only-binary", ":all:",
            "-c", "constraints.txt", "--extra", "opencv", "--extra", "build",
            "--extra", "report", "--extra", "serve", "pyproject.toml",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        packages = done.stdout.split()
        failed |= done.returncode != 0 or not packages
        what = f"{len(packages)} packages, a wheel for each" if packages else f"FAILED\n{done.stderr}"
        print(f"{jetpack}, CPython {python}, aarch64: {what}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
