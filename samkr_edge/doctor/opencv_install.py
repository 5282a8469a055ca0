"""Which OpenCV is installed: pip's under one of four names, or JetPack's or Debian's, which pip does not list.

Any that imports will do. pip's wheels have no GStreamer, which a Jetson's CSI camera and pipelines need, so they are
not required where a device has its own: pip's would hide it.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from samkr_edge.doctor.diagnosis import Diagnosis
from samkr_edge.doctor.system_packages import hidden_package
from samkr_edge.doctor.tensorrt_install import ROOT, distribution_version
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import described_by_files

# All four write into one folder; the first is that of the extra `opencv`.
DISTRIBUTIONS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
EXTRA = 'pip install "samkr-edge[opencv]"'


def opencv_version() -> str | None:
    """The version: of the module if it is imported, else pip's; None if neither is known."""
    if (module := sys.modules.get("cv2")) is not None:
        return str(getattr(module, "__version__", "?"))
    return next((version for name in DISTRIBUTIONS if (version := distribution_version(name))), None)


def pips_opencv() -> tuple[str, ...]:
    """Which of the four pip has installed."""
    return tuple(name for name in DISTRIBUTIONS if distribution_version(name) is not None)


def systems_opencv(root: Path = ROOT) -> Path | None:
    """The folder into which JetPack or Debian puts ``cv2``, for example of Python 3.10."""
    found = sorted(root.glob("usr/lib/python3*/dist-packages/cv2*"))
    return found[-1].parent if found else None


def how_to_get(root: Path = ROOT) -> str:
    """The command that installs an OpenCV where none imports."""
    if not described_by_files(root).is_jetson:
        return EXTRA
    if (systems := systems_opencv(root)) is not None:
        return hidden_package(systems, sys.prefix, sys.version_info[:2])[1]
    return "sudo apt install nvidia-opencv   # then a venv of the system's Python, --system-site-packages"


def pip_line(extra: str, lacks_opencv: bool, root: Path = ROOT) -> str:
    """The command that installs an extra, with OpenCV if there is none and pip's is the right one."""
    opencv = "opencv" if lacks_opencv and how_to_get(root) == EXTRA else ""
    extras = ",".join(name for name in (opencv, extra) if name)
    return f'pip install "samkr-edge[{extras}]"' if extras else 'pip install "samkr-edge"'


def how_to_mend(error: str, root: Path = ROOT) -> str:
    """The command for an installed OpenCV that does not import."""
    if mine := pips_opencv():
        return _one_in_place_of(mine, root)
    return 'pip install "numpy<2"   # as it was built for' if "numpy" in error.lower() else how_to_get(root)


def _one_in_place_of(mine: tuple[str, ...], root: Path) -> str:
    """The command that removes pip's OpenCV, for JetPack's if there is one, else for the extra's."""
    away = f"pip uninstall -y {' '.join(mine)}"
    if described_by_files(root).is_jetson and systems_opencv(root) is not None:
        return f"{away}   # JetPack's own is then found"
    return f"{away} && {EXTRA}"


def how_to_get_more(*, gstreamer: bool, root: Path = ROOT) -> str:
    """The command that replaces an OpenCV by one with windows, or also with GStreamer."""
    mine = pips_opencv()
    away = f"pip uninstall -y {' '.join(mine)}"
    if not described_by_files(root).is_jetson:
        first = f"{away} && " if mine else ""
        if mine and not gstreamer:
            return f"{first}pip install opencv-python"
        return (
            f"{first}sudo apt install python3-opencv   # and an environment made with --system-site-packages"
        )
    if mine and systems_opencv(root) is not None:
        return _one_in_place_of(mine, root)
    return how_to_get(root)


def missing_opencv() -> SamkrError:
    """The error if `cv2` cannot be found."""
    return SamkrError(
        "SE-U71",
        "OpenCV (cv2) is not installed here, and reading and drawing images needs it",
        {"looked in": sys.prefix},
        fix=how_to_get(),
    )


def opencv_finding(cv2: Any = None, root: Path = ROOT) -> Diagnosis:
    """Import OpenCV and say what it was built with."""
    cv2 = cv2 or import_module("cv2")
    information = str(cv2.getBuildInformation())
    able: list[str] = []
    unable: list[str] = []
    for works, what in (
        (re.search(r"GStreamer:\s+YES", information) is not None, "GStreamer (csi, pipelines)"),
        (_has_windows(information), "windows (--show)"),
    ):
        (able if works else unable).append(what)
    folder = Path(cv2.__file__).parent
    mine = pips_opencv()
    detail = f"{cv2.__version__} in {folder}, {'pip: ' + ', '.join(mine) if mine else 'not by pip'}"
    detail += "".join(
        f"; {word} {', '.join(names)}" for word, names in (("has", able), ("no", unable)) if names
    )
    what = "OpenCV"
    if len(mine) > 1:
        return Diagnosis(
            False,
            what,
            f"{detail}; {' and '.join(mine)} write into one folder",
            _one_in_place_of(mine, root),
        )
    systems = systems_opencv(root)
    if mine and unable and systems is not None and described_by_files(root).is_jetson:
        return Diagnosis(
            False,
            what,
            f"{detail}; it hides JetPack's own in {systems}",
            how_to_get_more(gstreamer=True, root=root),
        )
    return Diagnosis(True, what, detail)


def _has_windows(information: str) -> bool:
    """From ``GUI: NONE``, ``GUI: GTK3``, or older: ``GUI:`` and lines such as ``GTK+: YES (ver 3.24)`` below it."""
    section = re.search(r"GUI:[ \t]*(\S*)((?:\n[ \t]+\S.*)*)", information)
    if section is None or section[1] == "NONE":
        return False
    return (
        bool(section[1]) or re.search(r"(GTK\+?|QT\d?|Win32 UI|Cocoa|Wayland):\s+YES", section[2]) is not None
    )
