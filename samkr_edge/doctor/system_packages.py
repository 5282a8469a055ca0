"""Packages of the system's Python, such as JetPack's, which an environment sees only if it was made that way."""

from __future__ import annotations

from pathlib import Path


def hidden_package(systems: Path, prefix: str, python: tuple[int, int]) -> tuple[str, str]:
    """Why a package in the folder of the system's Python is not visible here, and the command that makes it visible.

    Args:
        systems: that folder, ``/usr/lib/python3.10/dist-packages``.
        prefix: the environment here, ``sys.prefix``; python: its version.
    """
    theirs = systems.parent.name.removeprefix("python")
    if theirs not in ("3", f"{python[0]}.{python[1]}"):
        why = f"it is for Python {theirs}, and this is Python {python[0]}.{python[1]}"
        return why, (
            f"/usr/bin/python{theirs} -m venv --system-site-packages ENV   # and install samkr-edge into that"
        )
    if (Path(prefix) / "pyvenv.cfg").is_file():
        why = "this environment was made without --system-site-packages"
        return why, f"python3 -m venv --system-site-packages {prefix}   # adds that to this environment"
    why = f"the Python in {prefix} is not the system's"
    return why, "/usr/bin/python3 -m venv --system-site-packages ENV   # and install samkr-edge into that"
