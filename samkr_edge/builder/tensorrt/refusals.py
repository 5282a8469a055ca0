"""What cannot be built, and why: device, graph and wishes are checked against the TensorRT version. Pure.

Codes: SE-V88 the device cannot compute this precision, SE-V80 this TensorRT is not for the device, SE-V81 there is no
such DLA, SE-B88 TensorRT cannot build this graph (or builds it and computes something else), SE-U88 the graph has
another precision than the one asked for, SE-U36 calibration that is impossible here, or needed but not given, SE-U83
this build has no such option.
"""

from __future__ import annotations

from samkr_edge.builder.tensorrt.features import (
    NEWEST_MAJOR,
    OLDEST,
    RTX_INT8,
    RTX_NEWEST,
    RTX_NO_INT8,
    RTX_OLDEST,
    Features,
)
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import OnnxFacts
from targets.profile import Target, version_tuple

# Tensor cores support FP8 from Ada on.
FP8_CAPABILITY = (8, 9)

# TensorRT versions between the Jetson packages' last DLA support and its return: docs 11.3.0 and 11.4.1.
DLA_GONE = (10, 8)


def check_device(target: Target, features: Features, wishes: Wishes, precision: str) -> None:
    limit = target.refusal("int8") if precision == "int8" else None
    if limit:
        raise SamkrError(
            "SE-V88",
            f"{target.title} cannot run INT8, so nothing was built",
            {"reason": limit.why},
            fix=limit.instead,
        )
    if precision == "fp8":
        _check_fp8(target, features)
    if features.flavour == "rtx":
        _check_rtx(target, features, wishes, precision)
        return
    if target.compute_capabilities:
        raise SamkrError(
            "SE-V80",
            f"{target.title}: one engine of TensorRT cannot run on all of them, so nothing was built",
            {"SM": ", ".join(target.compute_capabilities)},
            fix="leave --flavour out: TensorRT for RTX builds for all of them",
        )
    number = features.number
    if number[0] > NEWEST_MAJOR:
        raise SamkrError(
            "SE-V80",
            f"{features.title} is newer than samkr-edge knows, so nothing was built",
            {"known": f"{'.'.join(map(str, OLDEST))} to {NEWEST_MAJOR}.x"},
            fix="pip install --upgrade samkr-edge",
        )
    old = not features.tensor_names
    if old and not target.refusal("gridsample"):
        raise SamkrError(
            "SE-V80",
            f"{features.title} is too old, so nothing was built",
            {"needed": f"{'.'.join(map(str, OLDEST))}: from there on it has GridSample and named tensors"},
            fix="update the device to JetPack 5.1 or later"
            if target.family == "jetson"
            else "update TensorRT",
        )
    if target.tensorrt and number[:2] < version_tuple(target.tensorrt[0]):
        raise SamkrError(
            "SE-V80",
            f"{features.title} does not support {target.title}, so nothing was built",
            {"SM": target.compute_capability, "needed": f"TensorRT {target.tensorrt[0]} or later"},
            fix=f"install TensorRT {target.tensorrt[0]} or later",
        )
    if wishes.dla_core is not None:
        _check_dla(target, features, wishes, precision)


def _check_fp8(target: Target, features: Features) -> None:
    old = [one for one in target.capabilities if version_tuple(one) < FP8_CAPABILITY]
    reason = None
    if old or not target.capabilities:
        reason = f"SM {', '.join(old) or 'unknown'}: FP8 begins at {'.'.join(map(str, FP8_CAPABILITY))} (Ada)"
    elif not features.strongly_typed:
        reason = f"{features.title} has no strongly typed networks; TensorRT 10 has"
    if reason:
        raise SamkrError(
            "SE-V88",
            f"{target.title} cannot run FP8 here, so nothing was built",
            {"reason": reason, "instead": "--precision fp16, or quantize to INT8"},
            fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
        )


def without(precision: str, target: Target, features: Features) -> list[str]:
    """Compute capabilities of a target for which TensorRT for RTX builds no INT8 or no FP8.

    INT8 becomes FP16 in any engine that serves one of them; FP8 is refused.
    """
    if features.flavour != "rtx":
        return []
    if precision == "fp8":
        return [one for one in target.capabilities if version_tuple(one) < FP8_CAPABILITY]
    return [one for one in target.capabilities if precision == "int8" and one in RTX_NO_INT8]


def _check_rtx(target: Target, features: Features, wishes: Wishes, precision: str) -> None:
    if version_tuple(features.version) < RTX_OLDEST:
        raise SamkrError(
            "SE-V80",
            f"{features.title} is too old, so nothing was built",
            {"needed": f"TensorRT for RTX {'.'.join(map(str, RTX_OLDEST))}"},
            fix='pip install --upgrade "samkr-edge[rtx]"',
        )
    unknown = [one for one in target.capabilities if one not in features.capabilities]
    if unknown or not target.capabilities:
        raise SamkrError(
            "SE-V80",
            f"{features.title} does not build for {target.title}, so nothing was built",
            {
                "asked": f"SM {', '.join(unknown) or 'unknown'}",
                "known": f"SM {', '.join(features.capabilities)}",
            },
            fix="leave --flavour out: TensorRT itself builds on the device",
        )
    if version_tuple(features.version)[0] > version_tuple(RTX_NEWEST)[0]:
        raise SamkrError(
            "SE-V80",
            f"{features.title} is newer than samkr-edge knows, so nothing was built",
            {"known": f"up to {RTX_NEWEST}"},
            fix="pip install --upgrade samkr-edge",
        )
    if precision == "int8" and version_tuple(features.version) < RTX_INT8:
        raise SamkrError(
            "SE-V88",
            f"{features.title} cannot build INT8 convolutions, so nothing was built",
            {"needed": f"TensorRT for RTX {'.'.join(map(str, RTX_INT8))}", "instead": "--precision fp16"},
            fix='pip install --upgrade "samkr-edge[rtx]"',
        )
    if precision == "int8" and without("int8", target, features):
        raise SamkrError(
            "SE-V88",
            f"{features.title} builds no INT8 for {target.title}, so nothing was built",
            {
                "reason": f"SM {', '.join(RTX_NO_INT8)}: its builder runs INT8 in FP16 there, "
                "and on every other card that the engine serves",
                "instead": "--precision fp16, or --target rtx-30-and-up",
            },
            fix="--precision fp16",
        )
    asked = {
        "--hardware-compatible": wishes.hardware_compatible,
        "--version-compatible": wishes.version_compatible,
        "--dla-core": wishes.dla_core is not None,
    }
    given = [name for name, value in asked.items() if value]
    if given:
        raise SamkrError(
            "SE-U83",
            f"{', '.join(given)}: TensorRT for RTX has no such option, so nothing was built",
            {"instead": "one engine for every GeForce RTX: --target rtx-any"},
            fix=f"leave {' and '.join(given)} out",
        )


def _check_dla(target: Target, features: Features, wishes: Wishes, precision: str) -> None:
    limit = target.refusal("dla")
    if limit or not target.dla_cores:
        why = limit.why if limit else "it has no DLA"
        raise SamkrError(
            "SE-V81",
            f"{target.title} cannot build for a DLA",
            {"reason": why},
            fix="leave --dla-core out",
        )
    if (wishes.dla_core or 0) >= target.dla_cores:
        raise SamkrError(
            "SE-V81",
            f"{target.title} has no DLA core {wishes.dla_core}",
            {"cores": f"0 to {target.dla_cores - 1}"},
            fix="--dla-core 0",
        )
    if features.number >= DLA_GONE:
        raise SamkrError(
            "SE-V81",
            f"{features.title} cannot build for a DLA here",
            {
                "has it": "8.5 to 10.7, and 11.4.1 for graphs converted for the DLA, which are not supported yet"
            },
            fix="leave --dla-core out",
        )
    if precision == "int8" and not wishes.calibrate:
        raise SamkrError(
            "SE-U36",
            "a DLA takes no Q/DQ graph; its INT8 ranges come from calibration",
            {"TensorRT": features.version},
            fix="--precision fp16, or an FP32 graph with --calibrate IMAGES.txt",
        )


def check_graph(target: Target, features: Features, onnx: OnnxFacts, precision: str) -> None:
    if onnx.built_for:
        raise _refused(
            f"this graph was already built for `{onnx.built_for}`, which changed it",
            None,
            "start from the exported ONNX",
        )
    modes = [mode for mode in onnx.grid_modes if mode not in ("bilinear", "nearest")]
    if onnx.samples and (onnx.opset >= 20 or modes):
        raise _refused(
            "TensorRT would sample this graph at the nearest pixel, silently, so nothing was built",
            {
                "GridSample": f"opset {onnx.opset}, mode {', '.join(onnx.grid_modes)}",
                "reason": "TensorRT reads the names from before opset 20 only",
            },
            "samkr-edge export CHECKPOINT -o model.onnx --opset 17",
        )
    limit = target.refusal("gridsample")
    if onnx.samples and features.number < OLDEST:
        raise _refused(
            f"{features.title} has no GridSample, so nothing was built",
            {"reason": limit.why} if limit else {"needed": f"TensorRT {'.'.join(map(str, OLDEST))}"},
            "train and export a *_nodc network: samkr-edge models",
        )
    if "DeformConv" in onnx.ops:
        raise _refused(
            "TensorRT runs DeformConv through a plugin, which no export of samkr-edge needs, so nothing was built",
            {"graph": f"{onnx.ops['DeformConv']} of them", "instead": "GridSample, which export writes"},
            "samkr-edge export CHECKPOINT -o model.onnx",
        )
    # Opsets 18 and 19 allow scale types that the 8.x parser does not.
    highest = 17 if features.number < (10,) else 19 if onnx.samples else 21
    if onnx.opset > highest:
        raise _refused(
            f"{features.title} takes this graph up to opset {highest}, so nothing was built",
            {"found": f"opset {onnx.opset}"},
            f"samkr-edge export CHECKPOINT -o model.onnx --opset {min(highest, 19)}",
        )
    if onnx.broken_weights:
        raise _refused(
            "weights or scales of this graph are NaN or infinite, so nothing was built",
            {"found": ", ".join(onnx.broken_weights[:3])},
            "train or quantize again; `samkr-edge eval` shows which checkpoint is sound",
        )
    if precision in ("int8", "fp8"):
        _check_quantizers(features, onnx)


def _check_quantizers(features: Features, onnx: OnnxFacts) -> None:
    again = "samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx"
    if onnx.zero_points:
        raise _refused(
            "TensorRT takes symmetric INT8 only: every zero point must be a signed 0",
            {"found": ", ".join(onnx.zero_points[:3])},
            again,
        )
    if onnx.bad_scales:
        raise _refused(
            "a quantization scale is not positive: its channel never fired while calibrating",
            {"found": ", ".join(onnx.bad_scales[:3])},
            again,
        )
    if features.number < (10,) and onnx.fp16_scales:
        raise _refused(
            f"{features.title} would read these FP16 scales as FP32, which gives noise",
            {"found": f"{onnx.fp16_scales} FP16 scales", "needed": "TensorRT 10, or FP32 scales"},
            "samkr-edge export CHECKPOINT -o model.onnx --opset 17",
        )
    if features.number < (10,) and onnx.bare_quantizers:
        raise _refused(
            f"{features.title} wants a zero point on every quantizer",
            {"without": onnx.bare_quantizers},
            again,
        )


def check_precision(features: Features, onnx: OnnxFacts, wishes: Wishes, precision: str) -> None:
    if wishes.calibrate and (precision != "int8" or onnx.quantized):
        raise SamkrError(
            "SE-U36",
            "calibration images only make sense for an INT8 engine of a graph without Q/DQ",
            {"asked": precision, "graph": onnx.precision},
            fix="leave --calibrate out",
        )
    if wishes.calibrate and not features.calibrators:
        raise SamkrError(
            "SE-U36",
            f"{features.title} does not calibrate: INT8 comes as Q/DQ in the graph",
            {"has it": "TensorRT up to 10"},
            fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
        )
    if precision == "int8" and onnx.precision != "int8" and not wishes.calibrate:
        raise SamkrError(
            "SE-U88",
            "this graph holds no INT8, so no INT8 engine can be built from it",
            {"graph": f"{onnx.precision}{'' if onnx.quantized else ', no Q/DQ'}"},
            fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
        )
    if precision == "fp8" and onnx.precision != "fp8":
        raise SamkrError(
            "SE-U88",
            "this graph holds no FP8, so no FP8 engine can be built from it",
            {"graph": onnx.precision},
            fix="samkr-edge quantize CHECKPOINT --data DIR --format fp8 -o fp8.pt "
            "&& samkr-edge export fp8.pt -o fp8.onnx",
        )
    if precision == "fp32" and onnx.weights == "fp16":
        raise SamkrError(
            "SE-U88",
            "this graph is FP16 already, so no FP32 engine can be built from it",
            fix="samkr-edge export CHECKPOINT -o model.onnx",
        )


def _refused(message: str, facts: dict[str, object] | None, fix: str) -> SamkrError:
    return SamkrError("SE-B88", message, facts, fix=fix)
