"""Kernels, bytes and types are summed alike over what TensorRT for RTX's builder and TensorRT's inspector list."""

import json
from dataclasses import replace
from typing import Any

import pytest
from builder_logs import BUILDS, DATA, builder_layers

from samkr_edge.builder.inspect.engine_layers import parse_layers
from samkr_edge.builder.inspect.engine_measures import EngineMeasures, measure


def measured(build: str) -> EngineMeasures:
    return measure(parse_layers(builder_layers(build)))


def tensor(name: str, shape: list[int], dtype: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Dimensions": shape,
        "Datatype": dtype,
        "Format": "(Linear) Row major linear format",
    }


def layer(name: str, kind: str, inputs: list[Any], outputs: list[Any], *constants: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": inputs,
        "Constants": list(constants),
        "Outputs": outputs,
        "TacticName": "",
        "Metadata": "",
    }


def measure_of(*layers: dict[str, Any]) -> EngineMeasures:
    return measure(parse_layers(json.dumps({"Layers": layers})))


# Counted by hand-written expressions over the same logs when they were recorded.
@pytest.mark.parametrize(
    ("build", "kernels", "elementwise", "megabytes", "convolutions"),
    [
        ("fp32", 103, 20, 38.4512, {("fp32", "fp32"): 81}),
        ("fp16", 103, 20, 22.486016, {("fp16", "fp16"): 77, ("fp16", "fp32"): 2, ("fp32", "fp32"): 2}),
        (
            "int8",
            154,
            72,
            27.65824,
            {("int8", "fp32"): 75, ("fp16", "fp16"): 3, ("fp16", "fp32"): 1, ("fp32", "fp32"): 2},
        ),
        (
            "int8_sm75",
            232,
            150,
            42.000896,
            {("fp16", "fp16"): 78, ("fp16", "fp32"): 1, ("fp32", "fp32"): 2},
        ),
    ],
)
def test_the_recorded_builds_measure_as_they_did(
    build: str, kernels: int, elementwise: int, megabytes: float, convolutions: dict[tuple[str, str], int]
) -> None:
    found = measured(build)
    assert (found.kernels, found.elementwise) == (kernels, elementwise)
    assert found.bytes_moved / 1e6 == megabytes
    assert found.convolutions == convolutions
    assert sum(found.convolutions.values()) == 81  # samkr_tiny's, none lost and no kernel taken for one
    assert found.unknown_macs == 0


def test_macs_follow_from_weights_and_agree_between_precisions() -> None:
    totals = {build: sum(measured(build).macs.values()) for build in BUILDS}
    # FP16 and INT8 pad the image to four channels; on Turing more is padded.
    assert totals["fp16"] == totals["int8"] == totals["fp32"] + 64 * 64 * 32 * 9
    assert totals["fp32"] < totals["int8_sm75"] < 1.1 * totals["fp32"]
    assert measured("int8").int8_share == pytest.approx(0.917, abs=5e-4)
    assert measured("int8_sm75").int8_share == 0


def test_the_summary_is_one_line_of_what_matters() -> None:
    assert measured("int8").summary() == (
        "91.7 % INT8, 8.0 % FP16, 0.3 % FP32 of MACs; 75 of 75 INT8 convolutions write FP32; "
        "154 kernels, 72 of them elementwise, 27.7 MB of activations moved"
    )
    assert "INT8" not in measured("fp16").summary()


def test_groups_and_residual_inputs_do_not_confuse_the_work_of_a_convolution() -> None:
    skip, image = tensor("skip", [1, 136, 32, 32], "Half"), tensor("image", [1, 1224, 32, 32], "Half")
    grouped = layer(
        "__myl_CorrAddAddRelu_myl0_1",
        "runtime_fusion",
        [skip, image],
        [tensor("out", [1, 136, 32, 32], "Half")],
        tensor("bias", [1, 136, 1, 1], "Half"),
        tensor("weight", [136, 72, 1, 1], "Half"),
    )
    (found,) = parse_layers(json.dumps({"Layers": [grouped]}))
    assert found.macs == 32 * 32 * 136 * 72
    assert found.channels == (72, 8)  # 17 groups


def test_a_matrix_product_that_was_a_convolution_is_one() -> None:
    product = layer(
        "__myl_FcAddRelu_myl0_3",
        "runtime_fusion",
        [tensor("x", [1, 480, 16384], "Half")],
        [tensor("y", [1, 272, 16384], "Half")],
        tensor("bias", [1, 272, 1], "Half"),
        tensor("weight", [1, 272, 480], "Half"),
    )
    assert measure_of(product).macs == {"fp16": 272 * 480 * 16384}


def test_waits_are_no_kernels_and_resizes_no_convolutions() -> None:
    found = measure_of(
        layer("a", "signal", [], []),
        layer("b", "wait", [], []),
        layer("c", "shape_call", [], []),
        layer("d", "NoOp", [], []),
        layer(
            "__myl_Resi_myl0_4",
            "runtime_function",
            [tensor("x", [1, 32, 8, 8], "Half")],
            [tensor("y", [1, 32, 16, 16], "Half")],
        ),
    )
    assert (found.kernels, found.elementwise, found.convolutions) == (1, 0, {})
    assert found.bytes_moved == 2 * 32 * (64 + 256)


@pytest.mark.parametrize(
    ("dtype", "size"), [("Float", 4), ("Half", 2), ("Int8", 1), ("FP8", 1), ("UInt8", 1), ("Int64", 8)]
)
def test_bytes_are_of_the_real_types_and_an_open_batch_is_one_image(dtype: str, size: int) -> None:
    one = layer(
        "__myl_Move_myl0_1",
        "kgen",
        [tensor("x", [-1, 3, 5, 7], dtype)],
        [tensor("y", [-1, 3, 5, 7], dtype)],
        tensor("constant", [1000], "Float"),
    )
    assert measure_of(one).bytes_moved == 2 * 3 * 5 * 7 * size


def test_fp8_convolutions_are_told_apart() -> None:
    one = layer(
        "conv0_myl0_1",
        "correlation",
        [tensor("x", [1, 64, 32, 32], "FP8")],
        [tensor("y", [1, 64, 32, 32], "Half")],
        tensor("w", [64, 64, 3, 3], "FP8"),
    )
    found = measure_of(one)
    assert found.convolutions == {("fp8", "fp16"): 1}
    assert "0 of 1 FP8 convolutions write FP32" in found.summary()


def test_the_inspectors_json_of_full_tensorrt_is_measured_by_the_same_code() -> None:
    versions = [
        measure(parse_layers((DATA / f"engine_layers_trt{version}.json").read_text()))
        for version in (8, 10, 11)
    ]
    assert versions[0] == versions[1] == versions[2]
    assert versions[0].convolutions[("int8", "int8")] == 5
    assert versions[0].int8_writing_float == 0
    assert versions[0].kernels == 19


def test_what_predicts_time_counts_a_megabyte_for_every_kernel() -> None:
    """INT8 that moves a little less in many more kernels does not win over FP16."""
    int8, half = measured("int8"), measured("fp16")
    for one in (int8, half):
        assert one.cost == one.bytes_moved + 1_000_000 * one.kernels
    assert int8.kernels > half.kernels
    fewer = replace(int8, bytes_moved=half.bytes_moved - 1_000_000)
    assert fewer.cost > half.cost
