"""What ``--json`` prints on stdout: one object, a result or an error. Standard library only."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.terminal import put

OUTPUT_SCHEMA_VERSION = 1


def print_json(payload: dict[str, Any]) -> None:
    """Print one JSON object in ASCII: valid in every encoding, and free of control characters for terminals.

    NaN and infinity, which JSON lacks, become null.
    """
    put(json.dumps(_finite(payload)).replace("\x7f", "\\u007f") + "\n")


def print_json_error(error: dict[str, Any]) -> None:
    """Print an error in place of a result."""
    with contextlib.suppress(SamkrError):  # a full stdout is not the first error
        print_json({"schema_version": OUTPUT_SCHEMA_VERSION, "error": error})


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value
