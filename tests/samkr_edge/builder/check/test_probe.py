"""Small pictures travel with an ONNX through all that is done to it; damaged ones are one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from samkr_edge.builder.check.probe import PROBE_KEY, make_probe, parse_probe, probe_batch, probe_of
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.half import bake
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_file import with_metadata
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx


def picture(height: int, width: int) -> np.ndarray:
    """A soft red spot on grey, uint8 RGB."""
    y, x = np.mgrid[:height, :width]
    near = np.exp(-((x - width / 2) ** 2 + (y - height / 2) ** 2) / (0.1 * width * height))
    return np.stack([80 + 150 * near, 80 - 60 * near, 80 - 60 * near], axis=2).astype(np.uint8)


def test_pictures_come_back_small_and_in_their_colours() -> None:
    probe = make_probe("calibration", [picture(480, 640), picture(100, 50)])
    assert max(len(jpeg) for jpeg in probe.jpegs) < 8000
    assert parse_probe(probe.to_text()) == probe
    assert str(probe) == "2 calibration images"
    batch = probe_batch(probe, (64, 96))
    assert (batch.shape, batch.dtype) == ((2, 64, 96, 3), np.uint8)
    assert batch[0, 32, 48, 0] > 200  # red first
    assert batch[0, 32, 48, 2] < 60
    assert batch[1, :, :20].max() < 10  # a tall picture lies in the middle, the rest is black


def test_the_probe_survives_what_is_done_to_a_graph(float_onnx: Path, int8_onnx: Path) -> None:
    for path in (float_onnx, int8_onnx):
        model = read_onnx(path)
        probe = probe_of(model.metadata)
        assert probe is not None
        assert len(probe.jpegs) == 4
        for graph in (prepare(model, ("cast_first", "strip_quantizers")), bake(path.read_bytes())):
            assert probe_of(decode_onnx(graph).metadata) == probe


def test_a_built_cpu_model_does_without(float_onnx: Path, tmp_path: Path) -> None:
    built = build_cpu(float_onnx, tmp_path / "tiny.cpu.onnx")
    assert PROBE_KEY not in {entry.key for entry in onnx.load(built.path).metadata_props}
    assert built.passport.measured["agreement"]["probe"] == "4 rendered images"


DAMAGED = [
    "no JSON",
    "[]",
    '{"schema_version": 2, "kind": "rendered", "images": []}',
    '{"schema_version": 1, "kind": "rendered", "images": []}',
    '{"schema_version": 1, "kind": "rendered", "images": ["AAAA"]}',
    '{"schema_version": 1, "kind": "rendered", "images": ["%%"]}',
    '{"schema_version": 1, "kind": "rendered", "images": [7]}',
    json.dumps({"schema_version": 1, "kind": "rendered", "images": ["AAAA"] * 17}),
    "[" * 100_000,
]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_pictures_are_one_clear_error(text: str) -> None:
    with pytest.raises(SamkrError) as raised:
        parse_probe(text)
    assert raised.value.code == "SE-A24"


def test_a_huge_picture_is_refused() -> None:
    probe = make_probe("rendered", [picture(64, 64)])
    huge = cv2.imencode(".jpg", np.zeros((1100, 64, 3), np.uint8))[1].tobytes()
    with pytest.raises(SamkrError, match="damaged"):
        parse_probe(type(probe)("rendered", (huge,)).to_text())


def test_a_build_from_a_damaged_probe_leaves_nothing(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_onnx(float_onnx)
    model.drop_metadata(PROBE_KEY)
    source = tmp_path / "bad.onnx"
    source.write_bytes(with_metadata(model.encode(), PROBE_KEY, "{}"))
    assert run(["build", str(source), "--target", "cpu"]) != 0
    assert "SE-A24" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_inspect_tells_what_pictures_travel(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who gives a file away wants to know."""
    model = read_onnx(float_onnx)
    assert run(["inspect", str(float_onnx), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["probe"]
    assert shown["kind"] == "rendered"
    assert 4000 < shown["bytes"] < 50_000
    model.drop_metadata(PROBE_KEY)
    for name, text, words in (
        ("calibrated", make_probe("calibration", [picture(64, 64)] * 2).to_text(), "2 calibration images"),
        ("damaged", "{}", "damaged"),
    ):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(with_metadata(model.encode(), PROBE_KEY, text))
        assert run(["inspect", str(path)]) == 0
        assert words in capsys.readouterr().out
