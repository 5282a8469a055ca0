"""What a build is judged by, computed by ONNX Runtime from the source: maps, people, and what known faults would do."""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.check.agreement import Reference
from samkr_edge.builder.check.maps import run_maps
from samkr_edge.builder.check.people import clear_people, refuse_blind
from samkr_edge.builder.check.probe import Probe, probe_batch, probe_of
from samkr_edge.builder.check.suspects import maps_and_suspects
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.quantizers import strip_quantizers


def reference_of(model: OnnxFile, card: ModelCard) -> tuple[Reference, np.ndarray]:
    """What to judge by, and the images to run, uint8 (N, H, W, 3), of a model with its metadata; it stays as it is.

    One session is open at a time. What a float model computes and what faults would do takes one run of its images and
    of two more; a quantized one takes another run of its images.

    Raises:
        SamkrError: SE-A24 its probe images are damaged, SE-B55 it gives NaN or infinity on them, SE-A28 it
            does not see them.
    """
    probe = probe_of(model.metadata)
    images = probe_batch(probe, card.input_size)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.nodes)
    source = run_maps(model, images, optimise=False) if quantized else None
    if quantized:
        model = model.copy()
        strip_quantizers(model)
    floats, suspects = maps_and_suspects(model, images)
    maps = source if source is not None else floats
    if not all(np.isfinite(part).all() for part in maps):
        raise SamkrError(
            "SE-B55",
            "the ONNX file itself computes NaN or infinity, so nothing built from it could be judged",
            {"judged on": probe_words(probe)},
            fix="export it again: samkr-edge export CHECKPOINT -o model.onnx",
        )
    refuse_blind(maps, probe_words(probe))
    return Reference(
        maps,
        floats if quantized else None,
        clear_people(maps, card),
        suspects,
        probe_words(probe),
        on_noise=probe is None,
    ), images


def probe_words(probe: Probe | None) -> str:
    """What was looked at; where it was noise, also what to do about it."""
    if probe is None:
        return "noise (this ONNX is older than probe images: export it again)"
    return str(probe)
