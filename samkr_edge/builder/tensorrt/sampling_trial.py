"""The smallest network with samkr-edge's sampling, and the test whether its engine samples correctly.

An engine can sample at the nearest pixel, or on a rounded grid, and still look right at first sight. Here every tap is
off by a fraction of a pixel, so that both show. Values and shifts are exact in FP16, and every convolution is the
identity, so that any error of an engine is its sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.runtime.onnx_runtime import session_options

# `fp32`: only FP32. `fp16`: the same graph, for a weakly typed network with the FP16 flag.
# `fp32_in_fp16`: strongly typed, FP16 around a sampling in FP32, as samkr_edge/builder/tensorrt/half.py writes it.
Form = Literal["fp32", "fp16", "fp32_in_fp16"]
FEATURES, SHIFTS, SAMPLED = "features", "shifts", "sampled"
# The largest allowed difference: from TF32 and the order of sums; from rounding samples to FP16.
LARGEST_ERROR: dict[Form, float] = {"fp32": 1e-3, "fp16": 1e-2, "fp32_in_fp16": 1e-2}
# The least difference between bilinear and nearest sampling.
FROM_NEAREST = 0.1
OPSET = 17


@dataclass(frozen=True)
class SamplingCase:
    """One sampling and its expected result.

    Attributes:
        inputs: ``features`` float32 (1, C, H, W) and ``shifts`` float32 (1, 2P, H, W): for every pixel and tap, the
            shift to the sampled point, x then y, in map pixels.
        expected: ``sampled`` float32 (1, C*P, H, W), channel then tap, by ONNX Runtime.
        nearest: the same at the nearest pixel.
    """

    inputs: dict[str, np.ndarray]
    expected: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True)
class Sampled:
    """How far samples are from the expected ones, and from nearest sampling: largest absolute differences."""

    error: float
    from_nearest: float

    def holds(self, form: Form) -> bool:
        """False also where a sample is NaN."""
        return self.error <= LARGEST_ERROR[form] and self.from_nearest > FROM_NEAREST


def sampling_graph(channels: int, height: int, width: int, points: int, form: Form) -> bytes:
    """A serialized ONNX model that samples a map, with an adaptive block's arithmetic and convolutions.

    Bilinear, zeros outside the map, ``align_corners`` 0: pixel i lies at ``(2 i + 1) / size - 1``, as
    ``training.models.adaptive_conv.sample_taps`` exports it.

    Args:
        channels: of the map; the networks have 16 for each keypoint.
        height: of the map; 128 with ``samkr_w32`` at 512x512.
        width: of the map.
        points: taps at every pixel; the networks have nine.
    """
    from samkr_edge.builder.tensorrt.half import to_half

    model = _float_graph(channels, height, width, points, "bilinear")
    return bytes((to_half(model) if form == "fp32_in_fp16" else model).SerializeToString())


def sampling_case(channels: int, height: int, width: int, points: int) -> SamplingCase:
    """Inputs for ``sampling_graph`` of the same sizes, and its results by ONNX Runtime."""
    random = np.random.default_rng(0)
    # 7 bits and a sign: exact in FP16, and in the TF32 of a convolution.
    features = random.integers(-127, 128, (1, channels, height, width)).astype(np.float32) / 128
    far_x, far_y = width // 2, height // 2  # the far border, where FP16 steps are widest, and beyond it
    # Halves and quarters of a pixel distinguish bilinear from nearest; 47/128 shows a grid rounded to FP16.
    ways = [
        (0.25, 0.25), (0.5, -0.25), (-0.25, 0.5), (47 / 128, -47 / 128), (far_x + 0.25, far_y + 0.5),
        (-0.5, -0.25), (-far_x - 0.25, 0.25), (0.5, 0.5), (far_x - 0.5, -far_y + 0.25),
    ]  # fmt: skip
    shifts = np.array([ways[tap % len(ways)] for tap in range(points)], np.float32)
    inputs = {
        FEATURES: features,
        SHIFTS: np.broadcast_to(shifts.reshape(1, 2 * points, 1, 1), (1, 2 * points, height, width)).copy(),
    }
    expected, nearest = (
        _computed(_float_graph(channels, height, width, points, mode), inputs)
        for mode in ("bilinear", "nearest")
    )
    return SamplingCase(inputs, expected, nearest)


def compare_samples(case: SamplingCase, found: np.ndarray) -> Sampled:
    """``found``: an engine's output for the case's inputs, float (1, C*P, H, W)."""
    return Sampled(*(float(np.abs(found - one).max()) for one in (case.expected, case.nearest)))


def _float_graph(channels: int, height: int, width: int, points: int, mode: str) -> Any:
    """features -> 2 convolutions -> GridSample -> 2 convolutions, and one more: the last of a network is FP32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    taps = channels * points
    rows, columns = np.divmod(np.arange(height * width), width)
    size = np.array([width, height], np.float32).reshape(1, 1, 2, 1)
    constants = {
        "map_weight": np.eye(channels, dtype=np.float32)[:, :, None, None],
        "shift_weight": np.eye(2 * points, dtype=np.float32)[:, :, None, None],
        # One group per channel, as the kernels of an adaptive convolution have one per branch.
        "tap_weight": np.tile(np.eye(points, dtype=np.float32), (channels, 1))[:, :, None, None],
        "apart": np.array([1, points, 2, height * width], np.int64),
        "pixels": np.stack([columns, rows]).astype(np.float32)[None, None],
        "factor": 2 / size,
        "start": 1 / size - 1,
        "grid_shape": np.array([1, points * height, width, 2], np.int64),
        "taps_shape": np.array([1, taps, height, width], np.int64),
    }
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", [FEATURES, "map_weight"], "before", {}),
        ("Conv", ["before", "map_weight"], "map", {}),
        ("Conv", [SHIFTS, "shift_weight"], "shifts_before", {}),
        ("Conv", ["shifts_before", "shift_weight"], "moved", {}),
        ("Reshape", ["moved", "apart"], "moved_apart", {}),
        ("Add", ["moved_apart", "pixels"], "places", {}),
        ("Mul", ["places", "factor"], "scaled", {}),
        ("Add", ["scaled", "start"], "coordinates", {}),
        ("Transpose", ["coordinates"], "last_axis", {"perm": [0, 1, 3, 2]}),
        ("Reshape", ["last_axis", "grid_shape"], "grid", {}),
        ("GridSample", ["map", "grid"], "samples", {
            "mode": mode, "padding_mode": "zeros", "align_corners": 0,
        }),
        ("Reshape", ["samples", "taps_shape"], "taps", {}),
        ("Conv", ["taps", "tap_weight"], "adapted", {"group": channels}),
        ("Conv", ["adapted", "tap_weight"], "after", {"group": channels}),
        ("Conv", ["after", "tap_weight"], SAMPLED, {"group": channels}),
    ]  # fmt: skip

    def value(name: str, count: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, height, width])

    graph = helper.make_graph(
        [helper.make_node(op, inputs, [out], name=f"/{out}/{op}", **more) for op, inputs, out, more in nodes],
        "sampling",
        [value(FEATURES, channels), value(SHIFTS, 2 * points)],
        [value(SAMPLED, taps)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _computed(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    onnxruntime = import_onnxruntime()

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run([SAMPLED], inputs)[0])
