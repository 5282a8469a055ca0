"""The work of an engine's layers, from the list that its inspector or builder gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from samkr_edge.builder.inspect.engine_layers import Layer
from samkr_edge.builder.inspect.engine_measures import bytes_of
from samkr_edge.roofline.bound import LayerWork

# What a type computes at if its own peak is not listed.
_INSTEAD = {"bf16": "fp16", "tf32": "fp16"}


def engine_work(layers: Sequence[Layer], known: Mapping[str, float]) -> tuple[LayerWork, ...]:
    """The convolutions of an engine, with the maps that they read and write, and their weights where they are listed.

    Other kernels count as if they could be fused with these: what they take is beyond the bound. A convolution whose
    work the list does not show, or whose type has no peak, counts by its bytes.

    Args:
        known: the peaks by precision.
    """
    found = []
    for layer in layers:
        if layer.role == "conv":
            precision = layer.precision if layer.precision in known else _INSTEAD.get(layer.precision, "?")
            found.append(
                LayerWork(
                    layer.module,
                    precision,
                    (layer.macs or 0) if precision in known else 0,
                    sum(map(bytes_of, layer.inputs)),
                    sum(map(bytes_of, layer.outputs)),
                    max((bytes_of(one) for one in layer.constants if prod(one.shape) > 1), default=0),
                )
            )
    return tuple(found)
