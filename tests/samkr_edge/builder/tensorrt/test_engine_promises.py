"""Softmax, grid, sampling and last convolutions are FP32 in the engine, quantized convolutions INT8; or it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from builder_logs import BUILDS, builder_layers

from samkr_edge.builder.inspect.builder_listing import listing_of_log
from samkr_edge.builder.inspect.engine_layers import Layer, parse_layers
from samkr_edge.builder.inspect.engine_measures import measure
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.engine_promises import Promises, broken_promises, promises_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx

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


DATA = Path(__file__).parents[3] / "data"


@pytest.mark.parametrize("version", [8, 10, 11])
def test_the_inspectors_json_of_every_generation_is_held_against_the_promises(version: int) -> None:
    text = (DATA / f"engine_layers_trt{version}.json").read_text()
    last = Promises((), (), FINAL[:1], (), ())
    assert broken_promises(parse_layers(text), last) == []
    listing = json.loads(text)
    (layer,) = [one for one in listing["Layers"] if one["Name"] == FINAL[0]]
    layer["Weights"]["Type"] = "Half"
    (broken,) = broken_promises(layers_of(listing), last)
    assert broken.node == FINAL[0]
    assert FINAL[0] in broken.found


def full_layer(name: str, kind: str, reads: str, writes: str) -> dict[str, Any]:
    def tensor(dtype: str) -> dict[str, Any]:
        return {"Name": f"{name} {dtype}", "Dimensions": [1, 17, 64], "Format/Datatype": dtype}

    return {"Name": name, "LayerType": kind, "Inputs": [tensor(reads)], "Outputs": [tensor(writes)]}


GRID = "/net/offset_head/blocks/blocks.0/sampling/Mul_2"


@pytest.mark.parametrize(
    ("name", "kind", "reads", "writes", "kept"),
    [
        (SOFTMAX, "SoftMax", "Row major linear FP32", "Row major linear FP32", True),
        (SOFTMAX, "SoftMax", "Half", "Half", False),
        (SOFTMAX, "SoftMax", "Float", "Half", False),
        (SAMPLING, "GridSample", "Float", "Half", True),  # samples are FP16 where the next convolution is
        (SAMPLING, "GridSample", "Half", "Half", False),
        # A fused pointwise kernel reads what a convolution in FP16 wrote.
        (
            f"PWN({GRID} + /net/offset_head/blocks/blocks.0/sampling/Add)",
            "PointWiseV2",
            "Half",
            "Float",
            True,
        ),
        (
            f"PWN({GRID} + /net/offset_head/blocks/blocks.0/sampling/Add)",
            "PointWiseV2",
            "Half",
            "Half",
            False,
        ),
    ],
)
def test_layers_of_full_tensorrt_are_judged_by_what_they_read_and_write(
    name: str, kind: str, reads: str, writes: str, kept: bool
) -> None:
    promises = Promises(
        (), (), (), (SOFTMAX,) * (name == SOFTMAX), (SAMPLING,) * (name == SAMPLING), (GRID,) * (GRID in name)
    )
    broken = broken_promises(layers_of({"Layers": [full_layer(name, kind, reads, writes)]}), promises)
    assert (not broken) is kept
    assert all(one.found for one in broken)


def test_a_block_of_the_graph_compiler_neither_keeps_nor_breaks_a_promise() -> None:
    block = full_layer(
        "{ForeignNode[/net/a/Mul.../net/offset_head/attention/Softmax]}", "Myelin", "Half", "Half"
    )
    (broken,) = broken_promises(layers_of({"Layers": [block]}), Promises((), (), (), (SOFTMAX,), ()))
    assert (broken.node, broken.found) == (SOFTMAX, "")


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


@pytest.mark.parametrize(
    ("name", "kind", "node"),
    [
        ("__myl_bb0_8_CasMaxSubExpSumDiv_com_vec", "kgen", SOFTMAX),
        ("_gemm_mha_v2_myl0_4", "kgen", SOFTMAX),
        ("__myl_bb1_3_AddMulAddTraGriCas", "kgen", SAMPLING),
        ("__myl_bb1_3_AddMulAddTraGriCas", "kgen", GRID),
        ("__myl_CastCorrAdd_myl0_7", "runtime_fusion", FINAL[0]),  # its weights are not listed
    ],
)
def test_a_kernel_that_may_cast_unseen_is_told_and_not_refused(name: str, kind: str, node: str) -> None:
    layer = {**full_layer(name, kind, "Half", "Half"), "Metadata": f"[ONNX Layer: {node}]"}
    promises = Promises(
        (), (), FINAL[:1] * (node == FINAL[0]), (SOFTMAX,) * (node == SOFTMAX), (SAMPLING,) * (node == SAMPLING),
        (GRID,) * (node == GRID),
    )  # fmt: skip
    assert [one for one in broken_promises(layers_of({"Layers": [layer]}), promises) if one.found] == []


def test_coordinates_of_a_kernel_that_may_cast_unseen_are_not_held_against_the_sampling() -> None:
    grid = {"Name": "grid", "Dimensions": [1, 64, 64, 2], "Format/Datatype": "Float"}
    sampling = full_layer("__myl_ReshGridResh_myl0_9", "kgen", "Float", "Float")
    sampling |= {"Metadata": f"[ONNX Layer: {SAMPLING}]", "Inputs": [*sampling["Inputs"], grid]}
    maker = {**full_layer("__myl_bb1_3_CasAddMulAddTra", "kgen", "Half", "Float"), "Outputs": [grid]}
    promises = Promises((), (), (), (), (SAMPLING,))
    assert broken_promises(layers_of({"Layers": [maker, sampling]}), promises) == []
    maker["Name"] = "__myl_AddMulAddTranCast_myl0_3"
    (broken,) = broken_promises(layers_of({"Layers": [maker, sampling]}), promises)
    assert broken.node == SAMPLING
