"""Softmax, grid, sampling and last convolutions are FP32 in the engine, quantized convolutions INT8; or it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from builder_logs import BUILDS, builder_layers

from samkr_edge.build.builder_listing import listing_of_log
from samkr_edge.build.engine_layers import Layer, parse_layers
from samkr_edge.build.engine_measures import measure
from samkr_edge.build.engine_promises import Promises, broken_promises, promises_of
from samkr_edge.build.onnx_file import decode_onnx, read_onnx
from samkr_edge.build.tensorrt_graph import prepare

FINAL = ("/net/heatmap_head/final/Conv", "/net/offset_head/final/Conv")
SOFTMAX = "/net/offset_head/attention/Softmax"
SAMPLING = "/net/offset_head/blocks/blocks.0/sampling/GridSample"
FLOAT = Promises((), (), FINAL, (SOFTMAX,), (SAMPLING,))


@pytest.fixture(scope="module")
def int8(int8_onnx: Path) -> Promises:
    return promises_of(read_onnx(int8_onnx))


def layers_of(listing: dict[str, Any]) -> list[Layer]:
    return parse_layers(json.dumps(listing))


def test_the_graph_says_what_its_engine_should_compute(int8: Promises) -> None:
    assert len(int8.int8) == 75
    assert int8.fp32 == FINAL
    assert (int8.softmaxes, int8.samplings) == ((SOFTMAX,), (SAMPLING,))
    assert not set(int8.int8) & set(int8.fp32)


@pytest.mark.parametrize("build", BUILDS)
def test_every_recorded_engine_keeps_fp32_where_it_is_promised(build: str) -> None:
    assert broken_promises(parse_layers(builder_layers(build)), FLOAT) == []


def test_int8_is_kept_from_ampere_on_and_broken_for_turing(int8: Promises) -> None:
    assert broken_promises(parse_layers(builder_layers("int8")), int8) == []
    broken = broken_promises(parse_layers(builder_layers("int8_sm75")), int8)
    assert {one.node for one in broken} == set(int8.int8)
    assert "should be INT8" in str(broken[0])
    assert "reads FP16" in str(broken[0])


@pytest.mark.parametrize(
    ("part", "renamed", "node"),
    [
        ("heatmap_head/final/Conv", None, FINAL[0]),
        ("MaxrSubExp", "__myl_ReshMaxrSubExpSumDiv_myl0_9", SOFTMAX),
        ("GridCast", "__myl_ReshGridResh_myl0_9", SAMPLING),
        (
            "ReshCastSlic",
            "__myl_ReshSlicReshSlicMulSlicMulAddCast_myl0_9",
            SAMPLING,
        ),  # the grid it samples by
    ],
)
def test_fp16_where_fp32_is_promised_is_told(part: str, renamed: str | None, node: str) -> None:
    listing = json.loads(builder_layers("fp16"))
    (layer,) = [one for one in listing["Layers"] if part in one["Name"]]
    layer["Name"] = renamed or layer["Name"]
    for tensor in (*layer["Inputs"], *layer["Constants"]):
        tensor["Datatype"] = "Half"
    assert [one.node for one in broken_promises(layers_of(listing), FLOAT)] == [node]


def test_a_node_that_no_layer_names_is_a_broken_promise() -> None:
    listing = json.loads(builder_layers("fp16"))
    for layer in listing["Layers"]:
        layer["Metadata"] = layer["Metadata"].replace(f"[ONNX Layer: {SOFTMAX}]", "")
    (broken,) = broken_promises(layers_of(listing), FLOAT)
    assert (broken.node, broken.found) == (SOFTMAX, "")
    assert str(broken).endswith("no layer names it")


def test_a_live_build_is_listed_and_keeps_its_promises(int8_onnx: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    messages: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: Any, message: str) -> None:
            messages.append(message)

    graph = prepare(read_onnx(int8_onnx), ("cast_first", "bake_fp16"))
    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert builder.build_serialized_network(network, config) is not None
    listing = listing_of_log("\n".join(messages))
    layers = layers_of(listing)
    assert len(layers) == "\n".join(messages).count(", LayerType: ")
    found = measure(layers)
    assert sum(found.convolutions.values()) == 81
    assert found.computed_in("int8") == 75
    assert broken_promises(layers, promises_of(decode_onnx(graph))) == []
