"""Captures that do what cameras do: wait for the next picture, drop out, come back, hang."""

import threading
import time
from typing import Any

import numpy as np


class Camera:
    """A picture every ``period`` seconds; after ``lives`` pictures none at all."""

    def __init__(self, image: np.ndarray, period: float = 0.005, lives: int = 10**9) -> None:
        self.image, self.period, self.lives = image, period, lives
        self.reads = 0
        self.released = False

    def read(self, image: Any = None) -> tuple[bool, Any]:
        assert not self.released
        time.sleep(self.period)
        self.reads += 1
        return (True, self.image.copy()) if self.reads <= self.lives else (False, None)

    def get(self, property: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


class Hanging(Camera):
    """One whose driver holds the caller after ``lives`` pictures, until ``free`` is set."""

    def __init__(self, image: np.ndarray, lives: int) -> None:
        super().__init__(image, lives=lives)
        self.free = threading.Event()

    def read(self, image: Any = None) -> tuple[bool, Any]:
        if self.reads >= self.lives:
            self.free.wait(30)
        return super().read(image)
