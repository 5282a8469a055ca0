"""Does this TensorRT sample correctly on this GPU, in the form that a plan uses? Measured once and cached.

GridSample in FP32 inside an FP16 network gives wrong samples on some versions (pytorch/TensorRT#4074, since 10.14),
which in a network of hundreds of layers is easily mistaken for rounding. So first, the smallest network with the same
sampling is built in the same form, and its results are compared with ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.fallbacks import sampling_widely
from samkr_edge.builder.tensorrt.micro_engine import run_once
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.builder.tensorrt.sampling_trial import (
    SAMPLED,
    Sampled,
    compare_samples,
    sampling_case,
    sampling_graph,
)
from samkr_edge.builder.tensorrt.typing_choice import OBEY, PREFER
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import read_json, write_json
from samkr_edge.files.cache import cache_folder
from samkr_edge.machine.device import running_device
from samkr_edge.machine.tensorrt_module import TITLES
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decode_onnx

# Channels, rows, columns and taps of a keypoint's map of samkr_w32 at 512x512.
SIZES = (16, 128, 128, 9)


def settle_sampling(plan: BuildPlan, model: OnnxFile) -> BuildPlan:
    """The plan, or one with the adaptive blocks entirely FP32 if this TensorRT needs that; with a note.

    FP32 plans, graphs without sampling, and engines for other GPUs are not checked.

    Raises:
        SamkrError: SE-B80 this TensorRT samples wrongly in both forms.
    """
    samples = any(node.op_type == "GridSample" for node in model.nodes)
    elsewhere = plan.compute_capabilities and (
        running_device().compute_capability not in plan.compute_capabilities
    )
    if plan.precision == "fp32" or not samples or elsewhere:
        return plan
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        note = "whether this TensorRT samples correctly was not tested: that needs the packages onnx and onnxruntime"
        return replace(plan, notes=(*plan.notes, note))
    first: Sampled | None = None
    tried: BuildPlan | None = plan
    while tried is not None:
        try:
            found = _measured(tried)
        except SamkrError as error:  # the network itself may still build
            note = (
                f"whether this TensorRT samples correctly could not be tested: {error.message} ({error.code})"
            )
            return replace(tried, notes=(*tried.notes, note))
        if found.holds("fp16"):
            return tried
        first, tried = first or found, sampling_widely(tried)
    assert first is not None
    raise SamkrError(
        "SE-B80",
        f"{TITLES[plan.flavour]} {plan.tensorrt} samples wrongly in {plan.precision} on this GPU, so nothing was built",
        {
            "error": f"{first.error:.3g} on values up to 1, where 0.01 is expected",
            "nearest": f"{first.from_nearest:.3g} away from sampling at the nearest pixel",
        },
        fix="--precision fp32, another TensorRT, or a *_nodc network: samkr-edge models"
        if sampling_widely(plan)
        else "export the graph without --precision fp16: its adaptive blocks can then be entirely FP32",
    )


def _measured(plan: BuildPlan) -> Sampled:
    """How far samples are off in the plan's form, from a build of a few seconds or from the cache."""
    graph = sampling_graph(*SIZES, "fp32")
    model = decode_onnx(graph)
    small = _small(plan, model)
    device = running_device()
    words = f"{device.gpu or ''} {plan.flavour} {plan.tensorrt}".lower()
    file = cache_folder() / f"sampling-{re.sub(r'[^a-z0-9.]+', '-', words).strip('-')}.json"
    key = " ".join((hashlib.sha256(graph).hexdigest()[:12], small.typing, *small.builder_flags, *small.steps))
    known = _known(file)
    if key in known:
        return known[key]
    engine = build_bytes(Path("sampling.onnx"), small, graph=model)
    case = sampling_case(*SIZES)
    found = compare_samples(case, run_once(engine.data, case.inputs, plan.flavour)[SAMPLED])
    with suppress(SamkrError):  # measured again next time
        write_json(file, {name: asdict(one) for name, one in {**known, key: found}.items()})
    return found


def _small(plan: BuildPlan, graph: OnnxFile) -> BuildPlan:
    """The plan for the small network: the plan's typing and steps, without the settings of its network."""
    steps = ("wide_sampling",) if "wide_sampling" in plan.steps else ()
    shape = tuple(size or 1 for size in graph.inputs[0].shape)
    return replace(
        plan,
        precision="fp16",
        steps=(*steps, "bake_fp16") if plan.typing == "strong" else steps,
        builder_flags=tuple(flag for flag in plan.builder_flags if flag in ("FP16", OBEY, PREFER)),
        input_shape=shape,
        profile_batch=None,
        dla_core=None,
        calibrate=False,
        timing_cache=None,
        notes=(),
    )


def _known(file: Path) -> dict[str, Sampled]:
    """Earlier measurements; a damaged file counts as none."""
    try:
        return {
            str(key): Sampled(float(one["error"]), float(one["from_nearest"]))
            for key, one in read_json(file, "the cache").items()
        }
    except (SamkrError, AttributeError, KeyError, TypeError, ValueError):
        return {}
