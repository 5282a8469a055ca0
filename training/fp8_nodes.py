"""ModelOpt's FP8 quantizers in ONNX: nodes of TensorRT's own domain, replaced by standard ones.

QuantizeLinear and DequantizeLinear know FP8 from opset 19 on: the type of the zero point names it. ONNX Runtime,
TensorRT 10 and later and TensorRT for RTX take those; the nodes of the domain ``trt`` only some of NVIDIA's parsers.
"""

from __future__ import annotations

from typing import Any

# The first opset with FP8.
OPSET = 19
_STANDARD = {"TRT_FP8QuantizeLinear": "QuantizeLinear", "TRT_FP8DequantizeLinear": "DequantizeLinear"}


def standardise_fp8(model: Any) -> None:
    """Replace ModelOpt's FP8 nodes in an ONNX model by standard ones, in place."""
    from onnx import TensorProto, helper

    found = [node for node in model.graph.node if node.op_type in _STANDARD]
    if not found:
        return
    zero = "fp8_zero_point"
    model.graph.initializer.append(helper.make_tensor(zero, TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True))
    quantized = set()
    for node in found:
        standard = _STANDARD[node.op_type]
        node.name = node.name.replace(node.op_type, standard)
        node.op_type, node.domain = standard, ""
        node.input.append(zero)
        if node.op_type == "QuantizeLinear":
            quantized.add(node.output[0])
    # The exporter declared these tensors as bytes.
    kept = [value for value in model.graph.value_info if value.name not in quantized]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    domains = [entry for entry in model.opset_import if entry.domain != "trt"]
    del model.opset_import[:]
    model.opset_import.extend(domains)
