"""A window where there is one."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np

from samkr_edge.errors import SamkrError


class Window:
    """A context manager; does nothing unless enabled.

    Raises:
        SamkrError: SE-V06 no screen here, or an OpenCV without windows.
    """

    def __init__(self, title: str, *, enabled: bool) -> None:
        self.title = title
        self.enabled = enabled
        self.closed = False

    def __enter__(self) -> Window:
        if not self.enabled:
            return self
        # Asked first: without a screen some of OpenCV's window systems end the whole program.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise self._none("no screen: DISPLAY is not set")
        try:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise self._none("this OpenCV was built without windows (headless)") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            cv2.destroyAllWindows()

    def show(self, image: np.ndarray, wait_ms: int = 1) -> None:
        """Show uint8 (H, W, 3) BGR; q or Escape sets ``closed``."""
        if self.enabled and not self.closed:
            cv2.imshow(self.title, image)
            self.closed = cv2.waitKey(wait_ms) & 0xFF in (ord("q"), 27)

    def _none(self, reason: str) -> SamkrError:
        return SamkrError(
            "SE-V06",
            "--show needs a window and there is none, so nothing was done",
            [f"reason     {reason}"],
            fix="leave --show out and give -o DIR; or: pip install opencv-python",
        )
