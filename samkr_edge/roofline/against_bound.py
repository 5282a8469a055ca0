"""A model's layers, timed here, beside their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from samkr_edge.builder.inspect.engine_layers import Layer
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.roofline.bound import Bound, bound
from samkr_edge.roofline.shares import SHOWN, LayerShare, shares
from targets.peaks import Peaks, peaks_of

if TYPE_CHECKING:
    from samkr_edge.model_card import ModelCard
    from targets.device import Device
    from targets.profile import Target


@dataclass(frozen=True)
class AgainstBound:
    """The bound of an inference, and what each layer takes.

    Attributes:
        bound: of one inference of ``images`` images.
        layers: the timed ones, the one that loses most first; empty if none were timed.
        peaks: what the bound comes from, in words.
    """

    bound: Bound
    layers: tuple[LayerShare, ...]
    peaks: str
    images: int = 1

    @property
    def ms(self) -> float:
        """The bound of one image, milliseconds."""
        return 1e3 * self.bound.seconds / self.images

    def to_dict(self) -> dict[str, Any]:
        return {
            "bound_ms": 1e3 * self.bound.seconds,
            "bounded_by": self.bound.by,
            "bandwidth_share": self.bound.bandwidth_share,
            "peaks": self.peaks,
            "images": self.images,
            "layers": [{**asdict(one), "lost_ms": one.lost_ms} for one in self.layers],
        }


def measure_on_cpu(data: bytes, model: OnnxFile, card: ModelCard, threads: int = 1) -> AgainstBound | str:
    """The layers of an ONNX model on this CPU beside the bounds by its measured peaks; or why there are none.

    A second or two, and memory for a second copy of the model.

    Args:
        data: the bytes of ``model``.
    """
    if card.precision not in ("fp32", "int8") or card.provenance.get("floats") == "fp16":
        return "a CPU's peak is measured in FP32 and INT8 only"
    try:
        import onnx
    except ImportError:
        return 'shapes need the package onnx: pip install "samkr-edge[build]"'
    from samkr_edge.onnx_graph.graph import Graph
    from samkr_edge.roofline.cpu_peaks import cpu_peaks
    from samkr_edge.roofline.cpu_profile import module_times, profiled
    from samkr_edge.roofline.graph_work import work_of

    graph = Graph(onnx.load_from_string(data))
    work = work_of(graph, "fp32")
    peaks = cpu_peaks(threads)
    found = bound(work.layers, peaks)
    times = module_times(profiled(data, model, card, threads), work.fused)
    return AgainstBound(found, shares(times, found), words(peaks), graph.batch or 1)


def measure_engine(
    layers: Sequence[Layer], target: Target, device: Device | None = None
) -> AgainstBound | str:
    """The layers of an engine beside their bounds on its target; or why there are none.

    Args:
        device: this one, if the engine ran here: its power mode counts.
    """
    peaks, mode = peaks_here(target, device)
    if not peaks.macs:
        return f"the profile of {target.name} has no peaks"
    from samkr_edge.roofline.engine_work import engine_work

    found = bound(engine_work(layers, peaks.macs), peaks)
    times: dict[str, float] = {}
    for layer in layers:
        if layer.ms is not None:
            times[layer.module] = times.get(layer.module, 0.0) + layer.ms
    said = f"{target.name}{f' in {mode}' if mode else ''}: {words(peaks)}"
    images = (
        max(1, layers[0].inputs[0].shape[0])
        if layers and layers[0].inputs and layers[0].inputs[0].shape
        else 1
    )
    return AgainstBound(found, shares(times, found), said, images)


def peaks_here(target: Target, device: Device | None) -> tuple[Peaks, str | None]:
    """The peaks of a device in its power mode, and the mode's name; of two modes of that name the faster one's."""
    modes = [mode for mode in target.power_modes if device is not None and mode.name == device.power_mode]
    if not modes:
        return peaks_of(target), None
    mode = max(modes, key=lambda one: one.mhz or target.max_mhz or 0)
    return peaks_of(target, mode), mode.name


def words(peaks: Peaks) -> str:
    """``INT8 218 GMAC/s, FP32 57.3 GMAC/s, 94.8 GB/s in the nearest cache, 27.8 GB/s in memory``."""
    rates = [f"{precision.upper()} {rate / 1e9:.3g} GMAC/s" for precision, rate in sorted(peaks.macs.items())]
    finite = [rate / 1e9 for _, rate in peaks.memory if rate != float("inf")]
    if len(finite) > 1:
        rates.append(f"{finite[0]:.3g} GB/s in the nearest cache")
    rates += [f"{finite[-1]:.3g} GB/s in memory"] if finite else [peaks.unknown]
    return ", ".join(rates)


def worst(found: AgainstBound) -> tuple[LayerShare, ...]:
    """The layers that lose most."""
    return tuple(one for one in found.layers[:SHOWN] if one.lost_ms > 0)
