"""Build the serialized engine of one plan with the TensorRT installed here.

Names and arguments of every TensorRT call here and in the runtime are checked against the bindings of 8.6, 10.3,
10.13, 10.16, 11.0, 11.4 and of TensorRT for RTX (tests/contracts/tensorrt_api.py); optional features are used only if
the plan, which knows the version's features, asks for them.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samkr_edge.builder.tensorrt.builder_errors import build_error
from samkr_edge.builder.tensorrt.calibrator import CalibrationImages, calibration_cache, make_calibrator
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.full_precision import Operation, constrained
from samkr_edge.builder.tensorrt.parser_errors import Complaint, parser_error
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.builder.tensorrt.typing_choice import OBEY, PREFER
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.machine.tensorrt_module import TITLES, import_tensorrt
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.tensorrt import INPUT
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache
from samkr_edge.runtime.tensorrt_log import listen
from samkr_edge.runtime.tensorrt_start import require_fitting_driver, start
from samkr_edge.stopping import Stopped, exit_code

# Seconds that a cancelled builder gets to stop: a single kernel may take several.
STOPS_WITHIN_S = 7
# (phase, step, of how many)
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SerializedEngine:
    """An engine's bytes.

    Attributes:
        parsed: the ONNX it was built from, as prepared by the plan.
        listing: the builder's list of layers, from builders that give it without a GPU.
    """

    data: bytes
    parsed: bytes
    listing: str | None = None

    @cached_property
    def graph(self) -> OnnxFile:
        """The graph in ``parsed``; decoded once."""
        return decode_onnx(self.parsed)


def build_bytes(
    source: Path,
    plan: BuildPlan,
    images: CalibrationImages | None = None,
    report: Report | None = None,
    *,
    graph: OnnxFile | None = None,
) -> SerializedEngine:
    """The serialized engine of one plan.

    Args:
        graph: of ``source``, if it has already been read.

    The build runs in a separate thread: TensorRT stays in native code for minutes, and only a thread that runs Python
    notices Ctrl-C. From TensorRT 10 on, the build is then cancelled.
    """
    trt = import_tensorrt(plan.flavour)
    graph = graph or read_onnx(source)
    prepared = prepare(graph, plan.steps)
    # Not Thread.join: when interrupted, it considers the thread dead (Python 3.11).
    stop, done = threading.Event(), threading.Event()
    result: list[SerializedEngine | BaseException] = []

    def work() -> None:
        try:
            result.append(_build(trt, source.name, plan, graph, prepared, images, report, stop))
        except BaseException as error:
            result.append(error)
        finally:
            done.set()

    worker = threading.Thread(target=work, name="tensorrt-build", daemon=True)
    try:
        worker.start()
        while not done.wait(0.1):
            pass
    except KeyboardInterrupt as stopped:
        stop.set()
        # A builder without a progress monitor (8.x) cannot be cancelled and is left running.
        if not done.wait(STOPS_WITHIN_S if hasattr(trt, "IProgressMonitor") else 0):
            code = exit_code([stopped.number] if isinstance(stopped, Stopped) else [])
            atexit.register(_leave_behind, done, code)
        raise
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _leave_behind(done: threading.Event, code: int) -> None:
    """At exit, end the process immediately although a builder is still running.

    An orderly exit would free Python and the libraries' objects while the builder still uses them, and the process
    would die of a signal.
    """
    if not done.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _build(
    trt: Any,
    name: str,
    plan: BuildPlan,
    graph: OnnxFile,
    prepared: bytes,
    images: CalibrationImages | None,
    report: Report | None,
    stop: threading.Event,
) -> SerializedEngine:
    ahead_of_time = bool(plan.compute_capabilities)
    if not ahead_of_time:
        require_fitting_driver(trt, plan.flavour)
    messages = listen(trt, keep_listing=ahead_of_time)
    title = f"{TITLES[plan.flavour]} {plan.tensorrt}"
    builder = start(trt.Builder, trt, plan.flavour, messages)
    flags = 0
    for flag in plan.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag))
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(prepared):
        raise parser_error(name, title, _complaints(parser), graph)
    if {OBEY, PREFER} & set(plan.builder_flags):
        keep_full_precision(trt, network, wide_sampling="wide_sampling" in plan.steps)
    config = _configure(trt, builder, plan)
    cache_file = cache_folder() / plan.timing_cache if plan.timing_cache else None
    if cache_file is not None:
        _take_timings(config, load_cache(cache_file))
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _make_monitor(trt, report, stop)
    calibrator = None
    if plan.calibrate and images is not None:
        cache = calibration_cache(prepared, images, plan.tensorrt)
        calibrator = make_calibrator(trt, open_cuda(), images, plan.input_shape[0], cache)
        config.int8_calibrator = calibrator
    try:
        serialized = builder.build_serialized_network(network, config)
    finally:
        if calibrator is not None:
            calibrator.close()
    if serialized is None:
        if stop.is_set():
            raise KeyboardInterrupt
        raise build_error(name, title, messages, plan, graph)
    timing_cache = config.get_timing_cache() if cache_file is not None else None
    if cache_file is not None and timing_cache is not None:
        # Without it the next build only takes longer; that must not fail this one.
        with suppress(SamkrError):
            store_cache(cache_file, bytes(timing_cache.serialize()))
    return SerializedEngine(bytes(serialized), prepared, messages.listing)


def _take_timings(config: Any, known: bytes) -> None:
    """Let a build use earlier timings; those of another device or version are ignored."""
    for timings in (known, b""):
        cache = config.create_timing_cache(timings)  # None if this TensorRT cannot read the bytes
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def _configure(trt: Any, builder: Any, plan: BuildPlan) -> Any:
    """The plan's settings as a builder configuration."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    # The inspector only shows what the build stores.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in plan.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for flag in plan.cleared_flags:
        config.clear_flag(getattr(trt.BuilderFlag, flag))
    if plan.optimization_level is not None:
        config.builder_optimization_level = plan.optimization_level
    if plan.hardware_compatibility is not None:
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, plan.hardware_compatibility
        )
    if plan.compute_capabilities:
        config.num_compute_capabilities = len(plan.compute_capabilities)
        for index, number in enumerate(plan.compute_capabilities):
            name = f"SM{number.replace('.', '')}"
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    if plan.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = plan.dla_core
    if plan.profile_batch is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, plan.input_shape, plan.input_shape, plan.input_shape)
        config.add_optimization_profile(profile)
    return config


def keep_full_precision(trt: Any, network: Any, *, wide_sampling: bool = False) -> None:
    """Mark the layers of a weakly typed network in which FP16 would lose joints.

    Args:
        wide_sampling: see ``samkr_edge.builder.tensorrt.full_precision.full_precision``.
    """
    kinds = {
        trt.LayerType.CONVOLUTION: "Conv",
        trt.LayerType.QUANTIZE: "QuantizeLinear",
        trt.LayerType.DEQUANTIZE: "DequantizeLinear",
        trt.LayerType.GRID_SAMPLE: "GridSample",
        trt.LayerType.SOFTMAX: "Softmax",
    }
    # A cast's types are fixed by the graph; TensorRT 8.5 calls it an identity.
    kinds |= {
        getattr(trt.LayerType, name): "Cast" for name in ("CAST", "IDENTITY") if hasattr(trt.LayerType, name)
    }
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    outputs = [[layer.get_output(index) for index in range(layer.num_outputs)] for layer in layers]
    # A missing optional input is None.
    inputs = [[layer.get_input(index) for index in range(layer.num_inputs)] for layer in layers]
    inputs = [[tensor for tensor in taken if tensor is not None] for taken in inputs]
    operations = [
        Operation(
            kinds.get(layer.type, ""), [tensor.name for tensor in taken], [tensor.name for tensor in given]
        )
        for layer, taken, given in zip(layers, inputs, outputs, strict=True)
    ]
    ends = [network.get_output(index).name for index in range(network.num_outputs)]
    begins = [network.get_input(index).name for index in range(network.num_inputs)]
    taken = [tensor for group in inputs for tensor in group]
    floats = {tensor.name for tensor in taken if tensor.dtype == trt.DataType.FLOAT}
    for index in constrained(operations, begins, ends, floats, wide_sampling=wide_sampling):
        layer = layers[index]
        layer.precision = trt.DataType.FLOAT
        for at, tensor in enumerate(outputs[index]):
            if tensor.dtype == trt.DataType.FLOAT:
                layer.set_output_type(at, trt.DataType.FLOAT)


def _complaints(parser: Any) -> list[Complaint]:
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # node_name and node_operator exist from TensorRT 10; before, the text may contain the name.
        names = [
            str(getattr(error, key)()) if hasattr(error, key) else ""
            for key in ("node_operator", "node_name")
        ]
        found.append(Complaint(str(error.desc()), *names))
    return found


def _make_monitor(trt: Any, report: Report | None, stop: threading.Event) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if report is not None and phase_name in self._steps:
                report(phase_name, step + 1, self._steps[phase_name])
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
