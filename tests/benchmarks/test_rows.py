"""What a row of a table is called."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.rows import row_names
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17


def model(path: str, **provenance: Any) -> Any:
    card = ModelCard("samkr_tiny", COCO17, (64, 64), precision="int8", stage="ptq", provenance=provenance)
    return SimpleNamespace(card=card, kind="onnx", path=Path(path))


def test_a_network_without_a_part_is_called_so() -> None:
    left_out = {"attention": {"judged": "by a test"}}
    models = [model("a.onnx"), model("b.onnx", without=left_out), model("c.onnx", without=left_out)]
    assert row_names(models[:2]) == ["samkr_tiny INT8 PTQ", "samkr_tiny INT8 PTQ, without attention"]
    assert row_names(models)[2] == "samkr_tiny INT8 PTQ, without attention, c.onnx"
