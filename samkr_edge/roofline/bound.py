"""The roofline: the least time of a network on a device, by the device's peaks alone. Pure.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009: a layer takes at least
its multiply-accumulates over the peak of its precision, and at least the bytes that it moves over the bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from targets.peaks import Peaks


@dataclass(frozen=True)
class LayerWork:
    """What one layer has to do: a convolution or matrix product with all that is fused into it.

    Attributes:
        module: of the network.
        precision: that it computes in: ``fp32``, ``fp16``, ``int8``, ``fp8``.
        macs: multiply-accumulates of the whole batch.
        read, written: bytes of activations of the whole batch.
        weights: bytes.
    """

    module: str
    precision: str
    macs: int
    read: int
    written: int
    weights: int

    @property
    def moved(self) -> int:
        """Bytes that go in and out."""
        return self.read + self.written + self.weights


@dataclass(frozen=True)
class LayerBound:
    """The least time of one layer: ``seconds``, the larger of ``compute`` and ``memory``."""

    work: LayerWork
    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory)

    @property
    def by(self) -> str:
        """``compute`` or ``bandwidth``: what bounds it."""
        return "bandwidth" if self.memory > self.compute else "compute"


@dataclass(frozen=True)
class Bound:
    """The least time of a network: the sum over its layers, which run one after the other."""

    layers: tuple[LayerBound, ...]

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers)

    @property
    def bandwidth_share(self) -> float:
        """Share of the time, 0..1, in layers that the bandwidth bounds."""
        waiting = sum(layer.seconds for layer in self.layers if layer.by == "bandwidth")
        return waiting / self.seconds if self.layers and self.seconds else 0.0

    @property
    def by(self) -> str:
        """``compute`` or ``bandwidth``: what bounds most of the time."""
        return "bandwidth" if self.bandwidth_share > 0.5 else "compute"


def bound(layers: Iterable[LayerWork], peaks: Peaks) -> Bound:
    """The lower bound of a network's time on a device.

    It is a bound of every engine that runs these layers one after the other, each as a direct convolution, whatever it
    fuses into them. Counted are only

    - the multiply-accumulates of convolutions and matrix products, at the dense peak of the layer's precision;
    - the maps that a layer reads and the one that it writes, once each, and its weights, at the layer's own precisions;
      of these bytes only those that the caches cannot hold while the layer runs.

    Not counted are operations that can be fused into a neighbour (ReLU, folded batch norms, quantization, reshapes,
    resizes, sampling, pooling, softmax): their arithmetic, and maps between them and that neighbour. A sum reads its
    other addend and no more. Nor are launches, the input's copy and decoding.

    Two things can come below it: an algorithm that multiplies less (Winograd's, for 3x3 in FP32 and FP16 without tensor
    cores; there is none in INT8), and clocks above the profile's.

    Args:
        layers: of one inference.
        peaks: of the device, in a power mode.

    Raises:
        KeyError: a layer computes in a precision whose peak is unknown.
    """
    return Bound(
        tuple(
            LayerBound(
                layer,
                layer.macs / peaks.macs[layer.precision] if layer.macs else 0.0,
                peaks.seconds_of(layer.moved),
            )
            for layer in layers
        )
    )


def scaled(layers: Iterable[LayerWork], pixels: float) -> tuple[LayerWork, ...]:
    """The layers for ``pixels`` times as many pixels, in larger images or more of them: only weights stay."""
    return tuple(
        replace(
            layer,
            macs=round(layer.macs * pixels),
            read=round(layer.read * pixels),
            written=round(layer.written * pixels),
        )
        for layer in layers
    )


def weight_bytes(layers: Sequence[LayerWork]) -> int:
    """Bytes of the weights of all layers."""
    return sum(layer.weights for layer in layers)
