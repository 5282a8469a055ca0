"""The builder's log is read layer by layer, odd names included; what cannot be read is an error, never fewer layers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builder_logs import BUILDS, builder_log

from samkr_edge.builder.inspect.builder_listing import (
    layers_path,
    layers_text,
    listing_of_log,
    listings_of_log,
)
from samkr_edge.builder.inspect.engine_layers import parse_layers
from samkr_edge.errors import SamkrError

# As TensorRT for RTX printed it of a network whose names are meant to confuse.
ODD = (
    "Name: a, b], Outputs: [ { c_myl0_2, LayerType: correlation, Inputs: [ { Name: x, y [1], { Name: q }, "
    "Dimensions: [-1,3,16,16], Strides: [768,1,48,3], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel "
    "major format }], Constants: [ { Name: w, Dimensions: [8,3,3,3], Strides: [27,1,9,3], StrideOrder: [3,0,2,1], "
    "Datatype: Float, Format: (Arbitrary) Format with stride order = [4,1,0,3,2] }, { Name: one, Dimensions: [1], "
    "Strides: [1], StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format }], Outputs: [ { Name: "
    "m]n, LayerType: no, Dimensions: [-1,8,16,16], Strides: [2048,1,128,8], StrideOrder: [3,0,2,1], Datatype: Half, "
    "Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 3, EventId: 7, Metadata: "
    "[ONNX Layer: a, b], Outputs: [ { c]\x1f[ONNX Layer: s]"
)


def log_of(*layers: str) -> str:
    return "\n".join(
        [
            "[V] Layers:",
            *layers,
            "",
            "I/O Tensors:",
            " Name: x, IOMode: Input, DataType: Float, Dimensions: [1], Z: 1",
        ]
    )


@pytest.mark.parametrize("build", BUILDS)
def test_every_layer_and_tensor_of_a_real_log_is_read(build: str) -> None:
    log = builder_log(build)
    listing = listing_of_log(log)
    tensors = [
        tensor
        for layer in listing["Layers"]
        for part in ("Inputs", "Constants", "Outputs")
        for tensor in layer[part]
    ]
    assert len(listing["Layers"]) == log.count(", LayerType: ") > 170
    assert len(tensors) == log.count(", StrideOrder: ") > 500
    assert {tensor["Datatype"] for tensor in tensors} <= {"Float", "Half", "Int8", "UInt8"}
    assert [tensor["Name"] for tensor in listing["I/O Tensors"]] == ["image", "heatmap", "offset"]
    made = {tensor["Name"] for layer in listing["Layers"] for tensor in layer["Outputs"]}
    read = {tensor["Name"] for layer in listing["Layers"] for tensor in layer["Inputs"]}
    assert read - made == {"image"}
    assert made - read == {"heatmap", "offset"}


def test_names_with_commas_brackets_and_field_names_are_kept_whole() -> None:
    (layer,) = listing_of_log(log_of(ODD))["Layers"]
    assert layer["Name"] == "a, b], Outputs: [ { c_myl0_2"
    assert layer["LayerType"] == "correlation"
    assert [tensor["Name"] for tensor in layer["Inputs"]] == ["x, y [1], { Name: q }"]
    assert [tensor["Name"] for tensor in layer["Constants"]] == ["w", "one"]
    assert layer["Constants"][0]["Format"] == "(Arbitrary) Format with stride order = [4,1,0,3,2]"
    assert [tensor["Name"] for tensor in layer["Outputs"]] == ["m]n, LayerType: no"]
    assert layer["Outputs"][0]["Dimensions"] == [-1, 8, 16, 16]
    assert layer["Metadata"] == "[ONNX Layer: a, b], Outputs: [ { c]\x1f[ONNX Layer: s]"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace("Name: ", "name: ", 1),
        lambda line: line.replace(", Datatype: Float", "", 1),
        lambda line: line.replace(", Datatype: Float, Format: (Arbitrary)", ", Format: (Arbitrary)"),
        lambda line: line.replace("Constants: [", "Weights: [", 1),
        lambda line: line.replace(", TacticName: __myelin_CASK_STUB", ""),
        lambda line: line.replace("Dimensions: [8,3,3,3]", "Dimensions: [8,3,?,3]"),
        lambda line: line.replace("Channel major format }]", "Channel major format ]", 1),
        lambda line: "two words",
        lambda line: '{"Name": "conv", "LayerType": "CaskConvolution"}',
    ],
)
def test_a_line_in_another_form_is_an_error_that_shows_it(damage: Callable[[str], str]) -> None:
    with pytest.raises(SamkrError, match="cut off or in an unknown form") as error:
        listing_of_log(log_of(ODD, damage(ODD), ODD))
    assert error.value.code == "SE-B62"
    assert error.value.facts["line"] == 3


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_log_that_ends_within_the_layers_is_an_error(kept: float) -> None:
    log = builder_log("int8")
    end = int(kept * log.index("I/O Tensors:"))
    for cut in (log[:end], log[: log.rindex("\n", 0, end)]):
        with pytest.raises(SamkrError) as error:
            listing_of_log(cut)
        assert error.value.code == "SE-B62"


def test_a_log_without_layers_says_what_the_build_needs() -> None:
    for log in ("", "[V] After reformat layers: 1 layers\n[I] Engine generation completed in 1 seconds."):
        assert listings_of_log(log) == []
        with pytest.raises(SamkrError, match="lists no engine") as error:
            listing_of_log(log)
        assert "DETAILED" in str(error.value)
    with pytest.raises(SamkrError) as error:
        listing_of_log(log_of())
    assert "no layer follows" in str(error.value)


def test_the_engines_of_one_log_are_kept_apart() -> None:
    several = "\n".join([builder_log("fp16"), builder_log("int8")])
    fp16, int8 = listings_of_log(several)
    assert fp16 == listing_of_log(builder_log("fp16"))
    assert int8 == listing_of_log(builder_log("int8"))
    with pytest.raises(SamkrError, match="several engines") as error:
        listing_of_log(several)
    assert error.value.code == "SE-B61"


def test_the_listing_beside_an_engine_is_what_the_log_says(tmp_path: Path) -> None:
    engine = tmp_path / "pose.engine"
    listing = listing_of_log(builder_log("int8").replace("\n", "\r\n"), ["8.6", "8.9"])
    layers_path(engine).write_text(layers_text(listing), encoding="utf-8")
    text = layers_path(engine).read_text(encoding="utf-8")
    assert json.loads(text) == listing
    assert listing["Compute Capabilities"] == ["8.6", "8.9"]
    assert listing["Number of Compute Capabilities"] == 1  # as the log has it
    assert len(parse_layers(text)) == len(listing["Layers"])
    assert text.count("\n") < len(listing["Layers"]) + 20  # a layer a line
