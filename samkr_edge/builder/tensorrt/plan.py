"""Plan a build: target, version, graph and wishes in; explicit settings or a refusal out. Pure.

Nothing here touches TensorRT, so that ``build --dry-run`` shows on any machine what a device would do, and every row of
the JetPack matrix is a test. If a version forces a choice, a note says so.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from samkr_edge.builder.tensorrt.features import RTX_NEWEST, Features
from samkr_edge.builder.tensorrt.refusals import check_device, check_graph, check_precision, without
from samkr_edge.builder.tensorrt.typing_choice import (
    CLEARED,
    bakes,
    choose_typing,
    network_flags,
    precision_flags,
)
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.machine.tensorrt_module import TITLES, Flavour
from samkr_edge.onnx_graph.onnx_facts import OnnxFacts
from targets.profile import Target, version_tuple

MIB = 1 << 20
# Tactics of a pose network at 512x512 need some hundred MiB; more than this gains nothing and starves shared memory.
MOST_WORKSPACE, LEAST_WORKSPACE = 4096 * MIB, 128 * MIB


@dataclass(frozen=True)
class BuildPlan:
    """Explicit settings of one build.

    Attributes:
        target, tensorrt: profile name and version; ``flavour`` is ``tensorrt``, or ``rtx`` for TensorRT for RTX.
        compute_capabilities: that the engine is built for ahead of time; empty if a GPU builds for itself.
        precision: of the engine; ``typing`` is ``weak`` (flags) or ``strong`` (types of the graph).
        steps: edits of the graph, by the names of ``samkr_edge.builder.tensorrt.edits.prepare``.
        network_flags, builder_flags: names of enum members; ``cleared_flags``: those set by default that are cleared.
        input_shape: (N, H, W, 3); ``profile_batch`` is set if the graph leaves N open.
        workspace_bytes: cap of the scratch memory.
        optimization_level: None if the version has none.
        hardware_compatibility: name of the level, or None.
        dla_core: or None.
        calibrate: with the entropy calibrator.
        timing_cache: file name of the timing cache; None if nothing is timed.
        by_hand: command that builds on the device, for versions that samkr-edge cannot run on.
        notes: what the user should know.
    """

    target: str
    tensorrt: str
    flavour: Flavour
    compute_capabilities: tuple[str, ...]
    precision: str
    typing: str
    steps: tuple[str, ...]
    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...]
    cleared_flags: tuple[str, ...]
    input_shape: tuple[int, ...]
    profile_batch: int | None
    workspace_bytes: int
    optimization_level: int | None
    hardware_compatibility: str | None
    dla_core: int | None
    calibrate: bool
    timing_cache: str | None
    by_hand: str | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        """The plan as text, one setting a line."""
        flags = " ".join((*self.network_flags, *self.builder_flags)) or "none"
        lines = {
            "precision": f"{self.precision}, {self.typing} typing",
            "flags": flags,
            "without": " ".join(self.cleared_flags) or None,
            "graph": ", ".join(self.steps) or "as exported",
            "input": "x".join(map(str, self.input_shape)) + (" by profile" if self.profile_batch else ""),
            "workspace": f"{self.workspace_bytes // MIB} MiB",
            "level": self.optimization_level
            if self.optimization_level is not None
            else "not in this version",
            "runs on": f"SM {', '.join(self.compute_capabilities)}" if self.compute_capabilities else None,
            "portable": None
            if self.compute_capabilities
            else self.hardware_compatibility or "this GPU model only",
            "DLA": f"core {self.dla_core}, GPU for the rest" if self.dla_core is not None else None,
            "calibration": "entropy, with cache" if self.calibrate else None,
            "timing cache": self.timing_cache,
        }
        text = [f"{self.target}, {TITLES[self.flavour]} {self.tensorrt}"]
        text += [f"  {name:<13}{value}" for name, value in lines.items() if value is not None]
        text += [f"  note         {note}" for note in self.notes]
        if self.by_hand:
            text.append(f"  by hand      {self.by_hand}")
        return "\n".join(text)


def plan_build(
    target: Target, features: Features, onnx: OnnxFacts, wishes: Wishes, free_bytes: int | None = None
) -> BuildPlan:
    """Decide every setting of a build.

    Args:
        free_bytes: memory the build may use (the GPU's; on a Jetson the free shared memory); None: half of the target
            profile's.

    Raises:
        SamkrError: SE-U90 the graph has another shape, SE-U85 there is less memory, SE-U83 an option does not apply
            here; and those of ``samkr_edge.builder.tensorrt.refusals``.
    """
    precision = wishes.precision or _default_precision(target, features, onnx, wishes)
    check_device(target, features, wishes, precision)
    check_graph(target, features, onnx, precision)
    shape, profile_batch = _shape(onnx, wishes)
    check_precision(features, onnx, wishes, precision)
    typing, typing_note = choose_typing(features, onnx, wishes, precision)
    steps = _steps(features, onnx, wishes, precision, typing)
    notes = [
        *([typing_note] if typing_note else []),
        *_notes(target, features, onnx, wishes, precision, steps),
    ]
    level = wishes.level if wishes.level is not None else 3
    return BuildPlan(
        target=target.name,
        tensorrt=features.version,
        flavour=features.flavour,
        compute_capabilities=target.capabilities if features.capabilities else (),
        precision=precision,
        typing=typing,
        steps=steps,
        network_flags=network_flags(features, typing),
        builder_flags=_builder_flags(wishes, precision, typing),
        cleared_flags=CLEARED,
        input_shape=shape,
        profile_batch=profile_batch,
        workspace_bytes=workspace(target, wishes, free_bytes),
        optimization_level=level if features.optimization_level else None,
        hardware_compatibility=_hardware_level(target, features, wishes),
        dla_core=wishes.dla_core,
        calibrate=wishes.calibrate,
        timing_cache=None if features.capabilities else timing_cache_name(target, features.version),
        by_hand=None if features.tensor_names else _by_hand(target, features.version, precision),
        notes=tuple(notes),
    )


def _default_precision(target: Target, features: Features, onnx: OnnxFacts, wishes: Wishes) -> str:
    """The precision of a quantized graph if the target runs it, else FP16."""
    if wishes.calibrate:
        return "int8"
    runs = onnx.quantized and not without(onnx.precision, target, features)
    return onnx.precision if runs else "fp16"


def _notes(
    target: Target,
    features: Features,
    onnx: OnnxFacts,
    wishes: Wishes,
    precision: str,
    steps: tuple[str, ...],
) -> list[str]:
    """Notes for the user on a plan, except on its typing."""
    notes = []
    if "bake_fp16" in steps and features.flavour == "tensorrt":
        why = "strongly typed" if features.precision_flags else f"{features.title} has no FP16 flag"
        notes.append(f"{why}: FP16 is baked into the graph, by the package onnx")
    if "drop_odd_groups" in steps:
        notes.append(
            f"{onnx.odd_groups} grouped convolutions stay float: INT8 takes groups of a multiple of 4 channels"
        )
    if precision == "fp32":
        notes.append("FP32 is FP32, without TF32; with TF32 an engine of this graph would be faster")
    if features.number < (8, 6) and features.tensor_names:
        notes.append("TensorRT 8.5 has no optimisation levels")
    if features.flavour == "rtx":
        notes += _rtx_notes(target, features, onnx, wishes, precision)
    elif target.tensorrt and features.number[:2] > version_tuple(target.tensorrt[1]):
        notes.append(f"TensorRT {features.version} is newer than what is known to work on {target.title}")
    if wishes.version_compatible:
        notes.append("version-compatible engines are slower; they load in newer versions (8 to 10, 10 to 11)")
    if wishes.dla_core is not None:
        notes.append("DLA is experimental: sampling and attention run on the GPU, each border costs a copy")
    return notes


def _rtx_notes(
    target: Target, features: Features, onnx: OnnxFacts, wishes: Wishes, precision: str
) -> list[str]:
    notes = ["the card finishes the kernels when it first loads the engine; they are kept"]
    if precision == "int8":
        notes.append(_int8_note(features, onnx))
    lacking = without(onnx.precision, target, features)
    if lacking and precision == "fp16" and wishes.precision is None:
        newer = "; INT8 from Ampere on: --target rtx-30-and-up" if onnx.precision == "int8" else ""
        notes.append(
            f"FP16: an engine that serves SM {', '.join(lacking)} has no {onnx.precision.upper()}, for any card{newer}"
        )
    if version_tuple(features.version)[:2] > version_tuple(RTX_NEWEST):
        notes.append(f"{features.title} is newer than what was tested, {RTX_NEWEST}")
    return notes


def plan_best(
    target: Target, features: Features, onnx: OnnxFacts, wishes: Wishes, free_bytes: int | None = None
) -> tuple[BuildPlan, ...]:
    """The two plans of ``--precision best``, FP16 and INT8 (or the graph's FP8); the faster engine is kept.

    Raises:
        SamkrError: SE-U88 nothing to build INT8 from; and those of ``plan_build``.
    """
    if not onnx.quantized and not wishes.calibrate:
        raise SamkrError(
            "SE-U88",
            "`best` compares FP16 with INT8, and there is nothing to make INT8 from",
            {"graph": f"{onnx.precision}, no Q/DQ"},
            fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
        )
    fp16 = replace(wishes, precision="fp16", calibrate=False)
    plans = (fp16, replace(wishes, precision=onnx.precision if onnx.quantized else "int8"))
    return tuple(plan_build(target, features, onnx, wish, free_bytes) for wish in plans)


def make_plans(
    target: Target,
    features: Features,
    onnx: OnnxFacts,
    wishes: Wishes,
    precision: str | None,
    free_bytes: int | None,
) -> tuple[BuildPlan, ...]:
    """One plan, or the two of `best`; for the rest see `plan_build`."""
    if precision == "best":
        return plan_best(target, features, onnx, wishes, free_bytes)
    return (plan_build(target, features, onnx, replace(wishes, precision=precision), free_bytes),)


def workspace(target: Target, wishes: Wishes, free_bytes: int | None) -> int:
    """Half of what is free, between 128 MiB and 4 GiB: the other half holds weights, activations and the system."""
    if free_bytes is None:
        free_bytes = int((target.memory_gb or 4) * 1e9 / 2)
    allowed = max(LEAST_WORKSPACE, min(MOST_WORKSPACE, free_bytes // 2 // MIB * MIB))
    if wishes.workspace_mib is None:
        return allowed
    asked = wishes.workspace_mib * MIB
    if asked > free_bytes:
        raise SamkrError(
            "SE-U85",
            "the workspace would be larger than the free memory, and the build would be killed",
            {"asked": f"{wishes.workspace_mib} MiB", "free": f"{free_bytes // MIB} MiB"},
            fix=f"--workspace {allowed // MIB}"
            if allowed <= free_bytes
            else "close other programs that use memory",
        )
    return asked


def timing_cache_name(target: Target, version: str) -> str:
    """A timing cache is valid for one GPU model and one TensorRT version only."""
    gpu = (
        re.sub(r"[^a-z0-9]+", "-", target.title.lower()).strip("-") if target.family == "gpu" else target.name
    )
    return f"{gpu}-trt{version}.timing"


def _builder_flags(wishes: Wishes, precision: str, typing: str) -> tuple[str, ...]:
    flags = list(precision_flags(precision, typing))
    if wishes.dla_core is not None:
        flags.append("GPU_FALLBACK")
    if wishes.version_compatible:
        flags.append("VERSION_COMPATIBLE")
    return tuple(flags)


def _int8_note(features: Features, onnx: OnnxFacts) -> str:
    if _fuses(features, onnx, "int8"):
        return "INT8 where it costs no kernel, FP16 elsewhere"
    if onnx.tensor_scales > onnx.channel_scales:
        return (
            "exported with --precision fp16, so its INT8 is not put into the form that needs no extra kernel: "
            "export it without that"
        )
    return (
        "its weights have a scale for every channel, which this builder does not fuse: FP16 moves fewer bytes "
        "(--precision best compares); INT8 that pays: samkr-edge quantize --policy rtx"
    )


def _fuses(features: Features, onnx: OnnxFacts, precision: str) -> bool:
    """Whether to bring a graph's INT8 into the form of ``samkr_edge.builder.tensorrt.fused_int8``.

    It needs float weights with one scale per tensor; with a scale per channel they would not stay INT8.
    """
    per_tensor = onnx.tensor_scales > onnx.channel_scales
    floats = onnx.weights == "fp32"
    return features.flavour == "rtx" and precision == onnx.precision == "int8" and per_tensor and floats


def _steps(
    features: Features, onnx: OnnxFacts, wishes: Wishes, precision: str, typing: str
) -> tuple[str, ...]:
    steps = []
    if onnx.quantized and precision != onnx.precision:
        steps.append("strip_quantizers")
    else:
        if onnx.branch_quantizers:
            steps.append("drop_branch_quantizers")
        if onnx.odd_groups and precision == "int8" and features.flavour == "tensorrt":
            steps.append("drop_odd_groups")
    if onnx.uint8_input:
        steps.append("cast_first")
        if not features.uint8 or wishes.calibrate:  # the calibrator feeds floats
            steps.append("float_input")
    if typing == "strong" and bakes(onnx, precision):
        if features.flavour == "rtx":
            steps.append("enlarge_sums")
        if _fuses(features, onnx, precision):
            steps.append("fuse_int8")
        steps.append("bake_fp16")
    return tuple(steps)


def _shape(onnx: OnnxFacts, wishes: Wishes) -> tuple[tuple[int, ...], int | None]:
    batch, *rest = onnx.input_shape or (None,)
    fixed = [size for size in rest if size is not None]
    if len(rest) != 3:
        raise SamkrError(
            "SE-U90",
            "this graph does not take a batch of images, so nothing was planned",
            {"expected": "(N, H, W, 3)", "input": f"{onnx.input_shape or 'none'}"},
            fix="samkr-edge export CHECKPOINT -o model.onnx",
        )
    if len(fixed) != len(rest):
        raise SamkrError(
            "SE-U90",
            "this graph leaves its image size open, and TensorRT is given only fixed sizes",
            {"input": f"{onnx.input_shape}"},
            fix="samkr-edge export CHECKPOINT -o model.onnx --size 512x512",
        )
    if batch is None:
        return (wishes.batch or 1, *fixed), wishes.batch or 1
    if wishes.batch not in (None, batch):
        raise SamkrError(
            "SE-U90",
            "this graph was exported for another batch size",
            {"asked": wishes.batch, "graph": batch},
            fix=f"samkr-edge export CHECKPOINT -o model.onnx --batch {wishes.batch}",
        )
    return (batch, *fixed), None


def _hardware_level(target: Target, features: Features, wishes: Wishes) -> str | None:
    if wishes.hardware_compatible is None:
        return None
    level = {"same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}.get(wishes.hardware_compatible)
    capability = version_tuple(target.compute_capability or "0")
    reason = None
    if level is None:
        reason = "known are same and ampere+"
    elif target.family == "jetson":
        reason = "engines for a Jetson are built on it"
    elif level not in features.hardware_compatibility:
        reason = f"TensorRT {features.version} has {', '.join(features.hardware_compatibility) or 'none'}"
    elif level == "AMPERE_PLUS" and capability < (8, 0):
        reason = f"SM {target.compute_capability} is older than Ampere"
    if reason:
        raise SamkrError(
            "SE-U83",
            f"hardware compatibility {wishes.hardware_compatible!r} is not available here",
            {"reason": reason},
            fix="leave --hardware-compatible out",
        )
    return level


def _by_hand(target: Target, version: str, precision: str) -> str:
    return (
        f"samkr-edge build MODEL.onnx --target {target.name} --tensorrt {quoted(version)} --precision {precision} "
        "--prepared trt.onnx   # prints trtexec's command for the device"
    )
