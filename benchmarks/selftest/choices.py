"""Stage 9: choices of a build and its options: the faster precision, calibration, other GPUs, a bundle's engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import build, network_file, plans_for
from benchmarks.selftest.networks import FLOAT_ERRORS
from benchmarks.selftest.rendered import rendered_people
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.builder.check.agreement import relative_error
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.deploy.bundle_cache import ready_model
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import TITLES, Flavour, import_tensorrt
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from samkr_edge.runtime.tensorrt import TensorRTRunner

# If times of `best`'s candidates are closer than this, either may win.
NOISE = 0.05
LEVELS = ("same", "ampere+")


def checks(rig: Rig) -> Iterator[Check]:
    for flavour in served_flavours():
        yield _best_twice(rig, flavour)
        yield _calibrated(rig, flavour)
        for level in LEVELS:
            yield _for_other_gpus(rig, flavour, level)
    yield from _bundle(rig)


def _best_twice(rig: Rig, flavour: Flavour) -> Check:
    what = f"{TITLES[flavour]}: --precision best, twice"
    source = network_file(rig, quantized=True)
    try:
        plans_for(source, flavour, "best")
    except SamkrError as error:
        return not_run(what, f"not available here: {error.message} ({error.code})")
    try:
        built = [build(source, rig.folder / f"best-{n}.engine", flavour, "best") for n in "ab"]
    except SamkrError as error:
        return refused(what, error)
    winners = [str(one.passport.precision["engine"]) for one in built]
    return same_winner(what, winners, [one.milliseconds for one in built])


def same_winner(what: str, winners: Sequence[str], milliseconds: Sequence[Mapping[str, float]]) -> Check:
    """Whether both builds chose the same precision, or the times in one of them were too close."""
    apart = [_apart(one) for one in milliseconds]
    times = [", ".join(f"{name} {ms:.3f} ms" for name, ms in one.items()) for one in milliseconds]
    return Check(
        what,
        f"{' and '.join(winners)}; {' and '.join(times)}",
        f"the same, or times closer than {NOISE:.0%}",
        len(set(winners)) == 1 or min(apart) < NOISE,
        {"winners": list(winners), "gpu_ms": [dict(one) for one in milliseconds], "apart": apart},
    )


def _apart(milliseconds: Mapping[str, float]) -> float:
    """By how much the slowest is slower than the fastest; a candidate that was set aside has no time."""
    times = list(milliseconds.values())
    return max(times) / min(times) - 1 if len(times) > 1 and min(times) > 0 else float("inf")


def _calibrated(rig: Rig, flavour: Flavour) -> Check:
    what = f"{TITLES[flavour]}: --calibrate"
    if not features_of(import_tensorrt(flavour), flavour).calibrators:
        return not_run(what, "this version has no calibrators: INT8 comes from Q/DQ in the graph")
    dataset = rendered_people(rig)
    listing = rig.folder / "images.txt"
    listing.write_text("".join(f"{record.path}\n" for record in dataset.images), encoding="utf-8")
    try:
        source = network_file(rig)
        built = build(source, rig.folder / "calibrated.engine", flavour, "int8", calibration=listing)
    except SamkrError as error:
        return refused(what, error, "builds, and computes what its graph does")
    found = f"built from {len(dataset.images)} rendered images{''.join(f'; {note}' for note in built.notes)}"
    return Check(what, found, "builds, and computes what its graph does", True, {"notes": built.notes})


def _for_other_gpus(rig: Rig, flavour: Flavour, level: str) -> Check:
    what, source = f"{TITLES[flavour]}: --hardware-compatible {level}", network_file(rig)
    wishes = Wishes(hardware_compatible=level)
    try:
        plans_for(source, flavour, "fp16", wishes)
    except SamkrError as error:
        return not_run(what, f"not available here: {error.sentence()} ({error.code})")
    limit = FLOAT_ERRORS["fp16"]
    try:
        built = build(source, rig.folder / f"{level.strip('+')}.engine", flavour, "fp16", wishes)
        errors = _errors(source, built.path)
    except SamkrError as error:
        return refused(what, error, "builds and loads")
    worst = float(np.max(errors))  # NaN if any is NaN, which Python's `max` may miss
    return Check(
        what,
        f"loads, relative error {worst:.1e}",
        f"loads, {limit:.1e}",
        worst <= limit,
        {"relative_errors": errors},
    )


def _errors(source: Path, engine: Path) -> list[float]:
    """Relative L2 errors of the maps of an image of noise."""
    with closing(OnnxRunner(source)) as reference, closing(TensorRTRunner(engine)) as runner:
        size = reference.card.input_size
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        return [relative_error(a, b) for a, b in zip(reference.run(image), runner.run(image), strict=True)]


def _bundle(rig: Rig) -> Iterator[Check]:
    """Test the path of `samkr-edge predict POSE.samkr`: built once by the public command, then reused."""
    what = "a bundle's engine, used a second time"
    bundle = rig.folder / f"{TRAINED}.samkr"
    try:
        write_bundle(network_file(rig, quantized=True), bundle)
        built = ready_model(bundle)
        before = built.stat().st_mtime_ns
        again = ready_model(bundle)
    except SamkrError as error:
        yield refused(what, error)
        return
    same = again == built and again.stat().st_mtime_ns == before
    yield Check(
        what,
        f"{built.name}, {'as it was' if same else 'built again'}",
        "an engine, no second build",
        same and built.suffix == ".engine",
        {"megabytes": built.stat().st_size / 1e6},
    )
