"""TensorRT 8.5 to 11 and TensorRT for RTX: an engine with its passport, run by named tensors, as all versions can.

Several threads may call ``TensorRTRunner.run`` at once. Each takes a lane (an execution context with its stream
and buffers) and returns it, so there are as many lanes as there ever were simultaneous calls.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.engine_check import power_note
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.machine.device import running_device
from samkr_edge.machine.driver import require_gpu
from samkr_edge.machine.tensorrt_module import TITLES, import_tensorrt
from samkr_edge.model_card_check import check_card
from samkr_edge.preflight import admit
from samkr_edge.runtime.cuda import Cuda, open_cuda
from samkr_edge.runtime.finished_kernels import FinishedKernels, kernels_path
from samkr_edge.runtime.tensorrt_log import is_about_memory, listen
from samkr_edge.runtime.tensorrt_profiler import make_profiler
from samkr_edge.runtime.tensorrt_start import require_fitting_driver, start
from samkr_edge.runtime.tensorrt_types import numpy_type

INPUT = "image"

# Seconds that closing waits for runs of other threads; what a run stuck in the driver uses is not freed.
_CLOSE_S = 10.0


class Lane:
    """One execution context, its stream, its device memory and its pinned host memory.

    ``inputs`` and ``outputs`` map tensor names to pinned arrays of the engine's shapes and types.
    """

    def __init__(
        self, trt: Any, engine: Any, cuda: Cuda, batch: int | None, kernels: FinishedKernels | None = None
    ) -> None:
        self.cuda = cuda
        self._messages = listen(trt)
        self.context = (
            engine.create_execution_context()
            if kernels is None
            else engine.create_execution_context(runtime_config=kernels.runtime_config)
        )
        if self.context is None:
            reasons = self._messages.reasons()
            if any(map(is_about_memory, self._messages.texts())):
                raise SamkrError(
                    "SE-V90",
                    "TensorRT made no execution context: not enough memory",
                    {"reason": reasons},
                    fix="close other programs that use the GPU, or run fewer threads",
                )
            raise SamkrError(
                "SE-V89", "TensorRT made no execution context", {"reason": reasons}, fix="samkr-edge doctor"
            )
        self.graph: Any = None
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.addresses: dict[str, int] = {}
        self.stream = cuda.stream()
        self.events: list[Any] = []
        try:
            # One event before the copy in, the network and the copy out each, and one at the end.
            self.events += (cuda.event() for _ in range(4))
            self._allocate(trt, engine, batch)
        except BaseException:
            with suppress(SamkrError):  # the first error is the one to report
                self.close()
            raise

    def _allocate(self, trt: Any, engine: Any, batch: int | None) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in inputs:
            shape = tuple(engine.get_tensor_shape(name))
            if -1 in shape:
                self.context.set_input_shape(name, (batch or 1, *shape[1:]))
        for name in names:
            shape = tuple(self.context.get_tensor_shape(name))
            host = self.cuda.pinned(shape, numpy_type(engine.get_tensor_dtype(name), name))
            (self.inputs if name in inputs else self.outputs)[name] = host
            self.addresses[name] = self.cuda.alloc(host.nbytes)
            self.context.set_tensor_address(name, self.addresses[name])

    def run(self) -> tuple[float, float, float]:
        """Copy in, run, copy out, and wait; milliseconds of the three, by events on the stream."""
        cuda, (begin, inside, computed, end) = self.cuda, self.events
        cuda.record(begin, self.stream)
        for name, host in self.inputs.items():
            cuda.to_device(self.addresses[name], host, self.stream)
        cuda.record(inside, self.stream)
        self.enqueue()
        cuda.record(computed, self.stream)
        for name, host in self.outputs.items():
            cuda.to_host(host, self.addresses[name], self.stream)
        cuda.record(end, self.stream)
        cuda.synchronize(self.stream)
        return (
            cuda.elapsed_ms(begin, inside),
            cuda.elapsed_ms(inside, computed),
            cuda.elapsed_ms(computed, end),
        )

    def time_network(self) -> float:
        """Milliseconds of the network alone, on the input of the last copy in."""
        _, begin, end, _ = self.events
        self.cuda.record(begin, self.stream)
        self.enqueue()
        self.cuda.record(end, self.stream)
        return self.cuda.elapsed_ms(begin, end)

    def enqueue(self) -> None:
        """The network alone, without waiting: by the captured graph where there is one."""
        if self.graph is not None:
            self.cuda.launch(self.graph, self.stream)
        elif not self.context.execute_async_v3(stream_handle=self.stream):
            raise SamkrError(
                "SE-V89",
                "TensorRT refused to run the engine",
                {"reason": self._messages.reasons()},
                fix="samkr-edge doctor",
            )

    def capture(self) -> str | None:
        """Capture ``enqueue`` as a CUDA graph; returns why that was not possible, or None.

        The copies stay outside, as in trtexec: an event inside a graph cannot be timed, and they are three calls
        next to the hundreds of kernel launches that a graph saves.
        """
        self.run()  # TensorRT allocates in the first call, which must not be captured
        try:
            self.cuda.begin_capture(self.stream)
            try:
                self.enqueue()
            except BaseException:
                # Until the capture ends the stream does nothing else.
                with suppress(SamkrError):
                    self.cuda.free_graph(self.cuda.end_capture(self.stream))
                raise
            self.graph = self.cuda.end_capture(self.stream)
        except SamkrError as refusal:  # an old driver, pycuda, or a layer that waits for the GPU
            return refusal.sentence()
        except Exception as error:  # a binding that raises where others return False
            return reason_of(error)
        return None

    def close(self) -> None:
        """Free everything; the context first, since it holds the addresses."""
        self.context = None
        if self.graph is not None:
            self.cuda.free_graph(self.graph)
        for address in self.addresses.values():
            self.cuda.free(address)
        for host in (*self.inputs.values(), *self.outputs.values()):
            self.cuda.free_pinned(host)
        for event in self.events:
            self.cuda.free_event(event)
        self.events.clear()  # pycuda frees an event with its last reference
        self.cuda.free_stream(self.stream)


class TensorRTRunner:
    """A TensorRT engine of ours; see ``samkr_edge.runtime.runner.Runner``.

    Args:
        path: the engine, with its passport next to it.
        cuda_graph: launch the network as one CUDA graph. Where it cannot be captured the runner works without, and
            ``graph_note`` says why.
        backend: the way to the driver, one of ``samkr_edge.runtime.cuda.BACKENDS``. The default, ``driver``, needs no
            package and can do all that the others can; ``cuda-python`` and ``pycuda`` are for a process that works with
            that package anyway and wants one set of bindings. ``pycuda`` has no CUDA graphs.

    Raises:
        SamkrError: what ``samkr_edge.preflight.preflight`` refuses; SE-A27 its card is of another network; SE-V86
            TensorRT does not start here; SE-V89 it refuses the engine; SE-V90 memory is short; SE-V83 a CUDA call
            fails; SE-V99 the backend
            that was named cannot be opened.
    """

    kind = "engine"

    def __init__(self, path: str | Path, *, cuda_graph: bool = False, backend: str | None = None) -> None:
        require_gpu()  # without a GPU TensorRT would end the process
        self.path = Path(path)
        self.passport, data = admit(self.path)
        self.card = self.passport.card_of(self.path)
        self.graph_note: str | None = None
        self.power_note = power_note(self.path, self.passport, running_device())
        self._trt, self._wants_graph = import_tensorrt(self.passport.runtime), cuda_graph
        require_fitting_driver(self._trt, self.passport.runtime)
        self._title = TITLES[self.passport.runtime]
        self._kernels: FinishedKernels | None = None
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._lanes: list[Lane] = []
        self._idle: list[Lane] = []
        self._busy = 0
        self._times = threading.local()
        self._engine: Any = None
        self._cuda = open_cuda(backend)
        self._open = True
        try:
            self._load(data)
        except BaseException:
            with suppress(SamkrError):  # the first error is the one to report
                self.close()
            raise

    def _load(self, data: bytes) -> None:
        with self._cuda.bound():
            messages = listen(self._trt)
            self._runtime = start(self._trt.Runtime, self._trt, self.passport.runtime, messages)
            if "VERSION_COMPATIBLE" in self.passport.settings.get("builder_flags", ()):
                # Such an engine contains its own lean runtime; by now its bytes are known to be ours.
                self._runtime.engine_host_code_allowed = True
            core = self.passport.settings.get("dla_core")
            if core is not None:
                # An engine does not store its DLA core: without this all run on core 0 (microsoft/onnxruntime#26680).
                self._require_dla(core)
                self._runtime.DLA_core = core
            self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise SamkrError(
                "SE-V89",
                f"{self._title} refuses to load {self.path.name}",
                {"reason": messages.reasons()},
                fix=self.passport.build_again(self.path, target="auto"),
            )
        if self.passport.runtime == "rtx":
            with self._cuda.bound():
                self._kernels = FinishedKernels(self._engine, kernels_path(self.passport, running_device()))
        self._batch_wish = self.passport.settings.get("profile_batch")
        with self._lane() as lane:  # the first one is made now, so that too little memory shows here
            inputs, outputs = (
                {n: held.shape for n, held in ends.items()} for ends in (lane.inputs, lane.outputs)
            )
        check_card(self.path.name, self.card, inputs, outputs, fix=self.passport.build_again(self.path))

    def _require_dla(self, core: int) -> None:
        """This device's profile has a DLA (preflight); a container may have no access to it."""
        cores = self._runtime.num_DLA_cores
        if core >= cores:
            raise SamkrError(
                "SE-A86",
                f"{self.path.name} runs on DLA core {core}, which {self._title} does not see, so it was not loaded",
                {"cores": cores},
                fix="give the container the DLA (--runtime nvidia), or build for the GPU: leave --dla-core out",
            )

    @property
    def batch(self) -> int:
        """Images per inference."""
        return int(self._lanes[0].inputs[INPUT].shape[0])

    @property
    def last_run_ms(self) -> tuple[float, float, float] | None:
        """(copy in, network, copy out) of the calling thread's last ``run``, in milliseconds of GPU time."""
        return getattr(self._times, "last", None)

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """The maps (N, C, h, w), or what ``Runner`` says, of a batch uint8 (N, H, W, 3).

        The batch is cut and padded to the size the engine was built for.
        """
        with self._lane() as lane:
            image = lane.inputs[INPUT]
            size = len(image)
            parts: list[tuple[np.ndarray, ...]] = []
            times: list[tuple[float, float, float]] = []
            for start in range(0, len(batch), size):
                part = batch[start : start + size]
                if part.shape[1:] != image.shape[1:]:
                    raise ValueError(f"expected images {image.shape[1:]}, found {part.shape[1:]}")
                image[: len(part)] = part
                image[len(part) :] = 0
                times.append(lane.run())
                parts.append(
                    tuple(np.array(lane.outputs[n][: len(part)], np.float32) for n in self.card.outputs)
                )
            if self._kernels is not None:
                with self._lock:
                    self._kernels.keep()
        self._times.last = tuple(map(sum, zip(*times, strict=True)))
        if len(parts) == 1:
            return parts[0]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def gpu_milliseconds(self, repeats: int) -> list[float]:
        """GPU time of ``repeats`` inferences, without copies, by CUDA events."""
        with self._lane() as lane:
            return [lane.time_network() for _ in range(repeats)]

    def layer_milliseconds(self, runs: int, warm_up: int = 10) -> list[dict[str, float]]:
        """Layer name -> milliseconds, for each of ``runs`` inferences of an empty image, by TensorRT's profiler.

        It uses a separate execution context: one with a profiler waits for the GPU after every inference.
        """
        profiler = make_profiler(self._trt)
        with self._cuda.bound():
            lane = Lane(self._trt, self._engine, self._cuda, self._batch_wish, self._kernels)
            try:
                for _ in range(warm_up):
                    lane.run()
                lane.context.profiler = profiler
                lane.context.enqueue_emits_profile = True  # waits for the GPU; all depends on this default
                for _ in range(runs):
                    profiler.begin()
                    lane.run()
            finally:
                lane.close()
        return profiler.runs

    def layers(self) -> str:
        """The engine inspector's report on every layer, JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free everything, TensorRT's objects before the CUDA context, once other threads have returned their lanes.

        Calling it again does nothing.
        """
        with self._returned:
            if not self._open:
                return
            self._open = False
            if not self._returned.wait_for(lambda: not self._busy, _CLOSE_S):
                return
            try:
                with self._cuda.bound():
                    for lane in self._lanes:
                        lane.close()
                    self._lanes, self._idle = [], []
                    self._kernels = self._engine = self._runtime = None  # what was made last is freed first
            finally:
                self._cuda.close()

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        """An idle lane, or a new one, with the CUDA context bound to the calling thread."""
        with self._lock:
            if not self._open:
                raise ValueError("this model is closed")
            with self._cuda.bound():
                lane = self._idle.pop() if self._idle else self._new_lane()
            self._busy += 1
        try:
            with self._cuda.bound():
                yield lane
        finally:
            with self._returned:
                self._idle.append(lane)
                self._busy -= 1
                self._returned.notify()

    def _new_lane(self) -> Lane:
        lane = Lane(self._trt, self._engine, self._cuda, self._batch_wish, self._kernels)
        self._lanes.append(lane)
        if self._wants_graph:
            self.graph_note = lane.capture() or self.graph_note
        return lane


def open_engine(path: Path, threads: int, *, cuda_graph: bool = False) -> TensorRTRunner:
    """Open an engine; ``threads`` counts CPU threads of a network and means nothing here."""
    return TensorRTRunner(path, cuda_graph=cuda_graph)
