"""NVIDIA's parser takes every graph that we export, its builder makes an engine of it, and no convolution is lost.

64x64 pixels, and trunks that do not repeat themselves: what is new to a parser is all there.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from conftest import Build
from engine_types import convolution_types, nodes_of
from small_exports import export, quantized, shallow_network

from samkr_edge.build.engine_bytes import SerializedEngine
from training.models.pose_net import PoseNet
from training.models.zoo import model_names

LAST = ("/heatmap_head/final/Conv", "/offset_head/final/Conv")


@pytest.fixture(scope="module")
def tiny() -> PoseNet:
    return shallow_network("samkr_tiny")


@pytest.fixture(scope="module")
def tiny_int8(tiny: PoseNet) -> PoseNet:
    return quantized(tiny, "default")


@pytest.fixture(scope="module")
def float_onnx(tiny: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny, tmp_path_factory.mktemp("float") / "tiny.onnx")


@pytest.fixture(scope="module")
def int8_onnx(tiny_int8: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_int8, tmp_path_factory.mktemp("int8") / "tiny.onnx", "int8")


def check(engine: SerializedEngine, source: Path, precision: str) -> None:
    """The engine holds every convolution of the graph, and these types where the plan said so."""
    types = convolution_types(engine)
    assert types.keys() == nodes_of(source, "Conv")
    assert {kind for node, kind in types.items() if node.endswith(LAST)} == {"fp32"}
    trunk = {kind for node, kind in types.items() if "/backbone/" in node}
    assert trunk == {precision}


@pytest.mark.parametrize("name", model_names())
def test_every_network_of_the_zoo(build: Build, tmp_path: Path, name: str) -> None:
    source = export(shallow_network(name), tmp_path / "model.onnx")
    assert ("GridSample" in source.read_bytes().decode("latin-1")) is ("nodc" not in name)
    check(build(source), source, "fp16")


@pytest.mark.parametrize("opset", [16, 18, 19])
def test_float_graphs_of_every_opset(build: Build, tiny: PoseNet, tmp_path: Path, opset: int) -> None:
    source = export(tiny, tmp_path / "model.onnx", opset=opset)
    for precision in ("fp32", "fp16"):
        check(build(source, precision=precision), source, precision)


@pytest.mark.parametrize("opset", [16, 18, 19])
def test_quantized_graphs_of_every_opset(
    build: Build, tiny_int8: PoseNet, tmp_path: Path, opset: int
) -> None:
    source = export(tiny_int8, tmp_path / "model.onnx", "int8", opset=opset)
    check(build(source), source, "int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_and_quantized_graphs_of_opset_17_in_every_precision(
    build: Build, float_onnx: Path, int8_onnx: Path, precision: str
) -> None:
    """The quantized one without its quantizers."""
    check(build(float_onnx, precision=precision), float_onnx, precision)
    check(build(int8_onnx, precision=precision), int8_onnx, precision)


@pytest.mark.parametrize("target", ["rtx-3060", "rtx-4090", "rtx-5090", "rtx-30-and-up"])
def test_int8_for_one_card_and_for_many(build: Build, int8_onnx: Path, target: str) -> None:
    check(build(int8_onnx, target), int8_onnx, "int8")


def test_fp16_that_was_exported(build: Build, tiny: PoseNet, tiny_int8: PoseNet, tmp_path: Path) -> None:
    halved = export(tiny, tmp_path / "half.onnx", half=True)
    check(build(halved), halved, "fp16")
    beside_int8 = export(tiny_int8, tmp_path / "both.onnx", "int8", half=True, opset=19)
    check(build(beside_int8), beside_int8, "int8")
    check(build(beside_int8, precision="fp16"), beside_int8, "fp16")


@pytest.mark.parametrize("policy", ["everything", "trunk_only"])
def test_every_shipped_policy(build: Build, tiny: PoseNet, tmp_path: Path, policy: str) -> None:
    source = export(quantized(tiny, policy), tmp_path / "model.onnx", "int8")
    check(build(source), source, "int8")


def test_decoding_in_the_graph(build: Build, tiny: PoseNet, tiny_int8: PoseNet, tmp_path: Path) -> None:
    decoding = export(tiny, tmp_path / "float.onnx", decode="graph")
    for precision in ("fp32", "fp16"):
        check(build(decoding, precision=precision), decoding, precision)
    decoding = export(tiny_int8, tmp_path / "int8.onnx", "int8", decode="graph")
    check(build(decoding), decoding, "int8")


def test_fourteen_keypoints(build: Build, tmp_path: Path) -> None:
    network = shallow_network("samkr_tiny", keypoints=14)
    source = export(network, tmp_path / "float.onnx", decode="graph")
    check(build(source), source, "fp16")
    source = export(quantized(network, "default"), tmp_path / "int8.onnx", "int8")
    check(build(source), source, "int8")


def test_batches(build: Build, tiny: PoseNet, tiny_int8: PoseNet, tmp_path: Path) -> None:
    for network, precision, kind in ((tiny, "fp32", "fp16"), (tiny_int8, "int8", "int8")):
        source = export(network, tmp_path / "three.onnx", precision, batch=3)
        check(build(source), source, kind)


def test_an_open_batch_is_built_for_the_batch_asked_for(build: Build, tmp_path: Path) -> None:
    source = export(shallow_network("dekr_w32_nodc"), tmp_path / "open.onnx")
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, source)
    engine = build(source, batch=3)
    check(engine, source, "fp16")
    assert "MinShape: [3,64,64,3], OptShape: [3,64,64,3], MaxShape: [3,64,64,3]" in (engine.listing or "")
