"""What an engine costs by its list of layers alone, without a GPU to time it on.

The bytes moved and the kernels launched decide between INT8 and FP16 in networks like these: a convolution that reads
one byte and writes four, which another kernel turns into one again, moves more than FP16 does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.engine_layers import Layer, LayerTensor

# Bytes of an element; unknown types count as FP32.
_BYTES = {
    "int64": 8, "fp32": 4, "int32": 4, "fp16": 2, "bf16": 2, "int8": 1, "uint8": 1, "fp8": 1, "bool": 1, "int4": 0.5,
}  # fmt: skip


# Bytes that a GPU could move in the gap between two kernels: 1 us at 1 TB/s, 2 us at 500 GB/s. An assumption.
LAUNCH = 1_000_000


@dataclass(frozen=True)
class EngineMeasures:
    """Sums over an engine's layers.

    Attributes:
        macs: multiply-accumulates of convolutions by the type they compute in; of one image if the batch is open.
        kernels: layers that launch a kernel, so not streams waiting for each other.
        elementwise: kernels that the compiler generated, TensorRT's pointwise ones, and reformats; not those compiled
            on the GPU (a single resize), and not poolings.
        requantizing: elementwise kernels that write INT8 or FP8, or round to INT8 steps in float.
        bytes_moved: bytes of all inputs and outputs of kernels, in their real types; constants are not counted.
        convolutions: (type computed in, type written) -> count.
        conversions: kernels that change layout, precision or quantization only.
        unknown_macs: convolutions whose work the listing does not show.
    """

    macs: dict[str, int]
    kernels: int
    elementwise: int
    requantizing: int
    bytes_moved: int
    convolutions: dict[tuple[str, str], int]
    conversions: int
    unknown_macs: int

    @property
    def cost(self) -> int:
        """Predicts time if nothing can be timed: bytes moved, plus ``LAUNCH`` for every kernel."""
        return self.bytes_moved + LAUNCH * self.kernels

    @property
    def int8_share(self) -> float:
        """Share of the known multiply-accumulates that are INT8, 0 to 1."""
        total = sum(self.macs.values())
        return self.macs.get("int8", 0) / total if total else 0.0

    def computed_in(self, kind: str) -> int:
        """Convolutions that compute in ``int8``, ``fp8``, ..."""
        return sum(count for (computed, _), count in self.convolutions.items() if computed == kind)

    @property
    def int8_writing_float(self) -> int:
        """INT8 convolutions that write FP32."""
        return self.convolutions.get(("int8", "fp32"), 0)

    def summary(self) -> str:
        """One line for people."""
        total = sum(self.macs.values()) or 1
        shares = sorted(self.macs.items(), key=lambda item: -item[1])
        parts = [
            ", ".join(f"{100 * macs / total:.1f} % {kind.upper()}" for kind, macs in shares) + " of MACs"
        ]
        parts += [
            f"{self.convolutions.get((kind, 'fp32'), 0)} of {number} {kind.upper()} convolutions write FP32"
            for kind in ("int8", "fp8")
            if (number := self.computed_in(kind))
        ]
        moved = f"{self.bytes_moved / 1e6:.{0 if self.bytes_moved >= 1e8 else 1}f} MB of activations moved"
        parts.append(f"{self.kernels} kernels, {self.elementwise} of them elementwise, {moved}")
        return "; ".join(parts if self.macs else parts[1:])

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``convolutions`` is a list of objects."""
        return {
            "macs_by_type": self.macs,
            "int8_share": self.int8_share,
            "kernels": self.kernels,
            "elementwise_kernels": self.elementwise,
            "requantizing_kernels": self.requantizing,
            "bytes_moved": self.bytes_moved,
            "convolutions": [
                {"computes": computes, "writes": writes, "count": count}
                for (computes, writes), count in self.convolutions.items()
            ],
            "int8_writing_float": self.int8_writing_float,
            "conversions": self.conversions,
            "unknown_macs": self.unknown_macs,
        }


def measure(layers: Sequence[Layer]) -> EngineMeasures:
    """Sum up the layers of the engine inspector's JSON or of the builder's listing."""
    kernels = [layer for layer in layers if layer.role != "none"]
    convolutions = [layer for layer in kernels if layer.role == "conv"]
    macs: Counter[str] = Counter()
    for layer in convolutions:
        macs[layer.precision] += layer.macs or 0
    return EngineMeasures(
        macs=dict(macs.most_common()),
        kernels=len(kernels),
        elementwise=sum(is_elementwise(layer) for layer in kernels),
        requantizing=sum(requantizes(layer) for layer in kernels),
        bytes_moved=sum(moved(layer) for layer in kernels),
        convolutions=dict(Counter((layer.precision, layer.writes) for layer in convolutions).most_common()),
        conversions=sum(layer.role == "conversion" for layer in kernels),
        unknown_macs=sum(layer.macs is None for layer in convolutions),
    )


def is_elementwise(layer: Layer) -> bool:
    """Whether a kernel is elementwise: generated, pointwise, or a change of format."""
    return (
        layer.role in ("elementwise", "sum", "conversion")
        or layer.kind == myelin.GENERATED
        or layer.kind.startswith(("PointWise", "ElementWise"))
        or layer.kind in ("Scale", "Activation")
    )


def requantizes(layer: Layer) -> bool:
    """Whether a generated kernel, among other things, writes INT8 or FP8, or rounds to INT8 steps in float."""
    return layer.kind == myelin.GENERATED and (
        myelin.quantizes(layer.name) or any(tensor.dtype in ("int8", "fp8") for tensor in layer.outputs)
    )


def moved(layer: Layer) -> int:
    """Bytes of activations that a kernel reads and writes; for one image if the batch is open."""
    return sum(bytes_of(tensor) for tensor in (*layer.inputs, *layer.outputs))


def bytes_of(tensor: LayerTensor) -> int:
    """Bytes of a tensor of any shape in its real type; of one image if the batch is open."""
    return int(prod(abs(size) for size in tensor.shape) * _BYTES.get(tensor.dtype, 4))
