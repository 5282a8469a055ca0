"""Which TensorRT is installed, by its distributions' names; nothing is imported.

pip's is three distributions for one CUDA: ``tensorrt-cu12``, ``tensorrt-cu12-bindings`` and ``tensorrt-cu12-libs``
(their names in other spellings are the same to Python's metadata), all of one module whatever the CUDA. ``tensorrt``
is a package that only asks for the newest of them, in 8.5 and 8.6 for ``tensorrt-bindings`` and ``tensorrt-libs``, or
that of NVIDIA's archive. JetPack's is Debian's ``python3-libnvinfer``: a folder of the system's Python, with metadata
under the name ``tensorrt`` where its makers added it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_MAJORS = (11, 12, 13)
_PARTS = ("", "-bindings", "-libs")


@dataclass(frozen=True)
class TensorRTInstall:
    """What is installed of one flavour.

    Attributes:
        distributions: their names, empty without metadata.
        version: of the module, ``10.3.0``; None if nothing is found.
        cuda: the major CUDA versions that they were made for; empty if unknown, as for JetPack's.
    """

    distributions: tuple[str, ...]
    version: str | None
    cuda: tuple[int, ...]


def tensorrt_install(name: str) -> TensorRTInstall:
    """The installed ``tensorrt`` or ``tensorrt-rtx``."""
    by_cuda = [f"{name}-cu{major}{part}" for major in _MAJORS for part in _PARTS]
    names = [name, *(f"{name}{part}" for part in _PARTS[1:]), *by_cuda, f"nvidia-{name}"]
    there = {one: version for one in names if (version := distribution_version(one)) is not None}
    majors = {int(found[1]) for one in there if (found := re.search(r"-cu(\d+)", one))}
    if not majors:
        asked = " ".join(line for one in there for line in importlib.metadata.requires(one) or ())
        majors = {int(text) for text in re.findall(r"[-_]cu(\d+)", asked)}
    return TensorRTInstall(
        tuple(there), next(iter(there.values()), None) or _version_in(MODULES[name]), tuple(sorted(majors))
    )


def systems_tensorrt(root: Path = ROOT) -> Path | None:
    """The folder that Debian's package puts ``tensorrt`` into, JetPack's: of Python 3.10 for example."""
    found = sorted(root.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py"))
    return found[-1].parent.parent if found else None


def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, None if it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_in(module: str) -> str | None:
    """``__version__ = "10.3.0"`` in the package's own file, for packages without metadata."""
    try:
        spec = importlib.util.find_spec(module)
        text = Path(spec.origin or "").read_text(encoding="utf-8", errors="replace") if spec else ""
    except (ImportError, ValueError, OSError):
        return None
    found = re.search(r"""^__version__\s*=\s*["']([^"']+)""", text, flags=re.MULTILINE)
    return found[1] if found else None
