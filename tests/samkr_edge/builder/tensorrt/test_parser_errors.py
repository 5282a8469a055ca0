"""TensorRT's words, translated: texts as its versions print them."""

import pytest

from samkr_edge.builder.tensorrt.parser_errors import Complaint, explain, locate, parser_error
from samkr_edge.onnx_graph.onnx_file import Node, OnnxFile


def graph(*names: str) -> OnnxFile:
    nodes = [Node("Conv", name, [], [], {}, b"") for name in names]
    return OnnxFile(nodes, {}, [], [], 17, {})


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("In node 0 (QuantizeLinear): TensorRT only supports symmetric quantization", "zero points"),
        ("Assertion failed: Scale coefficients must all be positive", "never fired"),
        ("No importer registered for op: GridSample. Attempting to import as plugin.", "sample"),
        ("No importer registered for op: DeformConv", "DeformConv"),
        ("No importer registered for op: Einsum", "does not know"),
        ("getPluginCreator could not find plugin: GroupNorm version: 1", "does not know"),
        ("Unsupported ONNX data type: DOUBLE (11)", "type"),
        (
            "Error Code 4: Shape Error (reshape changes volume. Reshaping [1,102,24,24] to [1,6,2312].)",
            "batch",
        ),
        (
            "Assertion failed: (ctx->tensors().count(inputName)): Node input was not registered.",
            "no node writes",
        ),
        (
            "/Transpose: first input has type UInt8 but must have type Float, Half, BFloat16, FP8, E8M0, FP4, Int4",
            "by a cast only",
        ),
        ("Failed to sort the model topologically.", "form a cycle"),
        ("Trying to access weights or a null tensor!", "output"),
        ("Kernel weight dimension failed to broadcast to input.", "do not fit"),
        (
            "Failed to import initializer: In node -1 with name: and operator: (importInitializers)",
            "or incomplete",
        ),
    ],
)
def test_a_known_text_gets_a_meaning_and_a_remedy(text: str, meaning: str) -> None:
    found, remedy = explain(text)
    assert meaning in found
    assert remedy


def test_the_node_is_the_longest_that_the_text_names() -> None:
    complaint = Complaint("error in node /net/conv10: bad weights")
    assert locate(complaint, graph("/net/conv1", "/net/conv10")) == ("Conv", "/net/conv10")
    assert locate(Complaint("bad", node="/net/conv1"), graph("/net/conv1")) == ("Conv", "/net/conv1")
    assert locate(Complaint("bad", "Slice", "folded_3"), graph("/net/conv1")) == ("Slice", "folded_3")


def test_an_unknown_complaint_is_quoted_and_not_guessed() -> None:
    error = parser_error("m.onnx", "10.3.0", [Complaint("weird"), Complaint("weirder")], graph("/a"))
    assert error.code == "SE-B91"
    assert "weird" in error.sentence()
    assert "1 more" in error.sentence()
    assert "meaning" not in error.facts
    assert parser_error("m.onnx", "10.3.0", [], graph("/a")).facts
