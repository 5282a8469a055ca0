"""NVIDIA's parser takes every kind of float graph that we export, and its builder makes of it what the plan says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_types import Build, check_types
from small_exports import export, heads_network


@pytest.mark.parametrize(
    ("keypoints", "options"),
    [
        (17, {"opset": 16, "batch": 3}),
        (17, {"opset": 17}),
        (14, {"opset": 18}),
        (17, {"opset": 19, "decode": "graph"}),
        (14, {"decode": "graph"}),
        (17, {"half": True}),
    ],
    ids=str,
)
def test_float_graphs_of_every_kind(
    build: Build, tmp_path: Path, keypoints: int, options: dict[str, Any]
) -> None:
    source = export(heads_network("samkr_tiny", keypoints), tmp_path / "model.onnx", **options)
    for precision in ("fp16",) if "half" in options else ("fp32", "fp16"):
        check_types(build(source, precision=precision), source, precision)
