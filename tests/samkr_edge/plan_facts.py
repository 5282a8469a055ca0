"""What plans are made of in tests: the facts of a graph like samkr_w32's, quantized and float."""

from dataclasses import replace

from samkr_edge.onnx_graph.onnx_facts import OnnxFacts

INT8 = OnnxFacts(
    opset=17,
    input_shape=(1, 512, 512, 3),
    uint8_input=True,
    precision="int8",
    weights="fp32",
    ops={"Conv": 300, "GridSample": 2, "QuantizeLinear": 500, "DequantizeLinear": 500},
    grid_modes=("bilinear",),
    branch_quantizers=60,
)
FP32 = replace(INT8, precision="fp32", ops={"Conv": 300, "GridSample": 2}, branch_quantizers=0)
