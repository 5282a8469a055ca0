"""Stage 2: engines that only sample, between pixels, compared with ONNX Runtime.

An error here affects every adaptive block, where it would look like rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.selftest.engine_of import FP32, STRONG_FP16, WEAK_FP16, Form, features_here, plan_of, run_plan
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.stage import Check, Rig, not_run
from samkr_edge.builder.tensorrt.fallbacks import sampling_widely
from samkr_edge.builder.tensorrt.sampling_check import SIZES
from samkr_edge.builder.tensorrt.sampling_trial import (
    FROM_NEAREST,
    LARGEST_ERROR,
    SAMPLED,
    SamplingCase,
    compare_samples,
    sampling_case,
    sampling_graph,
)
from samkr_edge.builder.tensorrt.sampling_trial import Form as Judged
from samkr_edge.machine.tensorrt_module import TITLES, Flavour

# Channels, rows, columns and taps: as in samkr_w32 at 512x512; and a map that is not square.
MAPS = (SIZES, (4, 48, 80, 9))
FORMS: tuple[tuple[Form, Judged], ...] = ((FP32, "fp32"), (WEAK_FP16, "fp16"), (STRONG_FP16, "fp32_in_fp16"))


def checks(rig: Rig) -> Iterator[Check]:
    cases = [sampling_case(*sizes) for sizes in MAPS]
    graphs = [sampling_graph(*sizes, "fp32") for sizes in MAPS]
    flavours = served_flavours()
    if not flavours:
        yield not_run("sampling", "no TensorRT installed here can build engines for this GPU")
    for flavour in flavours:
        for form, judged in FORMS:
            for sizes, graph, case in zip(MAPS, graphs, cases, strict=True):
                channels, height, width, taps = sizes
                what = f"{TITLES[flavour]}, {form.title}, {taps} taps on {channels} maps of {width}x{height}"
                if lacking := form.lacking(features_here(flavour)):
                    yield not_run(what, lacking)
                else:
                    yield _check(what, graph, case, form, judged, flavour)


def _check(
    what: str, graph: bytes, case: SamplingCase, form: Form, judged: Judged, flavour: Flavour
) -> Check:
    """If this TensorRT samples wrongly next to FP16, network builds keep adaptive blocks entirely FP32; so does this
    check.
    """
    plan = plan_of(graph, form, flavour)
    ran = run_plan(graph, plan, case.inputs, "sampling")
    found = compare_samples(case, ran.outputs[SAMPLED])
    figures = {"largest_error": found.error, "from_nearest": found.from_nearest}
    notes = [ran.note] if ran.note else []
    widely = sampling_widely(plan) if form != FP32 and not found.holds(judged) else None
    if widely is not None:
        notes.append(f"error {found.error:.2g} next to FP16, so with FP32 around it")
        found = compare_samples(case, run_plan(graph, widely, case.inputs, "sampling").outputs[SAMPLED])
        figures |= {"wide_largest_error": found.error, "wide_from_nearest": found.from_nearest}
    said = f"largest error {found.error:.2g}, {found.from_nearest:.2g} from nearest"
    return Check(
        what,
        "; ".join((said, *notes)),
        f"at most {LARGEST_ERROR[judged]:g}, more than {FROM_NEAREST:g}",
        found.holds(judged),
        figures,
    )
