"""What an engine is made of, by its builder's list of layers, and whether it keeps its graph's promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samkr_edge.build.builder_listing import listing_of_log
from samkr_edge.build.engine_bytes import SerializedEngine
from samkr_edge.build.engine_layers import layers_in
from samkr_edge.build.engine_measures import EngineMeasures, measure
from samkr_edge.build.engine_promises import broken_promises, promises_of
from samkr_edge.build.graph import Graph
from samkr_edge.build.plan import BuildPlan
from samkr_edge.errors import SamkrError


@dataclass(frozen=True)
class MadeOf:
    """Layers of an engine.

    Attributes:
        layers: in the structure of the engine inspector's JSON; None where the list cannot be read.
        measures: sums over them; likewise.
        notes: what the user should know.
    """

    layers: dict[str, Any] | None
    measures: EngineMeasures | None
    notes: tuple[str, ...]


def made_of(engine: SerializedEngine, plan: BuildPlan) -> MadeOf:
    """Read an engine's list of layers, and compare it with the graph that was built.

    Raises:
        SamkrError: SE-B83 softmax, sampling or a last convolution is not FP32.
    """
    try:
        layers = listing_of_log(engine.listing or "", plan.compute_capabilities)
        parsed = layers_in(layers)
    except SamkrError as error:  # the engine is whole all the same
        return MadeOf(
            None, None, (f"what the engine is made of is not known: {error.message} ({error.code})",)
        )
    try:
        import onnx
    except ImportError:  # an FP32 engine is built without it
        note = "whether the engine keeps to the types of its graph is not known: the package onnx is not installed"
        return MadeOf(layers, measure(parsed), (note,))
    broken = broken_promises(parsed, promises_of(Graph(onnx.load_from_string(engine.parsed))))
    # What no layer names is not known to be wrong.
    rounded = [one for one in broken if one.promised == "FP32" and one.found]
    if rounded:
        raise SamkrError(
            "SE-B83",
            "the engine computes in fewer bits what has to be FP32, so it was not written",
            [f"layer      {one}" for one in rounded[:3]],
            fix="--precision fp32   # then report this graph",
        )
    notes = []
    if broken:
        notes.append(
            f"{len(broken)} operations are not seen to be what the graph asks for; the first: {broken[0]}"
        )
    return MadeOf(layers, measure(parsed), tuple(notes))
