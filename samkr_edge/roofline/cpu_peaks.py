"""What this machine's cores can do, measured: the best of a few big operations in ONNX Runtime, and of copies.

A second in all, once a process. The best run counts, and a little more: a peak must not be below what a network
reaches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.onnx_graph.onnx_file import DTYPES, FLOAT, INT32, UINT8, OnnxFile, Value, make_node
from samkr_edge.onnx_graph.protobuf import block_field, number_field
from samkr_edge.runtime.onnx_runtime import session_options
from targets.peaks import Peaks

# A core's clock moves while nothing else does: what it reached is raised by so much.
_CLOCK = 1.02
# Seconds for each operation and each copy.
_EACH = 0.08
# Bytes that a copy reads and writes: in a core's own cache, in the shared one, in memory.
_COPIED = (2**18, 2**22, 2**26)
# Rows and columns of the matrices; (channels, rows and columns) of the maps. A layer of a network can be as fast as the
# best of these: deep sums over maps that stay in a cache.
_MATRIX = 512
_MAPS = ((256, 16), (512, 14))


@cache
def cpu_peaks(threads: int = 1) -> Peaks:
    """The peaks of this many of this machine's cores, in FP32 and INT8.

    What fits into the next larger copy is counted at the rate of the smaller one, so that no cache is taken for smaller
    than it is.
    """
    macs = {
        precision: max(
            _rate(work, threads)
            for work in (_matrices(product), *(_convolution(convolution, *shape) for shape in _MAPS))
        )
        for precision, product, convolution in (
            ("fp32", "MatMul", "Conv"),
            ("int8", "MatMulInteger", "QLinearConv"),
        )
    }
    rates = [_copy_rate(size, threads) for size in _COPIED]
    reach = [float(size) for size in _COPIED[1:]]
    sizes = [below - before for before, below in zip((0.0, *reach), (*reach, math.inf), strict=True)]
    # A noisy moment must not make a near memory slower than a far one.
    return Peaks(macs, tuple((size, max(rates[at:])) for at, size in enumerate(sizes)))


def _rate(work: tuple[OnnxFile, int], threads: int) -> float:
    """Multiply-accumulates a second of a graph, its best run."""
    model, macs = work
    session = import_onnxruntime().InferenceSession(
        model.encode(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    feed = {value.name: _noise(value) for value in model.inputs}
    return _CLOCK * macs / _best(lambda: session.run(None, feed))


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the fastest run, after one to warm up."""
    work()
    best, until = math.inf, time.perf_counter() + _EACH
    while time.perf_counter() < until:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _copy_rate(moved: int, threads: int) -> float:
    """Bytes a second, read and written, of the best copy that moves so many in each thread."""
    pairs = [(np.ones(moved // 2, np.uint8), np.zeros(moved // 2, np.uint8)) for _ in range(threads)]
    if threads == 1:
        ((source, copy),) = pairs
        return _CLOCK * moved / _best(lambda: np.copyto(copy, source))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return _CLOCK * threads * moved / seconds


def _noise(value: Value) -> np.ndarray:
    shape = [size or 1 for size in value.shape]
    return np.random.default_rng(0).integers(0, 100, shape).astype(DTYPES[value.elem_type])


def _matrices(operation: str) -> tuple[OnnxFile, int]:
    """The product of two square matrices, and its multiply-accumulates."""
    integers = operation == "MatMulInteger"
    kind, result = (UINT8, INT32) if integers else (FLOAT, FLOAT)
    shape = (_MATRIX, _MATRIX)
    weights = np.ones(shape, np.int8 if integers else np.float32)
    return _graph(operation, Value("x", kind, shape), result, shape, {"w": weights}, ["x", "w"]), _MATRIX**3


def _convolution(operation: str, channels: int, side: int) -> tuple[OnnxFile, int]:
    """A 3x3 convolution, and its multiply-accumulates."""
    integers = operation == "QLinearConv"
    kind = UINT8 if integers else FLOAT
    shape = (1, channels, side, side)
    weights = np.ones((channels, channels, 3, 3), np.int8 if integers else np.float32)
    one, zero = np.float32(1), np.uint8(0)
    scales = {"sx": one, "zx": zero, "sw": one, "zw": np.int8(0), "sy": np.float32(1e3), "zy": zero}
    inputs = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"] if integers else ["x", "w"]
    tensors = {
        "w": weights,
        **({name: np.asarray(value) for name, value in scales.items()} if integers else {}),
    }
    model = _graph(operation, Value("x", kind, shape), kind, shape, tensors, inputs, pads=[1, 1, 1, 1])
    return model, weights.size * side * side


def _graph(
    operation: str,
    image: Value,
    result: int,
    shape: tuple[int, ...],
    tensors: dict[str, np.ndarray],
    inputs: list[str],
    pads: list[int] | None = None,
) -> OnnxFile:
    """A model of one operation, written without the onnx package, which a device does not have."""
    node = make_node(operation, inputs, ["y"])
    if pads:
        held = b"".join(number_field(8, one) for one in pads) + number_field(20, 7)
        node.rest += block_field(5, block_field(1, b"pads") + held)
    # IR version and opset of every ONNX Runtime since 1.10.
    head = [number_field(1, 8), block_field(8, number_field(2, 13))]
    model = OnnxFile([node], {}, [image], [], 13, {}, [block_field(2, b"peak")], head)
    for name, values in tensors.items():
        model.add_tensor(name, values)
    model.add_output(Value("y", result, shape))
    return model
