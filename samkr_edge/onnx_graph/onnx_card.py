"""The model card of an ONNX file, checked against its graph; every reader of such a file takes it from here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.model_card_check import check_card, unreadable_card
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_precision import precision_of

_EXPORT = "samkr-edge export CHECKPOINT -o model.onnx"


def card_of(model: OnnxFile, path: str | Path) -> ModelCard:
    """The card of the model in ``path``, with the precision of its graph.

    (Other tools that quantize a model do not change its card.)

    Raises:
        SamkrError: SE-A21 there is no card, or none that can be read, SE-A27 it is another network's.
    """
    text = model.metadata.get(METADATA_KEY)
    if text is None:
        raise SamkrError(
            "SE-A21",
            f"{path} is not a model exported by samkr-edge, so its outputs cannot be decoded",
            {"metadata": ", ".join(model.metadata) or "none"},
            fix=_EXPORT,
        )
    try:
        card = ModelCard.from_json(text)
    except ValueError as error:
        raise unreadable_card(str(path), error, "its outputs cannot be decoded", _EXPORT) from error
    inputs, outputs = ({one.name: one.shape for one in ends} for ends in (model.inputs, model.outputs))
    check_card(str(path), card, inputs, outputs, fix=_EXPORT)
    precision = precision_of(model)
    if precision in ("int8", "fp8") and not card.quantized:
        return replace(card, precision=precision, stage="ptq")
    return replace(card, precision=precision)
