"""The maps of an ONNX model in ONNX Runtime, also if its graph decodes them itself.

A built model is compared with its source by maps: candidates hide what went wrong, and the smallest rounding changes
their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_file import FLOAT, OnnxFile, Value
from samkr_edge.runtime.onnx_runtime import OnnxRunner


class Maps(NamedTuple):
    """Maps of some images, float32: ``ModelCard.maps`` has their names.

    Attributes:
        heatmap: (N, K+1, h, w), the last channel the person centre; with grouping (N, K, h, w).
        association: what says whose joint is where: offset (N, 2K, h, w) in map pixels; with grouping tag
            (N, K, h/2, w/2).
    """

    heatmap: np.ndarray
    association: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return all(bool(np.isfinite(part).all()) for part in self)


@contextmanager
def opened(model: OnnxFile, outputs: Sequence[str], optimise: bool = True) -> Iterator[OnnxRunner]:
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
    with opened(model, card_of(model, "the graph").maps, optimise) as runner:
        return Maps(*runner.run(images))
