"""Which stage of a ledger follows which, and which of them can be where accuracy left."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("modelopt", reason="a ledger is of quantized networks")

from calibration.analysis.ledger import LedgerStage, form_of, parents, verdict
from calibration.analysis.scoring import Difference
from samkr_edge.evaluation.scores import Interval
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17


def model(kind: str, stage: str, *, without: bool = False) -> Any:
    card = ModelCard("small", COCO17, (64, 64), precision="fp32" if stage == "fp32" else "int8", stage=stage)
    if without:
        card = card.with_provenance(without={"attention": {"judged": "by a test"}})
    return SimpleNamespace(kind=kind, card=card, path=Path(f"{stage}.{kind}"))


def test_a_network_without_its_attention_follows_its_like_or_else_the_whole_one() -> None:
    road = [
        model("checkpoint", "fp32"),
        model("checkpoint", "fp32", without=True),
        model("onnx", "fp32", without=True),
        model("onnx", "fp32"),
        model("checkpoint", "ptq"),
        model("onnx", "ptq", without=True),
        model("engine", "ptq", without=True),
    ]
    assert parents(road) == [None, 0, 1, 0, 0, 4, 5]
    assert form_of(road[1]) == "torch FP32 without attention"
    assert form_of(road[6]) == "engine PTQ without attention"


def stage(name: str, parent: str | None, loss: float, *, beside: bool = False) -> LedgerStage:
    lost = Interval(-loss, -loss - 0.1, -loss + 0.1)
    difference = Difference(lost, lost) if parent else None
    return LedgerStage(name, "0", "form of it", (64, 64), 50.0, 0.5, parent, difference, None, {}, beside)


def test_accuracy_leaves_by_the_road_and_not_beside_it() -> None:
    first, quantized = stage("fp32.pt", None, 0), stage("ptq.pt", "fp32.pt", 1)
    assert "fp32.pt and ptq.pt" in verdict([first, stage("fp32.pt", "fp32.pt", 3, beside=True), quantized])
    assert "fp32.pt and fp32.pt" in verdict([first, stage("fp32.pt", "fp32.pt", 3), quantized])
