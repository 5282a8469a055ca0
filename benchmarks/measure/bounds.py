"""A model's share of the lower bound of its network's time, and the layers that lose most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.schema import LayerAgainstBound, LowerBound

if TYPE_CHECKING:
    from samkr_edge.pose_model import PoseModel
    from samkr_edge.roofline.against_bound import AgainstBound


def measure_bound(model: PoseModel, path: Path, threads: int) -> AgainstBound | str:
    """The bound of a model's network on what it runs on, and its layers' times; or why there is none.

    Layers of an ONNX file are timed here, and those of an engine too, one after the other.
    """
    if model.kind == "onnx":
        from samkr_edge.onnx_graph.onnx_reading import decoded, read_bytes
        from samkr_edge.roofline.against_bound import measure_on_cpu

        data = read_bytes(path)
        return measure_on_cpu(data, decoded(data, path), model.card, threads)
    if model.kind == "engine":
        return _of_engine(model)
    return "torch runs it, not an engine"


def _of_engine(model: PoseModel) -> AgainstBound | str:
    from samkr_edge.builder.inspect.engine import PROFILED_RUNS, inspect_layers
    from samkr_edge.builder.inspect.engine_layers import profile_records
    from samkr_edge.machine.device import running_device, target_of
    from samkr_edge.roofline.against_bound import measure_engine
    from samkr_edge.runtime.tensorrt import TensorRTRunner

    runner = model.runner
    assert isinstance(runner, TensorRTRunner)
    records = profile_records(runner.layer_milliseconds(PROFILED_RUNS), runner.passport.sha256)
    device = running_device()
    report = inspect_layers(runner.layers(), json.dumps(records))
    return measure_engine(report.layers, target_of(device), device)


def lower_bound(found: AgainstBound, network_ms: float) -> LowerBound:
    """The record of a bound.

    Args:
        network_ms: measured, of one image.
    """
    from samkr_edge.roofline.against_bound import worst

    return LowerBound(
        ms=found.ms,
        share=found.ms / network_ms,
        by=found.bound.by,
        bandwidth_share=found.bound.bandwidth_share,
        peaks=found.peaks,
        layers=[
            LayerAgainstBound(module=one.module, ms=one.ms, bound_ms=one.bound_ms, by=one.by)
            for one in worst(found)
        ],
    )
