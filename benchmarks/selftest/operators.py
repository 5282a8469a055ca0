"""Stage 3: the networks' other operators, each in its own engine, compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.selftest import operator_graphs as graphs
from benchmarks.selftest.engine_of import (
    FP32,
    WEAK_FP16,
    EngineOutputs,
    Form,
    features_here,
    plan_of,
    run_plan,
)
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.operator_graphs import Operator, computed
from benchmarks.selftest.stage import Check, Rig, not_run
from samkr_edge.builder.check.agreement import relative_error
from samkr_edge.builder.tensorrt.features import Features
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import TITLES, Flavour

SOFTMAX_ERROR, SUM_ERROR = 1e-4, 1e-3
# Of sums of up to 144 products; in FP16 of products and results rounded to eleven bits.
CONVOLUTION_ERROR, HALF_ERROR = 1e-3, 5e-3
# Of joints in input pixels, and of heat: a product and a sum are rounded once or twice. Which people are found, and
# their order, is equal.
JOINT_ERROR, HEAT_ERROR = 1e-3, 1e-5
# The graph already has its FP16; input and output types stay.
HALF = Form("FP16", "strong")
HALF_BY_FLAG = Form("FP16", "weak", ("FP16",))
# As in network builds: TensorRT allows only a cast on bytes.
BYTES = Form("FP32", steps=("cast_first",))


def checks(rig: Rig) -> Iterator[Check]:
    flavours = served_flavours()
    if not flavours:
        yield not_run("operators", "no TensorRT installed here can build engines for this GPU")
    for flavour in flavours:
        title, features = TITLES[flavour], features_here(flavour)
        yield _image_bytes(title, flavour, features)
        for factor in (2, 4, 8):
            operator = graphs.resize(factor)
            yield _equal(f"{title}, Resize x{factor}", operator, _run(operator, FP32, flavour))
        for form in (FP32, WEAK_FP16, HALF):
            yield _softmax(title, form, flavour, features)
        for sizes in graphs.CONVOLUTIONS:
            for half in (False, True):
                yield _convolution(title, sizes, half, flavour, features)
        yield _decode(f"{title}, decoding of given maps", flavour)


def _run(operator: Operator, form: Form, flavour: Flavour) -> EngineOutputs:
    return run_plan(operator.graph, plan_of(operator.graph, form, flavour), operator.inputs, operator.name)


def _equal(what: str, operator: Operator, ran: EngineOutputs) -> Check:
    expected = computed(operator)
    wrong = sum(int((ran.outputs[name] != values).sum()) for name, values in expected.items())
    found = f"{wrong} values differ" if wrong else "equal"
    return Check(what, _noted(found, ran), "equal", not wrong, {"wrong_values": wrong})


def _image_bytes(title: str, flavour: Flavour, features: Features) -> Check:
    what = f"{title}, image bytes to planes of floats"
    if not features.uint8:
        return not_run(what, f"{features.title} takes no bytes")
    operator = graphs.image_bytes()
    return _equal(what, operator, _run(operator, BYTES, flavour))


def _softmax(title: str, form: Form, flavour: Flavour, features: Features) -> Check:
    what = f"{title}, Softmax over 16384, {'FP32 behind FP16' if form == HALF else form.title}"
    if lacking := form.lacking(features):
        return not_run(what, lacking)
    operator = graphs.softmax(half=form == HALF)
    ran = _run(operator, form, flavour)
    expected, found = computed(operator)["y"], ran.outputs["y"].astype(np.float64)
    error = float((np.abs(found - expected) / expected).max())
    sums = float(np.abs(found.sum(axis=2) - 1).max())
    return Check(
        what,
        _noted(f"relative error {error:.1e}, sums 1 +- {sums:.1e}", ran),
        f"{SOFTMAX_ERROR:g}, {SUM_ERROR:g}",
        error <= SOFTMAX_ERROR and sums <= SUM_ERROR,
        {"largest_relative_error": error, "largest_error_of_sums": sums},
    )


def _convolution(
    title: str, sizes: tuple[int, int, int], half: bool, flavour: Flavour, features: Features
) -> Check:
    channels, groups, outputs = sizes
    name = f"{groups} x ({channels // groups} -> {outputs // groups})"
    what = f"{title}, convolution {name}, {'FP16' if half else 'FP32'}"
    operator = built = graphs.convolution(*sizes)
    form = FP32
    if half and not HALF.lacking(features):
        form, built = HALF, graphs.convolution(*sizes, half=True)
    elif half:
        form = HALF_BY_FLAG
    try:
        ran = _run(built, form, flavour)
    except SamkrError as error:
        if error.code not in ("SE-B90", "SE-B96"):
            raise
        # Continue the stage, to report all missing kernels.
        return Check(what, f"not built: {error.message}", "an engine", False, {"error": error.to_dict()})
    expected = computed(operator)["y"]
    found = relative_error(expected, ran.outputs["y"])
    limit = HALF_ERROR if half else CONVOLUTION_ERROR
    return Check(
        what,
        _noted(f"relative error {found:.1e}", ran),
        f"{limit:g}",
        found <= limit,
        {"relative_error": found},
    )


def _decode(what: str, flavour: Flavour) -> Check:
    operator = graphs.decode_tail()
    ran = _run(operator, FP32, flavour)
    expected = computed(operator)
    wrong = int((ran.outputs["scores"] != expected["scores"]).sum())
    apart = np.abs(ran.outputs["poses"].astype(np.float64) - expected["poses"])
    joints, heat = float(apart[..., :2].max()), float(apart[..., 2].max())
    return Check(
        what,
        _noted(f"{wrong} scores differ, joints {joints:.1e} px, heat {heat:.1e}", ran),
        f"equal, {JOINT_ERROR:g} px, {HEAT_ERROR:g}",
        not wrong and joints <= JOINT_ERROR and heat <= HEAT_ERROR,
        {"wrong_scores": wrong, "largest_joint_error_px": joints, "largest_heat_error": heat},
    )


def _noted(found: str, ran: EngineOutputs) -> str:
    return f"{found}; {ran.note}" if ran.note else found
