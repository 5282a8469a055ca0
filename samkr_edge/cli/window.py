"""A window, if there is a screen."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

from samkr_edge import child_process
from samkr_edge.doctor.opencv_install import how_to_get_more
from samkr_edge.errors import SamkrError

# OpenCV waits for a key without handling signals: Ctrl-C takes effect after at most this long.
_TICK_MS = 50
_TRIAL_S = 15
_TRIAL = "import cv2; cv2.namedWindow('samkr-edge'); cv2.waitKey(1); cv2.destroyAllWindows()"
# Properties that an open window reports at least; window systems differ in which ones they support.
_SIGNS = {cv2.WND_PROP_VISIBLE: 1.0, cv2.WND_PROP_AUTOSIZE: 0.0}


class Window:
    """A context manager; does nothing unless enabled. Several sources have a window each.

    Attributes:
        closed: by q, Escape or its close button; after that nothing is shown.

    Raises:
        SamkrError: SE-V06 no screen here, or an OpenCV without windows.
    """

    def __init__(self, title: str, *, enabled: bool) -> None:
        self.title = title
        self.enabled = enabled
        self.closed = False
        self._signs: dict[str, set[int]] = {}

    def __enter__(self) -> Window:
        if self.enabled:
            _require_windows()
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            cv2.destroyAllWindows()

    def show(self, image: np.ndarray, *, hold: bool = False, source: str = "") -> None:
        """Show uint8 (H, W, 3) BGR in the window of a source; ``hold`` waits for a key."""
        if not self.enabled or self.closed:
            return
        title = f"{self.title}: {source}" if source else self.title
        if title not in self._signs:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        cv2.imshow(title, image)
        while True:
            key = cv2.waitKey(_TICK_MS if hold else 1)
            self.closed = key & 0xFF in (ord("q"), 27) or self._gone(title)
            if self.closed or not hold or key != -1:
                return

    def _gone(self, title: str) -> bool:
        """Whether a property that the window had when first shown is missing; showing an image would reopen it."""
        signs = {name for name, least in _SIGNS.items() if self._property(title, name) >= least}
        return not self._signs.setdefault(title, signs) <= signs

    @staticmethod
    def _property(title: str, name: int) -> float:
        try:
            return float(cv2.getWindowProperty(title, name))
        except cv2.error:  # Qt, for a closed window
            return -1.0


def _require_windows() -> None:
    """Open one in a child process: without a screen, some window systems end the whole program."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise _none("no screen: neither DISPLAY nor WAYLAND_DISPLAY is set")
    try:
        done = subprocess.run(
            child_process.code(_TRIAL),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRIAL_S,
        )
    except subprocess.TimeoutExpired:
        raise _none(f"the screen {_screen()} did not answer within {_TRIAL_S} s") from None
    if done.returncode == 0:
        return
    if "not implemented" in done.stderr:
        raise _none("this OpenCV was built without windows (headless)", how_to_get_more(gstreamer=False))
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raise _none(f"no window opens on {_screen()}: {(said or [f'exit code {done.returncode}'])[0][:120]}")


def _screen() -> str:
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))


def _none(reason: str, fix: str = "leave --show out and give -o DIR") -> SamkrError:
    return SamkrError(
        "SE-V06",
        "--show needs a window and there is none, so nothing was done",
        {"reason": reason},
        fix=fix,
    )
