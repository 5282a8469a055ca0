"""Quantizing keeps a few of its images; they travel with the ONNX unless somebody asks for rendered ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from samkr_edge.builder.check.probe import parse_probe, probe_of
from samkr_edge.cli import run
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from training.checkpoint import load_checkpoint


def test_calibration_images_travel_from_quantizing_to_the_onnx(
    fp32: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantized, out = str(tmp_path / "ptq.pt"), tmp_path / "ptq.onnx"
    assert run(["quantize", str(fp32), "--data", str(people), "--images", "8", "-o", quantized]) == 0
    assert "4 calibration images, small, travel with it" in capsys.readouterr().out
    kept = parse_probe(load_checkpoint(quantized).quantization["probe"])
    assert str(kept) == "4 calibration images"
    assert run(["export", quantized, "-o", str(out)]) == 0
    assert probe_of(read_onnx(out).metadata) == kept
    assert run(["export", quantized, "-o", str(out), "--probe", "rendered"]) == 0
    rendered = probe_of(read_onnx(out).metadata)
    assert rendered is not None
    assert rendered.kind == "rendered"
    assert not set(rendered.jpegs) & set(kept.jpegs)
