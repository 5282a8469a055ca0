"""Why a file that should hold weights cannot be read."""

from __future__ import annotations

import pickle
from pathlib import Path

from samkr_edge.errors import reason_of


def unpickling_reason(path: str | Path, error: BaseException) -> str:
    """Why ``torch.load`` failed, on one line: of other kinds of files its own words say nothing."""
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        return "the file is empty"
    # A zip, or by torch before 1.6 a pickle; what the unpickler stumbles over raises errors of any class.
    written = start == b"PK" or start[:1] == b"\x80"
    if not written or not isinstance(error, pickle.UnpicklingError | RuntimeError | EOFError):
        return "not a file that torch.save wrote"
    return reason_of(error)
