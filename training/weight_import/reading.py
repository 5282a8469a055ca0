"""Read tensors by name from other projects' files, in any training script's wrapping, without running code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samkr_edge.errors import SamkrError
from samkr_edge.files.refused import not_opened
from samkr_edge.fixes import quoted
from training.unpickling import unpickling_reason

# Prefixes of all names: by DataParallel, by HigherHRNet's and SWAHR's zoo, by torch.compile.
_WRAPPERS = ("module.", "1.", "_orig_mod.")
# Any other prefix of a backbone's names, for example Lightning's "model.".
_BEFORE_BACKBONE = re.compile(r"(.*?)(?:backbone\.)?stage2\.0\.")
# Averaged weights: ema_net, model_ema, state_dict_ema.
_EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)", re.IGNORECASE)
# Keys of training checkpoints that hold the weights themselves.
_NESTED = ("state_dict", "model", "model_state_dict")
_NO_PREFIX = "the one without a prefix"


@dataclass(frozen=True)
class Weights:
    """The tensors of a file by name, wrappers removed.

    Attributes:
        tensors: the chosen table.
        table: its keys in the file, ``ema_net`` or ``state.net``; empty if the file has only one table.
        instead_of: other tables of weights in the file.
    """

    tensors: dict[str, Tensor]
    table: str = ""
    instead_of: tuple[str, ...] = ()


def read_weights(path: str | Path) -> Weights:
    """Tensors by name, without the wrappers of training scripts; of several tables the averaged weights (EMA).

    Nothing in the file is executed: only tensors, plain values and NumPy arrays are allowed.

    Raises:
        SamkrError: SE-A76 unreadable, or it wants to run code; SE-A75 no weights, SE-A80 a samkr-edge checkpoint
            already.
    """
    path = Path(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling errors come in many classes
        if (refused := not_opened(error, path, "file")) is not None:
            raise refused from error
        foreign = re.search(r"[Uu]nsupported (?:global|class)[^\n]*?GLOBAL ([\w.]+)", str(error))
        raise SamkrError(
            "SE-A76",
            f"{path} could not be read as weights alone, so nothing was loaded",
            {
                "reason": unpickling_reason(path, error),
                "in it": f"an object of class {foreign[1]}" if foreign else None,
                "size": f"{path.stat().st_size} bytes",
            },
            fix="save the state_dict alone where the file was made (mmpose: tools/misc/publish_model.py)"
            if foreign
            else "use another copy; a file cut off while being copied cannot be repaired",
        ) from error
    return _state_of(payload, path)


def _state_of(payload: Any, path: Path) -> Weights:
    """The weights in a file: themselves, or nested as training scripts do; names without ``module.``."""
    if isinstance(payload, dict) and {"format", "card", "config"} <= set(payload):
        raise SamkrError(
            "SE-A80",
            f"{path} is a checkpoint of samkr-edge already, so nothing was imported",
            fix=f"samkr-edge eval {quoted(path)} --data DIR",
        )
    payload, keys, others = _innermost(payload)
    if not isinstance(payload, dict):
        raise SamkrError(
            "SE-A75",
            f"{path} holds a {type(payload).__name__}, not weights by name",
            fix="save the state_dict alone where the file was made",
        )
    tensors = {str(name): value for name, value in payload.items() if isinstance(value, Tensor)}
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if not tensors:
        raise SamkrError(
            "SE-A75",
            f"{path} holds no tensors where training scripts put weights, so nothing was loaded",
            {"keys": named(payload)},
            fix="save the state_dict alone where the file was made",
        )
    networks = list(dict.fromkeys(found[1] for name in tensors if (found := _BEFORE_BACKBONE.match(name))))
    before = max(networks, key=_likely, default="")
    if len(networks) > 1:  # one flat table for two networks
        others += [network.rstrip(".") or _NO_PREFIX for network in networks if network != before]
        keys.append(before.rstrip(".") or _NO_PREFIX)
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(before)}
    bare = {name.removeprefix(before): tensor for name, tensor in tensors.items()}
    return Weights(bare, ".".join(map(_printable, keys)), tuple(map(_printable, others)))


def _innermost(payload: Any) -> tuple[Any, list[str], list[str]]:
    """The table of weights within what training scripts wrap them in, the keys to it, and keys of tables next to it."""
    keys: list[str] = []
    others: list[str] = []
    while isinstance(payload, dict):
        weights = {key: _weights_in(part, str(key)) for key, part in payload.items()}
        most = max((count for key, count in weights.items() if isinstance(payload[key], dict)), default=0)
        if most <= sum(count for key, count in weights.items() if isinstance(payload[key], Tensor)):
            break
        tables = [
            key for key, count in weights.items() if isinstance(payload[key], dict) and 2 * count >= most
        ]
        taken = max(tables, key=_likely)
        keys.append(str(taken))
        others += [str(key) for key in tables if key != taken]
        payload = payload[taken]
    return payload, keys, others


def _weights_in(part: Any, name: str) -> int:
    """How many tensors have names like a module's, with a dot, unlike an optimizer's."""
    if isinstance(part, dict):
        return sum(_weights_in(inner, str(key)) for key, inner in part.items())
    return int(isinstance(part, Tensor) and "." in name)


def _likely(name: Any) -> tuple[bool, bool, bool]:
    """Sort key of table names: averaged weights first, then the usual keys, then a network's."""
    return _EMA.search(str(name)) is not None, name in _NESTED, "net" in str(name)


def _printable(name: Any) -> str:
    """Names of a foreign file, without control characters for terminals."""
    return "".join(c if c.isprintable() else "?" for c in str(name))[:60]


def named(table: Mapping[Any, Any]) -> str:
    """The first names of a table."""
    names = [_printable(name) for name in list(table)[:6]]
    return ", ".join(names) + (", ..." if len(table) > 6 else "") if names else "none"


def _numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """NumPy's plain data, which mmpose keeps next to the weights; under the module names of NumPy 1 and 2."""
    core = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    names = [(core, "_reconstruct"), (scalar, "scalar")]
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")]
    return [
        np.ndarray,
        np.dtype,
        *dtypes,
        *(
            (found, f"numpy.{module}.multiarray.{name}")
            for found, name in names
            for module in ("core", "_core")
        ),
    ]
