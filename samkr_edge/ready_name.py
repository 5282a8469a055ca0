"""``zoo:NAME`` in place of a model's path names a ready network; `samkr-edge zoo` lists them."""

from __future__ import annotations

import os
from pathlib import Path

from samkr_edge.fixes import quoted
from samkr_edge.packages import PACKAGES, not_installed, resolve

PREFIX = "zoo:"


def is_ready_name(path: str | Path) -> bool:
    """Whether this is ``zoo:NAME``, and not a file that has such a name."""
    return str(path).startswith(PREFIX) and not os.path.lexists(path)


def model_file(path: Path) -> Path:
    """The checkpoint of a ready network, which is fetched first if it is not here yet; any other path unchanged.

    Without torch, the shipped network is the ONNX file that the self-test carries: the same weights rounded to 8 bits,
    which compute in FP32.

    Raises:
        SamkrError: SE-U08 there is no such network, SE-U70 torch is missing; and whatever fetching it raises.
    """
    return _file("checkpoint_of", path) if is_ready_name(path) else path


def ready_instead(path: str | Path) -> str | None:
    """What to name in place of a missing model, if this is a ready network's name without the prefix."""
    return f"name it {PREFIX}{path}, as `samkr-edge zoo` lists it" if str(path) in _names() else None


def export_instead(path: str | Path) -> str | None:
    """How to make the missing ONNX file, if this is a ready network's name, with or without the prefix."""
    name = str(path).removeprefix(PREFIX)
    if name not in _names():
        return None
    return f"samkr-edge export {quoted(PREFIX + name)} -o {quoted(name + '.onnx')}"


def _names() -> set[str]:
    return {network.name for network in resolve("training.ready.table:NETWORKS")}


def rescoring_file(path: Path) -> Path:
    """The same for the rescoring network that belongs to a ready network."""
    return _file("rescoring_of", path) if is_ready_name(path) else path


def _file(which: str, path: Path) -> Path:
    try:
        found: Path = resolve(f"training.ready.get:{which}")(str(path).removeprefix(PREFIX))
    except ModuleNotFoundError as error:
        missing = (error.name or "?").split(".")[0]
        if missing in PACKAGES:
            raise
        carried: Path | None = None
        if which == "checkpoint_of":
            carried = resolve("benchmarks.selftest.carried:in_cache")(str(path).removeprefix(PREFIX))
        if carried is not None:
            return carried
        raise not_installed(str(path), missing, 'pip install "samkr-edge[train]"') from error
    return found
