"""Stage 4: whole networks, built as a user builds them, compute what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.selftest.against_onnx_runtime import (
    ModelOutputs,
    ap_of,
    images_of,
    joint_moves,
    look,
    reference_of,
)
from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, built_engine, network_file, plans_for, source_of
from benchmarks.selftest.rendered import IMAGES, rendered_people
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import Flavour

# Relative L2 error of a map. Builds clear TF32, so that correct FP32 builds are far below.
FLOAT_ERRORS = {"fp32": 2e-3, "fp16": 5e-3}
# Behind INT8 layers a value on the edge of a step falls to either side, and runtimes that compute the same graph are
# 1.3 times as far from each other as the graph is from its own float network (ONNX Runtime with FP16 and FP32 scales).
QUANTIZATION_NOISES = 2.0
# Image pixels that this share of the joints may move: a refined joint is at the larger of two almost equal peaks and
# may switch to the other.
MOVE = 0.5
# In INT8, half of the joints: correct builds move them by 0.2 in the median, and a few by many pixels.
SHARES = {"fp32": 0.99, "fp16": 0.99, "int8": 0.5}
AP_POINTS = {"fp32": 0.1, "fp16": 0.1, "int8": 1.0}
# Images that the maps of large networks are compared on.
FEW = 4


def networks(flavour: Flavour) -> tuple[Wanted, ...]:
    """The networks to build and compare."""
    tiny = Wanted(flavour, TRAINED, "fp32")
    return (
        tiny,
        replace(tiny, precision="fp16"),
        replace(tiny, precision="int8"),
        replace(tiny, precision="fp16", batch=4),
        replace(tiny, precision="int8", batch=4),
        replace(tiny, precision="fp32", decode_in="graph"),
        replace(tiny, precision="fp16", decode_in="graph"),
        replace(tiny, precision="int8", decode_in="graph", batch=4),
        *(
            Wanted(flavour, model, "fp16", batch=batch)
            for model in ("samkr_w32", "dekr_w32")
            for batch in (1, 4)
        ),
    )


def checks(rig: Rig, images: int = IMAGES, only: Sequence[str] | None = None) -> Iterator[Check]:
    """Of every network of every flavour here, or of those whose names are in ``only``."""
    people = rendered_people(rig, images)
    for flavour in served_flavours():
        for wanted in networks(flavour):
            if only is None or str(wanted) in only:
                yield from compared(rig, wanted, people)


def compared(rig: Rig, wanted: Wanted, people: KeypointDataset) -> Iterator[Check]:
    """The engine against ONNX Runtime. An untrained network sees nobody, so only its maps are compared."""
    try:
        plans_for(source_of(rig, wanted), wanted.flavour, wanted.precision)
    except SamkrError as error:
        yield not_run(f"{wanted}", f"not available here: {error.message} ({error.code})")
        return
    trained = wanted.model == TRAINED
    images = images_of(people)[: None if trained else FEW]
    try:
        engine = built_engine(rig, wanted)
        # Of single images, so that the check also covers that a batch computes the same for each image.
        single = source_of(rig, replace(wanted, batch=1))
        expected = look(reference_of(single, engine, rig.folder / "reference.onnx"), images)
        found = look(engine, images)
    except SamkrError as error:
        yield refused(f"{wanted}", error)
        return
    if wanted.decode_in == "host":
        yield from _maps(rig, wanted, images, expected, found)
    if trained:
        yield _joints(wanted, expected, found)
        yield _ap(wanted, people, expected, found)


def _maps(
    rig: Rig, wanted: Wanted, images: Sequence[np.ndarray], expected: ModelOutputs, found: ModelOutputs
) -> Iterator[Check]:
    if wanted.precision == "int8":
        noise = expected.errors_of(look(network_file(rig, wanted.model), images))
        limits = {name: QUANTIZATION_NOISES * error for name, error in noise.items()}
    else:
        limits = dict.fromkeys(expected.outputs, FLOAT_ERRORS[wanted.precision])
    for name, error in expected.errors_of(found).items():
        yield Check(
            f"{wanted}, {name}",
            f"relative error {error:.1e}",
            f"{limits[name]:.1e}{', twice what quantizing does' if wanted.precision == 'int8' else ''}",
            error <= limits[name],
            {"relative_error": error, "limit": limits[name]},
        )


def _joints(wanted: Wanted, expected: ModelOutputs, found: ModelOutputs) -> Check:
    share = SHARES[wanted.precision]
    moves = joint_moves(expected.poses, found.poses)
    if not moves.size:
        return Check(f"{wanted}, joints", "nobody is detected", f"{MOVE} px", False)
    # A quantile between a number and infinity is not one.
    at = float(np.quantile(moves, share, method="higher"))
    return Check(
        f"{wanted}, joints",
        f"median {np.median(moves):.3f}, {share:.0%} within {at:.3f}, largest {moves.max():.2f} px",
        f"{share:.0%} within {MOVE} px",
        at <= MOVE,
        {
            "joints": moves.size,
            "median_px": float(np.median(moves)),
            "quantile_px": at,
            "largest_px": float(moves.max()),
        },
    )


def _ap(wanted: Wanted, people: KeypointDataset, expected: ModelOutputs, found: ModelOutputs) -> Check:
    before, after = ap_of(people, expected.poses), ap_of(people, found.poses)
    limit = AP_POINTS[wanted.precision]
    return Check(
        f"{wanted}, AP",
        f"{after:.2f}, in ONNX Runtime {before:.2f}, on {len(people.images)} images",
        f"within {limit} of it",
        abs(after - before) <= limit,
        {"ap": after, "ap_onnx_runtime": before, "images": len(people.images)},
    )
