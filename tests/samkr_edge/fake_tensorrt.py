"""A ``tensorrt`` or ``tensorrt_rtx`` module for tests without a GPU.

Classes, enum members and settable attributes are those of tests/data/tensorrt_api.json for the version asked for, and
nothing else: code that uses what a version lacks fails here as it would on the device. "Engines" hold the ONNX that was
parsed and run it with ONNX Runtime, between buffers that a fake driver hands out in the memory of the process, so a
whole way from ``build`` to poses can be walked. A driver call from a thread without a current context is an error.

As in the real ones: bytes of an image may be read by a cast only, ``nptype`` cannot be relied on, an engine of another
version or one that was cut off is refused, and a logger must live as long as the process.
"""

from __future__ import annotations

import _thread
import ctypes
import enum
import functools
import hashlib
import json
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from fake_driver import Driver
from fake_typing import TypingFaults, inspected, is_trial

API: dict[str, dict[str, dict[str, list[str] | None]]] = json.loads(
    (Path(__file__).parents[1] / "data" / "tensorrt_api.json").read_text()
)
# Of TensorRT, and of TensorRT for RTX.
VERSIONS = tuple(version for version in API if not version.startswith("rtx "))
RTX_VERSIONS = tuple(version for version in API if version.startswith("rtx "))
MAGIC, RTX_MAGIC = b"PLAN", b"RTXP"
ENUMS = (
    "BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel", "MemoryPoolType", "DeviceType",
    "ProfilingVerbosity", "TensorIOMode", "LayerInformationFormat", "LayerType",
    "ComputeCapability",
)  # fmt: skip
# Operation of ONNX -> name of the layer's type, and type of a tensor -> its name, where our code asks.
LAYER_TYPES = {
    "Conv": "CONVOLUTION", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "GridSample": "GRID_SAMPLE",
    "Softmax": "SOFTMAX", "Cast": "CAST",
}  # fmt: skip
# Texts as real versions print them: TensorRT for RTX 1.7.1; NVIDIA/TensorRT's issues 3848 and 2072, 2913, 4797.
UINT8_READ = (
    "ITensor::getDimensions: Error Code 4: API Usage Error ({node}: first input has type UInt8 but must have type "
    "Float, Half, BFloat16, FP8, E8M0, FP4, Int4, Int8, Int64, Int32, or Bool. In checkType at nodeBase.cpp:456)"
)
CUT_OFF = (
    "Error Code 1: Serialization (Serialization assertion sizeRead == static_cast<uint64_t>(mEnd - mCurrent) failed."
    "Size specified in header does not match archive size)"
)
OTHER_VERSION = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
    "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 237, Serialized Engine Version: "
    "239)"
)
NO_CUDA = (
    "CUDA initialization failure with error: {code}. Please check your CUDA installation: "
    "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
)
CALIBRATION_FAILS = (
    "[checkSanity.cpp::checkLinks::218] Error Code 2: Internal Error (Assertion item.second != nullptr failed. "
    "region should have been removed from Graph::regions)"
)
NUMPY_TYPES = {"FLOAT": np.float32, "UINT8": np.uint8, "HALF": np.float16, "INT8": np.int8}
# What a kernel of the graph compiler's that does nothing else is called.
KERNELS = {"GridSample": "Grid", "Softmax": "MaxSubExpSumDivMul"}
TENSOR_TYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 10: "HALF"}


class FakeTensorRT(ModuleType):
    """``import tensorrt`` of one version; of ``rtx 1.7.1.116``: ``import tensorrt_rtx``.

    TensorRT for RTX builds without a driver for the compute capabilities that it is told, prints what it made, and must
    not be asked for a timing cache, for which the real one looks for a GPU. What a context and its first inference need
    is finished on the card, and kept in the runtime cache of the configuration that the context was made with.

    Attributes:
        driver: whose memory the engines run in.
        finished: the parts of engines that the card has finished, in order; not those out of a runtime cache.
        retell: makes of a list of layers what a build prints; the truth by default.
        builds: settings of every build: network flags, builder flags, attributes, pool limits; the parsed ``onnx``;
            ``constraints``: layer name -> (precision, types of its outputs) of what is not left to TensorRT.
        trials: the same of the networks that only try how this TensorRT samples.
        speed: milliseconds of an inference by what the engine holds: ``int8``, or ``float`` alone.
        parser_errors: (text, operation, node) that the next parse gives.
        build_messages: errors that the next build logs, giving no engine; before them its ``build_warnings``.
        cuda_failure: number of the CUDA error for which neither builder nor runtime can be made.
        calibrates: False fails every calibration, as 10.3 does on an Orin.
        dla_count: DLA cores that a runtime sees.
        dla_cores: the core that the runtime was set to, of every engine that was loaded; None is TensorRT's choice.
        typing_faults: what goes wrong with types.
        layers_json: what the engine inspector says; None: what the engine is.
        may_deserialise: False fails the test that deserialises.
    """

    def __init__(self, version: str, driver: Driver) -> None:
        super().__init__("tensorrt_rtx" if version in RTX_VERSIONS else "tensorrt")
        self.__version__ = version.removeprefix("rtx ")
        self.is_rtx = version in RTX_VERSIONS
        self.magic = RTX_MAGIC if self.is_rtx else MAGIC
        self.driver = driver
        self.finished: list[str] = []
        self.retell: Callable[[str], str] = lambda told: told
        self.builds: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self.speed: dict[str, float] = {}
        self.parser_errors: list[tuple[str, str, str]] = []
        self.build_messages: list[str] = []
        self.build_warnings: list[str] = []
        self.cuda_failure: int | None = None
        self.calibrates = True
        self.dla_count = 0
        self.dla_cores: list[int | None] = []
        self.loggers: list[weakref.ref[Any]] = []
        self.may_deserialise = True
        self.typing_faults = TypingFaults()
        self.layers_json: str | None = None
        self.layer_times: dict[str, float] = {}
        self.cancelled = False
        self.known_caches: list[bytes] = []
        api = API[version]
        for name in ENUMS:
            members = sorted(api.get(name, {}))
            if members:
                setattr(self, name, enum.IntEnum(name, {m: i for i, m in enumerate(members)}))  # type: ignore[misc]
        self.DataType = enum.Enum("DataType", sorted(api["DataType"]))  # type: ignore[misc]
        for build in (_logger, _callbacks, _builder, _runtime):
            for cls in build(self):
                if cls.__name__ in api:
                    setattr(self, cls.__name__, _restricted(cls, api[cls.__name__]))
                elif not any(cls.__name__ in classes for classes in API.values()):
                    setattr(self, cls.__name__, cls)  # of these our code touches no member

    def nptype(self, kind: Any) -> Any:
        # As 8.5.1 and 8.5.2 with NumPy 1.24 and later.
        raise AttributeError("module 'numpy' has no attribute 'bool'.")

    def _start(self, logger: Any) -> None:
        """What builder and runtime do with their logger: keep a pointer to it, here and in the plugin registry."""
        self.loggers.append(weakref.ref(logger))
        assert all(one() is not None for one in self.loggers), (
            "a logger was freed that TensorRT still writes to"
        )
        if self.cuda_failure is not None:
            logger.log(self.ILogger.Severity.WARNING, "Unable to determine GPU memory usage")
            logger.log(self.ILogger.Severity.WARNING, NO_CUDA.format(code=self.cuda_failure))
            raise TypeError("pybind11::init(): factory function returned nullptr")


def _restricted(cls: type, members: dict[str, Any]) -> type:
    """The class without what the version lacks: neither readable nor settable; own names start with ``_``."""
    for name in [n for n in vars(cls) if not n.startswith("_") and n not in members]:
        delattr(cls, name)

    def assign(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in members and type(self) is cls:
            raise AttributeError(f"{cls.__name__} has no {name!r} in this version")
        object.__setattr__(self, name, value)

    cls.__setattr__ = assign  # type: ignore[assignment, method-assign]
    for name in members:
        if not hasattr(cls, name):
            setattr(cls, name, None)  # a plain attribute, as pybind's properties are seen by hasattr
    return cls


def _logger(trt: FakeTensorRT) -> list[type]:
    class ILogger:
        Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    return [ILogger]


def _callbacks(trt: FakeTensorRT) -> list[type]:
    class IProgressMonitor:
        pass

    class IInt8EntropyCalibrator2:
        pass

    class IProfiler:
        pass

    return [IProgressMonitor, IInt8EntropyCalibrator2, IProfiler]


class HostMemory(bytes):
    """What TensorRT gives for bytes, ``IHostMemory``."""


def _builder(trt: FakeTensorRT) -> list[type]:
    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> bytes:
            return self._data + b"+"

    class IOptimizationProfile:
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self._shape = (input, min, opt, max)

    class ITensor:
        def __init__(self, name: str, kind: str) -> None:
            self._name, self._kind = name, kind

        @property
        def name(self) -> str:
            return self._name

        @property
        def dtype(self) -> Any:
            return getattr(trt.DataType, self._kind, self._kind)

    class ILayer:
        def __init__(self, node: Any, tensors: dict[str, Any]) -> None:
            self._node, self._tensors, self._output_types = node, tensors, {}
            self._name = node.name or node.output[0]

        @property
        def type(self) -> Any:
            kind = LAYER_TYPES.get(self._node.op_type, "ELEMENTWISE")
            return getattr(trt.LayerType, kind, kind)  # the snapshot holds those types that our code asks for

        @property
        def num_inputs(self) -> int:
            return len(self._node.input)

        @property
        def num_outputs(self) -> int:
            return len(self._node.output)

        def _reads(self, kind: str) -> bool:
            found = (self._tensors.get(name) for name in self._node.input)
            return any(tensor is not None and tensor._kind == kind for tensor in found)

        def get_input(self, index: int) -> Any:
            return self._tensors.get(self._node.input[index])

        def get_output(self, index: int) -> Any:
            return self._tensors[self._node.output[index]]

        def set_output_type(self, index: int, dtype: Any) -> None:
            assert self.get_output(index)._kind != "INT32", "indices stay indices"
            self._output_types[index] = dtype.name

    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            self._flags, self._onnx = flags, b""

        def _read(self) -> None:
            """What the parser does: a layer for every node."""
            import onnx

            model = onnx.shape_inference.infer_shapes(onnx.load_from_string(self._onnx))
            graph = model.graph
            values = (*graph.value_info, *graph.input, *graph.output)
            types = {value.name: value.type.tensor_type.elem_type for value in values}
            types |= {constant.name: constant.data_type for constant in graph.initializer}
            kinds = {name: TENSOR_TYPES.get(number, "INT32") for name, number in types.items()}
            tensors = {name: trt.ITensor(name, kind) for name, kind in kinds.items()}
            self._listing = listing(model)
            self._layers = [trt.ILayer(node, tensors) for node in graph.node]
            self._inputs = [tensors[value.name] for value in graph.input]
            self._outputs = [tensors[value.name] for value in graph.output]

        def _constraints(self) -> dict[str, tuple[Any, dict[int, str]]]:
            marked = [layer for layer in self._layers if "precision" in vars(layer)]
            return {layer._name: (layer.precision.name, layer._output_types) for layer in marked}

        @property
        def num_layers(self) -> int:
            return len(self._layers)

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

    class ParserError:
        def __init__(self, text: str, operation: str, node: str) -> None:
            self._values = (text, operation, node)

        def desc(self) -> str:
            return self._values[0]

        def node_operator(self) -> str:
            return self._values[1]

        def node_name(self) -> str:
            return self._values[2]

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._errors = network, list(trt.parser_errors)

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return trt.ParserError(*self._errors[index])

        def parse(self, model: bytes, path: str | None = None) -> bool:
            self._network._onnx = bytes(model)
            if not self._errors:
                self._network._read()
                self._errors += [
                    (UINT8_READ.format(node=layer._name), layer._node.op_type, layer._name)
                    for layer in self._network._layers
                    if layer._node.op_type != "Cast" and layer._reads("UINT8")
                ]
            return not self._errors

    class IBuilderConfig:
        def __init__(self) -> None:
            self._flags: set[str] = {"TF32"}  # set unless it is cleared
            self._pools: dict[str, int] = {}
            self._cache: Any = None
            self._profiles: list[Any] = []
            self._capabilities: dict[int, str] = {}

        def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
            if index < self.num_compute_capabilities:
                self._capabilities[index] = compute_capability.name
            return index < self.num_compute_capabilities

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag.name)

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(flag.name)

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._pools[pool.name] = pool_size

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            assert not trt.is_rtx, "TensorRT for RTX times nothing, and would look for a GPU"
            return trt.ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache is None:
                raise TypeError("set_timing_cache(): incompatible function arguments")  # a reference in C++
            trt.known_caches.append(cache._data)
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            assert not trt.is_rtx, "TensorRT for RTX times nothing, and would look for a GPU"
            return self._cache

        def add_optimization_profile(self, profile: Any) -> int:
            self._profiles.append(profile._shape)
            return 0

    class Builder:
        def __init__(self, logger: Any) -> None:
            trt._start(logger)
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            return trt.INetworkDefinition(flags)

        def create_builder_config(self) -> Any:
            return trt.IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return trt.IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            names = {flag.name for flag in trt.NetworkDefinitionCreationFlag if network._flags >> flag & 1}
            flags = config._flags
            if "STRONGLY_TYPED" in names and flags & {"FP16", "INT8"}:
                self._logger.log(trt.ILogger.Severity.ERROR, "precision flags in a strongly typed network")
                return None
            settings = {k: v for k, v in vars(config).items() if not k.startswith("_")}
            pools, profiles = config._pools, config._profiles
            kept = {"network": names, "flags": set(flags), "pools": pools, "profiles": profiles}
            given = {"onnx": network._onnx, "constraints": network._constraints()}
            if trt.is_rtx:
                given["capabilities"] = [
                    config._capabilities[i] for i in range(config.num_compute_capabilities)
                ]
            built = {**kept, **settings, **given}
            (trt.trials if is_trial(network._onnx) else trt.builds).append(built)
            for text in trt.build_warnings:
                self._logger.log(trt.ILogger.Severity.WARNING, text)
            strong = "STRONGLY_TYPED" in names or not hasattr(trt.BuilderFlag, "FP16")
            refusal = trt.typing_faults.refusal(strong, flags)
            for text in (*trt.build_messages, *([refusal] if refusal else ())):
                self._logger.log(trt.ILogger.Severity.ERROR, text)
            monitor = settings.get("progress_monitor")
            if monitor is not None:
                monitor.phase_start("Building", None, 3)
                monitor.phase_start("Tactics", "Building", 9)
                going = [monitor.step_complete("Building", step) for step in range(3)]
                monitor.phase_finish("Building")
                trt.cancelled = not all(going)
            calibrator = settings.get("int8_calibrator")
            if calibrator is not None and calibrator.read_calibration_cache() is None:
                seen = 0
                # What a calibrator raises is printed and taken for the end of its images (python/src/infer/pyInt8.cpp).
                with suppress(Exception):
                    while calibrator.get_batch(["image"]):
                        seen += calibrator.get_batch_size()
                built["calibrated_on"] = seen
                calibrator.write_calibration_cache(b"ranges")
            if calibrator is not None and not trt.calibrates:
                self._logger.log(trt.ILogger.Severity.ERROR, CALIBRATION_FAILS)
                return None
            if trt.is_rtx:
                say = self._logger.log
                say(
                    trt.ILogger.Severity.ERROR,
                    "[defaultAllocator.cpp::] Error Code 1: Cuda Runtime (cudaError 35)",
                )
                if settings["profiling_verbosity"].name == "DETAILED":
                    say(trt.ILogger.Severity.VERBOSE, trt.retell(network._listing))
            if trt.build_messages or refusal or trt.cancelled:
                return None
            told = {"flags": sorted(flags), "capabilities": given.get("capabilities"), "strong": strong}
            told |= {"wide": sorted(given["constraints"]), "version": trt.__version__}
            head = json.dumps({**told, "size": len(network._onnx)}).encode()
            return HostMemory(trt.magic + len(head).to_bytes(4, "little") + head + network._onnx)

    return [
        ITimingCache,
        IOptimizationProfile,
        ITensor,
        ILayer,
        INetworkDefinition,
        ParserError,
        OnnxParser,
        IBuilderConfig,
        Builder,
    ]


def tensor_type(constant: Any) -> Any:
    """Of an initializer, as inferred shapes have it."""
    import onnx

    return onnx.helper.make_tensor_type_proto(constant.data_type, constant.dims).tensor_type


def listing(model: Any) -> str:
    """What the builder of TensorRT for RTX prints of an engine, in its words; here every node is a kernel."""
    graph = model.graph
    shapes = {v.name: v.type.tensor_type for v in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {one.name: tensor_type(one) for one in graph.initializer}
    weights = {one.name for one in graph.initializer}
    names = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "UINT8": "UInt8"}

    def described(name: str) -> tuple[str, str]:
        kind = names.get(TENSOR_TYPES.get(shapes[name].elem_type, ""), "Int32")
        return kind, ",".join(str(size.dim_value or -1) for size in shapes[name].shape.dim)

    def tensors(found: list[str]) -> str:
        parts = []
        for name in found:
            kind, sizes = described(name)
            layout = f"Strides: [{sizes}], StrideOrder: [], Datatype: {kind}, Format: (Linear) Row major linear format"
            parts.append(f" {{ Name: {name}, Dimensions: [{sizes}], {layout} }}")
        return f"[{','.join(parts)}]"

    lines = ["Layers:"]
    for index, node in enumerate(graph.node):
        kind = "correlation" if node.op_type == "Conv" else "kgen"
        read = [name for name in node.input if name in shapes]
        constants = read[1:] if node.op_type == "Conv" else []
        inputs = [name for name in read if name not in {*constants, *weights}]
        ends = f"Inputs: {tensors(inputs)}, Constants: {tensors(constants)}, Outputs: {tensors(list(node.output))}"
        tail = f"TacticName: __myelin, StreamId: 0, Metadata: [ONNX Layer: {node.name}]"
        told = KERNELS.get(node.op_type)
        name = f"__myl_{told}_myl0_{index}" if told else f"{node.name or node.output[0]}_myl0_0"
        lines.append(f"Name: {name}, LayerType: {kind}, {ends}, {tail}")
    lines += ["", "I/O Tensors:"]
    for mode, values in (("Input", graph.input), ("Output", graph.output)):
        for value in values:
            kind, sizes = described(value.name)
            lines.append(
                f" Name: {value.name}, IOMode: {mode}, DataType: {kind}, Dimensions: [{sizes}], Location: Device"
            )
    return "\n".join(lines)


def _runtime(trt: FakeTensorRT) -> list[type]:
    class EngineInspector:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def get_engine_information(self, format: Any) -> str:
            if trt.layers_json is not None:
                return trt.layers_json
            major = 11 if trt.is_rtx else int(trt.__version__.partition(".")[0])
            return inspected(*self._engine._built, major, trt.typing_faults)

    class IRuntimeCache:
        """What is finished, for one GPU and version; the bytes of another are refused."""

        def __init__(self) -> None:
            self._parts: list[str] = []
            self._where = f"{trt.__name__} {trt.__version__} {trt.driver.capability} {trt.driver.gpu!r}"

        def deserialize(self, blob: bytes) -> bool:
            where, *parts = bytes(blob).decode("utf-8", "replace").splitlines() or [""]
            if where == self._where:
                self._parts = parts
            return where == self._where

        def serialize(self) -> Any:
            return HostMemory("\n".join((self._where, *self._parts)).encode())

    class IRuntimeConfig:
        def __init__(self) -> None:
            self._cache: Any = None

        def create_runtime_cache(self) -> Any:
            return trt.IRuntimeCache()

        def set_runtime_cache(self, cache: Any = None) -> bool:
            self._cache = cache
            return True

    class IExecutionContext:
        def __init__(self, engine: Any, runtime_config: Any) -> None:
            self._engine, self._addresses, self._shapes = engine, {}, {}
            self._cache = runtime_config and runtime_config._cache
            self._finish("kernels")

        def _finish(self, part: str) -> None:
            """What the card compiles, unless it lies in the runtime cache."""
            if not trt.is_rtx:
                return
            assert trt.driver._bound(), "kernels are finished in the context of the thread"
            kept, part = self._cache._parts if self._cache else [], f"{self._engine._digest} {part}"
            if part not in kept:
                trt.finished.append(part)
                kept.append(part)

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            known = self._shapes.get(name) or self._engine.get_tensor_shape(name)
            batch = self._shapes.get("image", (None,))[0]
            return tuple(batch if size == -1 else size for size in known)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            self._finish("first inference")
            trt.driver.queue(stream_handle, self._execute)
            profiler = vars(self).get("profiler")
            for name, ms in trt.layer_times.items() if profiler else ():
                profiler.report_layer_time(name, ms)
            return trt.driver._bound()

        def _array(self, name: str) -> np.ndarray:
            shape, kind = self.get_tensor_shape(name), NUMPY_TYPES[self._engine.get_tensor_dtype(name).name]
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            block = (ctypes.c_uint8 * size).from_address(self._addresses[name])
            return np.frombuffer(block, kind).reshape(shape)

        def _execute(self) -> None:
            session = self._engine._session
            inputs = [(i.name, self._array(i.name)) for i in session.get_inputs()]
            feeds = tuple((name, array.dtype.str, array.shape, array.tobytes()) for name, array in inputs)
            for output, values in zip(session.get_outputs(), computed(session, feeds), strict=True):
                self._array(output.name)[...] = values
            trt.driver.clock_ms += trt.speed.get(self._engine._holds, 1.0)

    class ICudaEngine:
        def __init__(self, data: bytes) -> None:
            length = int.from_bytes(data[4:8], "little")
            head, parsed = json.loads(data[8 : 8 + length]), data[8 + length :]
            self._built = (parsed, head["strong"], head["flags"], head["wide"])
            self._holds = "int8" if b"QuantizeLinear" in parsed or "INT8" in head["flags"] else "float"
            self._digest = hashlib.sha256(data).hexdigest()[:8]
            self._session = session_of(trt.typing_faults.as_run(*self._built))
            self._tensors = {t.name: t for t in (*self._session.get_inputs(), *self._session.get_outputs())}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> Any:
            is_input = name in [i.name for i in self._session.get_inputs()]
            return trt.TensorIOMode.INPUT if is_input else None

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(size if isinstance(size, int) else -1 for size in self._tensors[name].shape)

        def get_tensor_dtype(self, name: str) -> Any:
            kinds = {"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8", "tensor(float16)": "HALF"}
            return trt.DataType[kinds[self._tensors[name].type]]

        def create_runtime_config(self) -> Any:
            return trt.IRuntimeConfig()

        def create_execution_context(self, runtime_config: Any = None) -> Any:
            return trt.IExecutionContext(self, runtime_config)

        def create_engine_inspector(self) -> Any:
            return trt.EngineInspector(self)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            trt._start(logger)
            self._logger, self._cores = logger, trt.dla_count

        @property
        def num_DLA_cores(self) -> int:
            return self._cores

        def _refusal(self, engine: bytes) -> str | None:
            if engine[:4] != trt.magic:
                return "the engine plan file is not compatible"
            length = int.from_bytes(engine[4:8], "little")
            if len(engine) < 8 + length:
                return CUT_OFF
            head = json.loads(engine[8 : 8 + length])
            if head["size"] != len(engine) - 8 - length:
                return CUT_OFF
            if head["version"] != trt.__version__ and "VERSION_COMPATIBLE" not in head["flags"]:
                return OTHER_VERSION
            if trt.is_rtx and "SM{}{}".format(*trt.driver.capability) not in head["capabilities"]:
                return "the engine plan file is not compatible"
            return None

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            assert trt.may_deserialise, "bytes that nobody vouches for were deserialised"
            refusal = self._refusal(serialized_engine)
            if refusal is not None:
                self._logger.log(trt.ILogger.Severity.ERROR, refusal)
                return None
            trt.dla_cores.append(vars(self).get("DLA_core"))
            return trt.ICudaEngine(serialized_engine)

    return [EngineInspector, IRuntimeCache, IRuntimeConfig, IExecutionContext, ICudaEngine, Runtime]


@functools.lru_cache(8)
def session_of(model: bytes) -> Any:
    """A session of ONNX Runtime; one for all engines of the same bytes, since opening it costs more than a run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(64)
def computed(session: Any, feeds: tuple[tuple[str, str, tuple[int, ...], bytes], ...]) -> list[np.ndarray]:
    """What the graph makes of these inputs: name, dtype, shape and bytes of each.

    Kept, since a run takes longest of all that the stand-in does, and tests show it the same images many times.
    """
    arrays = {name: np.frombuffer(data, kind).reshape(shape) for name, kind, shape, data in feeds}
    outputs: list[np.ndarray] = session.run(None, arrays)
    return outputs


def ctrl_c_at_the_first_step(phase: str, step: int, steps: int) -> None:
    """A build's ``report`` that is interrupted as a user would."""
    if step == 1:
        _thread.interrupt_main()
    time.sleep(0.3)  # until the main thread has noticed
