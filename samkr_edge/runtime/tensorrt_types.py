"""NumPy's types of an engine's inputs and outputs.

Its own table, since ``tensorrt.nptype`` raises AttributeError in 8.5.1 and 8.5.2 with NumPy 1.24 and later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError

NUMPY_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT8": np.int8}


def numpy_type(kind: Any, tensor: str) -> np.dtype:
    """The type of a ``tensorrt.DataType``; ``tensor`` is whose.

    Raises:
        SamkrError: SE-V85 our networks have no such type.
    """
    if kind.name not in NUMPY_TYPES:
        raise SamkrError(
            "SE-V85",
            "this engine has an input or output of a type that no samkr-edge network has, so it was not run",
            {"tensor": tensor, "type": kind.name, "known": ", ".join(NUMPY_TYPES)},
            fix="samkr-edge build MODEL.onnx --target auto   # of an ONNX that samkr-edge exported",
        )
    return np.dtype(NUMPY_TYPES[kind.name])
