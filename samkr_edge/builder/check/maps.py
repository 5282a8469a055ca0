"""The maps of an ONNX model in ONNX Runtime, also if its graph decodes them itself.

A built model is compared with its source by maps: candidates hide what went wrong, and the smallest rounding changes
their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from samkr_edge.onnx_graph.onnx_file import FLOAT, OnnxFile, Value
from samkr_edge.runtime.onnx_runtime import OnnxRunner

MAPS = ("heatmap", "offset")


class Maps(NamedTuple):
    """Maps of some images: float32 heatmap (N, K+1, h, w), the last channel the person centre, and offset (N, 2K, h, w)
    in map pixels."""

    heatmap: np.ndarray
    offset: np.ndarray


@contextmanager
def opened(model: OnnxFile, outputs: Sequence[str] = MAPS, optimise: bool = True) -> Iterator[OnnxRunner]:
    """A runner that returns these float tensors of ``model``, inner ones too; closed at the end."""
    model = model.copy()
    for name in outputs:
        # `export` keeps the names of the maps inside the graph.
        if name not in {output.name for output in model.outputs}:
            model.add_output(Value(name, FLOAT, (None,) * 4))
    runner = OnnxRunner("the graph", data=model.encode(), model=model, optimise=optimise, outputs=outputs)
    try:
        yield runner
    finally:
        runner.close()


def run_maps(model: OnnxFile, images: np.ndarray, optimise: bool = True) -> Maps:
    """Maps of uint8 (N, H, W, 3)."""
    with opened(model, optimise=optimise) as runner:
        heatmap, offset = runner.run(images)
    return Maps(heatmap, offset)
