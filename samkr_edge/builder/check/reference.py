"""What a build is judged by, computed from the source by ONNX Runtime: maps, people, the effects of known faults."""

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
    """The reference, and the images to run, uint8 (N, H, W, 3), of a model with its metadata, which is not changed.

    One session is open at a time. The maps of a float model and the effects of faults take one run of its images and
    two more; a quantized model takes another run of its images.

    Raises:
        SamkrError: SE-A24 its probe images are damaged, SE-B55 it gives NaN or infinity on them, SE-A28 its output does
            not depend on them.
    """
    probe = probe_of(model.metadata)
    images = probe_batch(probe, card.input_size)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.nodes)
    source = run_maps(model, images, optimise=False) if quantized else None
    if quantized:
        model = model.copy()
        strip_quantizers(model)
    floats, suspects = maps_and_suspects(model, card.maps, images)
    maps = source if source is not None else floats
    if not maps.finite:
        raise SamkrError(
            "SE-B55",
            "the ONNX file itself computes NaN or infinity, so nothing built from it could be judged",
            {"judged on": probe_words(probe)},
            fix="export it again: samkr-edge export CHECKPOINT -o model.onnx",
        )
    refuse_blind(maps, card, probe_words(probe))
    return Reference(
        maps,
        floats if quantized else None,
        clear_people(maps, card),
        suspects,
        probe_words(probe),
        on_noise=probe is None,
    ), images


def probe_words(probe: Probe | None) -> str:
    """What the images are; for noise, also what to do about it."""
    if probe is None:
        return "noise (this ONNX is older than probe images: export it again)"
    return str(probe)
