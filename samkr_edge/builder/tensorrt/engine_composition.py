"""What an engine consists of, by its list of layers, and whether it keeps its graph's promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samkr_edge.builder.inspect.builder_listing import listing_of_log
from samkr_edge.builder.inspect.engine_layers import Layer, layers_in, parse_layers
from samkr_edge.builder.inspect.engine_measures import EngineMeasures, measure
from samkr_edge.builder.tensorrt.engine_bytes import SerializedEngine
from samkr_edge.builder.tensorrt.engine_promises import broken_promises, promises_of
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_file import OnnxFile


@dataclass(frozen=True)
class MadeOf:
    """Layers of an engine.

    Attributes:
        layers: in the structure of the engine inspector's JSON; None if the list cannot be read.
        measures: sums over them, or None.
        notes: what the user should know.
    """

    layers: dict[str, Any] | None
    measures: EngineMeasures | None
    notes: tuple[str, ...]


def made_of(engine: SerializedEngine, plan: BuildPlan) -> MadeOf:
    """Read the builder's list of layers and compare it with the graph that was built.

    Raises:
        SamkrError: SE-B83 softmax, sampling or a last convolution is not FP32.
    """
    try:
        layers = listing_of_log(engine.listing or "", plan.compute_capabilities)
        parsed = layers_in(layers)
    except SamkrError as error:  # the engine itself is intact
        return MadeOf(None, None, (_not_known(error),))
    return MadeOf(layers, measure(parsed), _kept(parsed, engine.graph, plan))


def inspect_built(text: str, engine: SerializedEngine, plan: BuildPlan) -> tuple[str, ...]:
    """Notes from the engine inspector's JSON on a loaded engine.

    Raises:
        SamkrError: SE-B83 as ``made_of``.
    """
    try:
        parsed = parse_layers(text)
    except SamkrError as error:
        return (_not_known(error),)
    return _kept(parsed, engine.graph, plan)


def _not_known(error: SamkrError) -> str:
    return f"what the engine is made of is unknown: {error.message} ({error.code})"


def _kept(layers: Sequence[Layer], graph: OnnxFile, plan: BuildPlan) -> tuple[str, ...]:
    """A note on promises that cannot be verified; raises SamkrError SE-B83 for broken ones."""
    broken = broken_promises(layers, promises_of(graph))
    # A node that no layer names is not known to be wrong.
    rounded = [one for one in broken if one.promised == "FP32" and one.found]
    if rounded:
        raise SamkrError(
            "SE-B83",
            "the engine computes in fewer bits what must be FP32, so it was not written",
            {"layer": rounded[:3], "typing": plan.typing},
            fix=_remedy(plan),
        )
    if not broken:
        return ()
    return (
        f"{len(broken)} operations are not confirmed to be what the graph asks for; the first: {broken[0]}",
    )


def _remedy(plan: BuildPlan) -> str:
    if plan.typing == "strong":
        return "--precision fp32   # then report this graph"
    if plan.calibrate:
        return "--precision fp32; or instead of --calibrate: samkr-edge quantize CHECKPOINT --data DIR -o int8.pt"
    return (
        "--precision fp32, or strong typing, which keeps its types: TensorRT 10 or later, and "
        'pip install "samkr-edge[build]"'
    )
