"""Offsets computed at centres alone are those of the whole maps, wherever the centres and their taps lie."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from samkr_edge.builder.cpu.centers_alone import compute_offsets_at_centers
from samkr_edge.onnx_graph.graph import Graph

decoding_head = pytest.importorskip("decoding_head", reason="its network is made by torch")


def outputs(model: onnx.ModelProto, features: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: features})


@pytest.mark.parametrize(
    ("facts", "spared"),
    [
        ({}, 1),
        ({"scale": 8.0, "single": True}, 1),
        ({"blocks": 2, "hw": (40, 48), "people": 10, "batch": 2}, 2),
        ({"blocks": 2, "people": 10}, 1),  # 450 places of 192
        ({"blocks": 3, "hw": (40, 48), "people": 10}, 2),
    ],
)
def test_candidates_are_those_of_the_whole_maps(tmp_path: Path, facts: dict[str, Any], spared: int) -> None:
    model = decoding_head.exported(tmp_path / "head.onnx", **facts)
    features = np.random.default_rng(0).normal(size=(facts.get("batch", 1), 5, *facts.get("hw", (12, 16))))
    expected = outputs(model, features.astype(np.float32))
    graph = Graph(model)
    assert compute_offsets_at_centers(graph) == spared
    changed = graph.write()
    onnx.checker.check_model(changed)
    found = outputs(changed, features.astype(np.float32))
    assert np.ptp(expected[0][..., :2]) > 8 * 4  # the joints are well apart
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    maps = {value.name: value for value in onnx.shape_inference.infer_shapes(changed).graph.value_info}
    assert "offset" not in maps


@pytest.mark.parametrize(
    "facts",
    [{"groups": 2}, {"maps": True}, {"people": 100}],
    ids=["attention reads the whole map", "the map is an output", "nearly all places"],
)
def test_a_head_whose_maps_are_needed_stays(tmp_path: Path, facts: dict[str, Any]) -> None:
    graph = Graph(decoding_head.exported(tmp_path / "head.onnx", **facts))
    before = len(graph.nodes)
    assert compute_offsets_at_centers(graph) == 0
    assert len(graph.nodes) == before
