"""The work of the zoo's networks, kept in a file: a device has neither torch nor onnx to count it.

``python -m benchmarks.host.network_work`` makes the file from the exported graphs, those of INT8 by the default policy.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

from samkr_edge.roofline.bound import LayerWork, scaled
from samkr_edge.roofline.graph_work import GraphWork

FILE = Path(__file__).with_name("networks.json.gz")
# Of each network: all floats of 4 or 2 bytes, and INT8 between floats of 2 bytes.
FORMS = ("fp32", "fp16", "int8")


@cache
def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return kept


def network_names() -> list[str]:
    """The networks whose work is kept."""
    return list(_kept())


def input_size(name: str) -> tuple[int, int]:
    """(height, width) that a network is for."""
    height, width = _kept()[name]["input_size"]
    return height, width


def samples(name: str) -> bool:
    """Whether a network samples its maps, which takes GridSample."""
    return bool(_kept()[name]["samples"])


def network_work(name: str, size: tuple[int, int], batch: int = 1) -> dict[str, GraphWork]:
    """The work of a network of ``network_names``, by form; layers that are alike stand together, without names.

    Args:
        size: (height, width) of the input, multiples of 32.
        batch: images of an inference.
    """
    kept = _kept()[name]
    pixels = batch * size[0] * size[1] / (kept["size"][0] * kept["size"][1])
    return {form: _scaled(kept[form], pixels) for form in FORMS}


def to_kept(work: GraphWork) -> dict[str, Any]:
    """What the file holds of one form: layers that are alike as one, with their number first."""
    alike = Counter(astuple(layer)[1:] for layer in work.layers)
    return {"live": work.live, "layers": [[number, *layer] for layer, number in alike.items()]}


def _scaled(kept: dict[str, Any], pixels: float) -> GraphWork:
    layers = [LayerWork("", *layer) for number, *layer in kept["layers"] for _ in range(number)]
    return GraphWork(scaled(layers, pixels), round(kept["live"] * pixels))
