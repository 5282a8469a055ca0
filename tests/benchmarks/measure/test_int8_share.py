"""The share of multiply-accumulates in INT8, on graphs where it can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measure.int8_share import int8_share
from samkr_edge.builder.inspect.arithmetic import macs_of
from samkr_edge.builder.inspect.lint import lint
from samkr_edge.cli import run
from samkr_edge.deploy import bundle_cache
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.onnx_graph.graph import Graph


def two_convolutions(path: Path, *, resize: bool) -> Path:
    """An INT8 3x3 convolution 4 -> 8 on 8x8 and a float 1x1 convolution 8 -> 2: 18432 and 1024 products."""
    constants = {
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "w1": np.zeros((8, 4, 3, 3), np.int8),
        "w2": np.zeros((2, 8, 1, 1), np.float32),
        "sizes": np.array([1, 4, 8, 8], np.int64),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node(
            "Resize" if resize else "Identity", ["d", "", "", "sizes"] if resize else ["d"], ["r"]
        ),
        helper.make_node("DequantizeLinear", ["w1", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["r", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("resize", [False, True])
def test_the_share_is_of_products_and_not_of_layers(resize: bool, tmp_path: Path) -> None:
    model = two_convolutions(tmp_path / "m.onnx", resize=resize)
    assert int8_share(model) == pytest.approx(8 * 4 * 9 * 64 / (8 * 4 * 9 * 64 + 2 * 8 * 64))


def test_what_cannot_be_counted_has_no_share(tmp_path: Path) -> None:
    assert int8_share(tmp_path / "model.engine") is None
    (tmp_path / "cut.onnx").write_bytes(b"nothing")
    assert int8_share(tmp_path / "cut.onnx") is None


def heatmap_in_int8(path: Path) -> Path:
    """Of the two 1x1 convolutions of a dot model, to 18 and to 34 channels, put the first into INT8."""
    model = onnx.load(path)
    center = np.zeros((18, 3, 1, 1), np.int8)
    center[-1] = 127
    constants = {
        "scale": np.float32(2.0),
        "weight_scale": np.float32(1e-5),
        "zero": np.int8(0),
        "q_center": center,
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    at = next(i for i, node in enumerate(model.graph.node) if "heatmap" in node.output)
    model.graph.node[at].input[:2] = ["d_cells", "d_center"]
    for node in (
        helper.make_node("DequantizeLinear", ["q_center", "weight_scale", "zero"], ["d_center"]),
        helper.make_node("DequantizeLinear", ["q_cells", "scale", "zero"], ["d_cells"]),
        helper.make_node("QuantizeLinear", ["cells", "scale", "zero"], ["q_cells"]),
    ):
        model.graph.node.insert(at, node)
    onnx.save(model, path)
    return path


def test_a_bundle_shows_the_share_of_the_model_that_this_device_runs(
    dot_model: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMKR_EDGE_TARGET", "cpu")
    bundle = write_bundle(heatmap_in_int8(dot_model(tmp_path / "m.onnx")), tmp_path / "pose.samkr").path
    assert run(["bench", str(bundle), "--rounds", "10", "--no-memory", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["int8_share"] == pytest.approx(18 / (18 + 34))
    # Where it is an engine that runs, the graph would tell nothing of what TensorRT chose.
    monkeypatch.setattr(bundle_cache, "ready_model", lambda path: path.with_suffix(".engine"))
    assert int8_share(bundle) is None


def test_bench_and_inspect_count_the_same_products(tmp_path: Path) -> None:
    """A matrix product behind the two convolutions is work for both."""
    path = two_convolutions(tmp_path / "m.onnx", resize=False)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("MatMul", ["y", "w3"], ["z"], name="/net/last/MatMul"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((8, 5), np.float32), "w3"))
    model.graph.output[0].name = "z"
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 5
    onnx.save(model, path)
    found = lint(Graph(onnx.load(path)))
    assert [one.macs for one in found.convolutions] == [18432, 1024, 2 * 8 * 5 * 8]
    assert found.int8_share == int8_share(path) == 18432 / (18432 + 1024 + 640)


def test_a_transposed_convolution_multiplies_every_value_that_it_reads() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    shapes = {"x": (1, 2, 5, 6), "w": (2, 3, 4, 4), "y": (1, 3, 10, 12)}
    assert macs_of(node, shapes) == 5 * 6 * 2 * 3 * 4 * 4
