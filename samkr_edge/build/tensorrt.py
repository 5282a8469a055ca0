"""Build an engine as a plan says, with the TensorRT of this device, 8.5 to 11; the passport beside it.

Names and arguments of every TensorRT call here and in the runtime are checked against the bindings of 8.6, 10.3,
10.13, 10.16, 11.0 and 11.4 (tests/contracts/tensorrt_api.py); what a version may lack is used only where the plan,
which knows the version's features, asks for it.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge import __version__
from samkr_edge.artefact import cache_folder, replacing, require_writable, sha256_of
from samkr_edge.build.agreement import Agreement, compare, noise_input
from samkr_edge.build.calibrator import CalibrationImages, calibration_cache, make_calibrator
from samkr_edge.build.full_precision import Operation, full_precision
from samkr_edge.build.onnx_file import OnnxFile, read_onnx
from samkr_edge.build.parser_errors import Complaint, build_error, parser_error
from samkr_edge.build.plan import MIB, BuildPlan
from samkr_edge.build.tensorrt_graph import edit, precision_mix, prepare
from samkr_edge.build.timing_cache import load_cache, store_cache
from samkr_edge.device import running_device
from samkr_edge.driver import require_gpu
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.passport import Passport, gpu_device, tensorrt_version, write_passport
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from samkr_edge.runtime.tensorrt import INPUT, TensorRTRunner
from samkr_edge.runtime.tensorrt_log import make_logger
from samkr_edge.runtime.tensorrt_module import import_tensorrt

# Inferences of each candidate of `best`: warm-up, then rounds of a few, in turn, so that a clock hits both alike.
WARM_UP, ROUNDS, PER_ROUND = 50, 20, 10

# (phase, step, of how many)
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine: where it is, its passport, and what was measured.

    Attributes:
        cosines: heatmap and offset against the graph in ONNX Runtime, on noise.
        milliseconds: precision -> median GPU time of its candidate; only of ``best``.
    """

    path: Path
    passport: Passport
    cosines: tuple[float, float]
    milliseconds: dict[str, float]


def build_tensorrt(
    source: Path,
    out: Path,
    plans: tuple[BuildPlan, ...],
    *,
    calibration: Path | None = None,
    report: Report | None = None,
) -> BuiltEngine:
    """Build each plan's engine from ``source``, keep the fastest in ``out``, with its passport beside it.

    Args:
        plans: one, or the candidates of ``best``.
        calibration: list of images, for plans that calibrate.
        report: told of every step of the builder, where TensorRT reports them (10 and later).

    Raises:
        SamkrError: SE-V87 no GPU, SE-V91 no TensorRT, SE-D01 ``out`` cannot be written, SE-B91 the parser refuses
            the graph, SE-B90 the build fails or the memory is short, SE-B89 the engine does not compute what the ONNX
            does.
    """
    require_gpu()
    version = tensorrt_version()
    require_writable(out)
    card = card_of_file(read_onnx(source), source)
    images = CalibrationImages(calibration, card.input_size) if calibration else None
    engines = [build_bytes(source, plan, images, report) for plan in plans]
    passports = [
        _passport(source, card, plan, engine, version, images)
        for plan, engine in zip(plans, engines, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        candidates = []
        for plan, engine, passport in zip(plans, engines, passports, strict=True):
            path = Path(folder) / f"{plan.precision}.engine"
            path.write_bytes(engine)
            write_passport(path, passport)
            candidates.append(path)
        times = compare_speed(candidates) if len(candidates) > 1 else [0.0]
        best = times.index(min(times))
        agreement = agree(source, plans[best], candidates[best], card)
    milliseconds = {p.precision: t for p, t in zip(plans, times, strict=True)} if len(plans) > 1 else {}
    if not agreement.holds:
        raise SamkrError(
            "SE-B89",
            "the engine does not compute what its graph does, so it was not written",
            agreement.facts(),
            fix=f"samkr-edge build {source} --target auto --precision fp32   # then report which precision fails",
        )
    cosines = agreement.cosines
    measured: dict[str, Any] = {"cosine": {"heatmap": cosines[0], "offset": cosines[1]}}
    if milliseconds:
        measured["gpu_ms"] = milliseconds
    with replacing(out) as temporary:
        temporary.write_bytes(engines[best])
    passport = passports[best].model_copy(update={"measured": measured})
    write_passport(out, passport)
    return BuiltEngine(out, passport, cosines, milliseconds)


def build_bytes(
    source: Path, plan: BuildPlan, images: CalibrationImages | None, report: Report | None
) -> bytes:
    """The serialized engine of one plan.

    The build runs in a thread of its own: TensorRT works in native code for minutes, and Ctrl-C is only noticed by a
    thread that runs Python. From TensorRT 10 on the build is then told to stop.
    """
    trt = import_tensorrt()
    graph = read_onnx(source)
    prepared = prepare(graph, plan.steps)
    # Not Thread.join: interrupted, it takes the thread for dead (Python 3.11).
    stop, done = threading.Event(), threading.Event()
    result: list[bytes | BaseException] = []

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
    except KeyboardInterrupt:
        stop.set()
        done.wait(10)
        raise
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _build(
    trt: Any,
    name: str,
    plan: BuildPlan,
    graph: OnnxFile,
    prepared: bytes,
    images: CalibrationImages | None,
    report: Report | None,
    stop: threading.Event,
) -> bytes:
    logger = make_logger(trt)
    trt.init_libnvinfer_plugins(logger, "")
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # pybind's way to say that the factory gave nothing
        raise build_error(name, plan.tensorrt, logger.errors(), plan.workspace_bytes // MIB) from error
    flags = 0
    for flag in plan.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag))
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(prepared):
        raise parser_error(name, plan.tensorrt, _complaints(parser), graph)
    if "OBEY_PRECISION_CONSTRAINTS" in plan.builder_flags:
        keep_full_precision(trt, network)
    config = _configure(trt, builder, plan)
    cache_file = cache_folder() / plan.timing_cache
    # A cache of another device or version is refused here, and the build starts from nothing.
    if not config.set_timing_cache(config.create_timing_cache(load_cache(cache_file)), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
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
        raise build_error(name, plan.tensorrt, logger.errors(), plan.workspace_bytes // MIB)
    timing_cache = config.get_timing_cache()
    if timing_cache is not None:
        # Without it the next build takes longer; no reason to lose this one.
        with suppress(SamkrError):
            store_cache(cache_file, bytes(timing_cache.serialize()))
    return bytes(serialized)


def _configure(trt: Any, builder: Any, plan: BuildPlan) -> Any:
    """The plan's settings as a builder configuration."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    # What the inspector shows is written now or never.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in plan.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if plan.optimization_level is not None:
        config.builder_optimization_level = plan.optimization_level
    if plan.hardware_compatibility is not None:
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, plan.hardware_compatibility
        )
    if plan.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = plan.dla_core
    if plan.profile_batch is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, plan.input_shape, plan.input_shape, plan.input_shape)
        config.add_optimization_profile(profile)
    return config


def keep_full_precision(trt: Any, network: Any) -> None:
    """Mark the layers of a weakly typed network that FP16 would lose joints in."""
    kinds = {
        trt.LayerType.CONVOLUTION: "Conv",
        trt.LayerType.QUANTIZE: "QuantizeLinear",
        trt.LayerType.DEQUANTIZE: "DequantizeLinear",
        trt.LayerType.GRID_SAMPLE: "GridSample",
        trt.LayerType.SOFTMAX: "Softmax",
    }
    # A cast has its types from the graph; TensorRT 8.5 calls it an identity.
    casts = {getattr(trt.LayerType, name, None) for name in ("CAST", "IDENTITY")}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    outputs = [[layer.get_output(index) for index in range(layer.num_outputs)] for layer in layers]
    # An optional input that is not there is None.
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
    dequantized = {name for one in operations if one.kind == "DequantizeLinear" for name in one.outputs}
    for index in sorted(full_precision(operations, begins, ends)):
        layer, operation = layers[index], operations[index]
        if operation.kind == "Conv" and dequantized & set(operation.inputs):
            continue  # INT8, by the graph
        floats = any(tensor.dtype == trt.DataType.FLOAT for tensor in inputs[index])
        if layer.type in casts or not floats:  # no floats: constants and indices
            continue
        layer.precision = trt.DataType.FLOAT
        for at, tensor in enumerate(outputs[index]):
            if tensor.dtype == trt.DataType.FLOAT:
                layer.set_output_type(at, trt.DataType.FLOAT)


def _complaints(parser: Any) -> list[Complaint]:
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # node_name and node_operator came with TensorRT 10; before, the text may hold the name.
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


def compare_speed(engines: list[Path]) -> list[float]:
    """Median GPU milliseconds of each engine, measured in turn."""
    runners = [TensorRTRunner(path) for path in engines]
    try:
        times: list[list[float]] = [[] for _ in runners]
        for runner in runners:
            runner.gpu_milliseconds(WARM_UP)
        for _ in range(ROUNDS):
            for runner, found in zip(runners, times, strict=True):
                found += runner.gpu_milliseconds(PER_ROUND)
    finally:
        for runner in runners:
            runner.close()
    return [statistics.median(found) for found in times]


def agree(source: Path, plan: BuildPlan, built: Path, card: ModelCard) -> Agreement:
    """Compare the engine's maps with those of its graph in ONNX Runtime.

    The graph is the one that TensorRT got, with or without its quantizers, so that only TensorRT's part is judged; its
    input stays the image bytes that ONNX Runtime is given, and its float part FP32.
    """
    steps = set(plan.steps) - {"cast_first", "float_input", "bake_fp16"}
    image = noise_input(card)
    # In a folder of its own: beside the engine it could be taken for a changed source.
    folder = built.parent / "graph"
    folder.mkdir()
    expected = _outputs(source, steps, folder, image)
    unquantized = _outputs(source, {*steps, "strip_quantizers"}, folder, image)
    runner = TensorRTRunner(built)
    try:
        found = list(runner.run(image))
    finally:
        runner.close()
    if card.decode_in == "graph":
        # Rounding changes the order of candidates; their scores, which fall, can be compared.
        expected, unquantized, found = ([outputs[1]] * 2 for outputs in (expected, unquantized, found))
    return compare(expected, found, unquantized)


def _outputs(source: Path, steps: set[str], folder: Path, image: np.ndarray) -> list[np.ndarray]:
    """What ONNX Runtime computes for the source after these steps of a plan."""
    graph = folder / "graph.onnx"
    graph.write_bytes(prepare(read_onnx(source), steps))
    runner = OnnxRunner(graph)
    try:
        return list(runner.run(image))
    finally:
        runner.close()


def card_of_file(model: OnnxFile, path: Path) -> ModelCard:
    """The model card in an ONNX file's metadata; raises SamkrError SE-A90."""
    try:
        return ModelCard.from_json(model.metadata[METADATA_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise SamkrError(
            "SE-A90",
            f"{path} was not exported by samkr-edge, so its outputs could not be decoded",
            [f"metadata   {', '.join(model.metadata) or 'none'}"],
            fix="samkr-edge export CHECKPOINT -o model.onnx",
        ) from error


def _passport(
    source: Path,
    card: ModelCard,
    plan: BuildPlan,
    engine: bytes,
    version: str,
    images: CalibrationImages | None,
) -> Passport:
    cache_file = cache_folder() / plan.timing_cache
    graph = read_onnx(source)
    edit(graph, plan.steps)
    caches = {"timing_cache": sha256_of(cache_file)} if cache_file.is_file() else {}
    return Passport(
        target=plan.target,
        card=replace(card, precision=plan.precision).to_dict(),
        sha256=hashlib.sha256(engine).hexdigest(),
        source=source.name,
        source_sha256=sha256_of(source),
        hashes={**caches, **({"calibration_images": images.digest()} if images else {})},
        device=gpu_device(running_device()),
        versions={"samkr_edge": __version__, "tensorrt": version},
        precision={"engine": plan.precision, "typing": plan.typing, **precision_mix(graph)},
        settings=plan.to_dict(),
    )
