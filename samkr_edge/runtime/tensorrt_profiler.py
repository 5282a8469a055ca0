"""TensorRT's per-layer times by inference, from its callback for every layer."""

from __future__ import annotations

from typing import Any


def make_profiler(trt: Any) -> Any:
    """An ``IProfiler`` whose ``runs`` are layer name -> milliseconds of every inference; ``begin`` starts one.

    It must outlive the execution context that it is given to.
    """

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.runs: list[dict[str, float]] = []

        def begin(self) -> None:
            self.runs.append({})

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times = self.runs[-1]
            times[layer_name] = times.get(layer_name, 0.0) + ms  # a name may occur twice

    return Profiler()
