"""Stage 0: the driver supports TensorRT's CUDA version; TensorRT starts and has the API that plans rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.selftest.engine_of import Form, features_here, plan_of, run_plan
from benchmarks.selftest.machine import NO_ONNX, served_flavours
from benchmarks.selftest.operator_graphs import every_type
from benchmarks.selftest.stage import Check, Rig, not_run
from samkr_edge.builder.tensorrt.features import Features, features_for
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import running_device
from samkr_edge.machine.tensorrt_module import (
    MODULES,
    TITLES,
    Flavour,
    cuda_major,
    import_tensorrt,
    is_importable,
)
from samkr_edge.runtime.tensorrt_log import listen
from samkr_edge.runtime.tensorrt_start import require_fitting_driver, start

# Inputs and outputs are FP16: a weakly typed network with these needs the flag.
STRONG, WEAK = Form("every type", "strong"), Form("every type", "weak", ("FP16",))
# Installed next to TensorRT, but not part of it.
NOT_TENSORRT = {"onnx_package"}


def checks(rig: Rig) -> Iterator[Check]:
    device = running_device()
    found = f"{device.gpu}, SM {device.compute_capability}, driver for CUDA {device.cuda}"
    yield Check("GPU", found, "its driver answers", device.cuda is not None, asdict(device))
    for flavour in MODULES:
        if not is_importable(flavour):
            yield not_run(TITLES[flavour], "it is not installed, or does not import")
            continue
        trt = import_tensorrt(flavour)
        title = TITLES[flavour]
        yield _cuda(title, trt, flavour, device.cuda)
        starts = _starts(title, trt, flavour)
        yield starts
        yield _features(title, features_here(flavour))
        if not starts.passed or flavour not in served_flavours():
            yield not_run(f"{title}: types", "it cannot build engines for this GPU")
        elif find_spec("onnx") is None:
            yield not_run(f"{title}: types", NO_ONNX)
        else:
            yield _types(title, flavour)


def _cuda(title: str, trt: Any, flavour: Flavour, known: str | None) -> Check:
    made_for = cuda_major(trt)
    found = f"{title} {trt.__version__} for CUDA {made_for or 'of its system'}, the driver knows {known}"
    try:
        require_fitting_driver(trt, flavour)
    except SamkrError:
        fits = False
    else:
        fits = True
    return Check(
        f"{title}: CUDA", found, "the driver's is not older", fits, {"made_for": made_for, "driver": known}
    )


def _starts(title: str, trt: Any, flavour: Flavour) -> Check:
    messages = listen(trt)
    try:
        require_fitting_driver(trt, flavour)  # an unsuitable TensorRT's runtime may end the process
        for make in (trt.Builder, trt.Runtime):
            start(make, trt, flavour, messages)
    except SamkrError as error:
        return Check(
            f"{title}: start", error.sentence(), "builder and runtime", False, {"error": error.to_dict()}
        )
    return Check(f"{title}: start", "builder and runtime", "builder and runtime", True)


def _features(title: str, found: Features) -> Check:
    expected = features_for(found.version, found.flavour)
    differing = {
        field.name: {"found": getattr(found, field.name), "expected": getattr(expected, field.name)}
        for field in fields(Features)
        if field.name not in NOT_TENSORRT and getattr(found, field.name) != getattr(expected, field.name)
    }
    said = ", ".join(f"{name} is {one['found']}, not {one['expected']}" for name, one in differing.items())
    return Check(
        f"{title}: features",
        said or f"all as expected for {found.version}",
        f"as expected for {found.version}",
        not differing,
        {"features": asdict(found), "differing": differing},
    )


def _types(title: str, flavour: Flavour) -> Check:
    """Values of every input and output type are read correctly."""
    features = features_here(flavour)
    operator, expected = every_type(with_bytes=features.uint8)
    form = WEAK if STRONG.lacking(features) else STRONG
    outputs = run_plan(
        operator.graph, plan_of(operator.graph, form, flavour), operator.inputs, "types"
    ).outputs
    wrong = [
        name
        for name, values in expected.items()
        if outputs[name].dtype != values.dtype or not np.array_equal(outputs[name], values)
    ]
    kinds = ", ".join(sorted({str(values.dtype) for values in operator.inputs.values()}))
    found = f"{', '.join(wrong)} differ" if wrong else f"{kinds}: equal"
    return Check(f"{title}: types", found, "values equal", not wrong, {"types": kinds, "wrong": wrong})
