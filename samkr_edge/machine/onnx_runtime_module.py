"""The package ``onnxruntime``, imported nowhere else."""

from __future__ import annotations

import os
from typing import Any


def import_onnxruntime() -> Any:
    """The module, imported without telemetry."""
    switch_off_telemetry()
    import onnxruntime

    return onnxruntime


def switch_off_telemetry() -> None:
    """For this process and its children, unless the user has decided otherwise.

    On import, ONNX Runtime (run: 1.32) starts a thread for Microsoft's telemetry and writes a device id and a database
    into the user's cache folder; it reads this variable once, at that time.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
