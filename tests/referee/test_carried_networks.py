"""What the self-test carries, builds and breaks, before NVIDIA's own parser and builder."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_types import Build, check_types

from benchmarks.selftest.broken import at_opset_20, with_unknown_operator
from benchmarks.selftest.carried import TRAINED, write_network
from benchmarks.selftest.errors import LIBRARIES, in_a_process, stopped, told

pytestmark = pytest.mark.usefixtures("features")


@pytest.mark.parametrize(
    ("quantized", "decode_in", "batch"),
    [(False, "host", 1), (True, "host", 4), (False, "graph", 4), (True, "graph", 1)],
)
def test_the_trained_network_is_built_in_every_form(
    build: Build, tmp_path: Path, quantized: bool, decode_in: str, batch: int
) -> None:
    source = tmp_path / "model.onnx"
    write_network(source, TRAINED, quantized=quantized, decode_in=decode_in, batch=batch)
    precision = "int8" if quantized else "fp16"
    check_types(build(source, precision=precision), source, precision)


def test_a_large_network_is_built(build: Build, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    write_network(source, "samkr_w32")
    check_types(build(source, precision="fp16"), source, "fp16")


@pytest.mark.parametrize(
    ("make", "codes"), [(at_opset_20, ("SE-B88",)), (with_unknown_operator, ("SE-B91", "SE-B84"))]
)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_what_stage_7_breaks_is_refused_in_our_words(
    tmp_path: Path, make: object, codes: tuple[str, ...], precision: str
) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "made.engine"
    write_network(source, TRAINED)
    assert callable(make)
    make(source, tmp_path / "broken.onnx")
    words = ["build", str(tmp_path / "broken.onnx"), "--target", "rtx-4090", "--precision", precision]
    ran = in_a_process([*words, "-o", str(out)])
    # On a busy machine starting takes its time.
    check = told("broken", ran, ran.seconds, codes)
    assert check.passed, check
    assert not out.exists()


def test_ctrl_c_in_the_builder_as_stage_7_does_it(tmp_path: Path) -> None:
    source, folder = tmp_path / "model.onnx", tmp_path / "work"
    folder.mkdir()
    write_network(source, "samkr_w32")
    words = ["build", str(source), "--target", "rtx-any", "-o", str(folder / "made.engine")]
    check = stopped("Ctrl-C", words, folder, LIBRARIES["rtx"], patience=1.0)
    assert check.passed is not None, "the build finished before"
    assert (check.figures["status"], check.figures["left"]) == (130, []), check
    assert "Traceback" not in check.figures["said"]
