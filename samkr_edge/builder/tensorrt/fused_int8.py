"""INT8 in the form that costs TensorRT for RTX's builder no extra kernel: bytes between two convolutions.

What its listings show (docs/rtx-int8-forms.md): a convolution with INT8 input never writes INT8. With one weight scale
per tensor and FP16 around it, it writes FP16, with bias, residual addend and ReLU fused, and quantizing again takes a
separate kernel, which costs more traffic than INT8 saves. An FP16 convolution can fuse more arithmetic, including a
conversion to bytes, but no rounding. So INT8 is kept where an existing kernel can write bytes:

* an FP16 convolution with a ReLU whose result only INT8 convolutions read: it adds one half and truncates; not of 18
  channels, or another number that is no multiple of four;
* an elementwise kernel (a concatenation, the taps of the adaptive convolutions).

Not before the last convolutions, which are FP32: an FP16 convolution can write FP32, an INT8 one cannot. All other
quantizers are dropped, and the operations after them run in FP16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.builder.tensorrt.full_precision import full_precision_nodes
from samkr_edge.builder.tensorrt.half import LARGEST, half_scale
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_file import Q_DQ

# INT8 units work on 16 channels or more at a time.
FEWEST_CHANNELS = 16
# INT8 convolutions read the bytes of four channels together. Of other numbers of channels the builder pads what a
# convolution wrote, by a kernel that moves more than the bytes save; an elementwise kernel pads what it writes itself.
CHANNELS_TOGETHER = 4
# From here on, neighbouring FP16 numbers are a whole step apart, and one half is lost.
LARGEST_BIAS = 1023.0
# Skipped between a quantizer and the kernel that writes its input: they only rename or rearrange values.
_ARRANGED = ("Reshape", "Cast", "Transpose")
# Computed by kernels that FP16 needs too, and that can write bytes as well as FP16.
_ELEMENTWISE = ("Concat", "GridSample")


def fuse_int8(graph: Graph) -> int:
    """Keep INT8 only where it costs no extra kernel, in the form that fuses; returns the INT8 convolutions that are
    left.

    For every tensor ``t = Relu(Conv(x, w, b))`` whose readers all stay INT8:

        Conv(x, w, b) -> Relu -> Q(s)    =>    Conv(x, w / s, b / s + 1/2) -> Clip(0, 127) -> Cast(int8)

    Quantizers stay on the weights of the remaining INT8 convolutions, and where an elementwise kernel writes bytes;
    every other one is dropped, and the operations after it run in float. Faster with TensorRT for RTX: each remaining
    quantizer is part of a kernel that is needed anyway. The bytes are exact except where ``t / s``, with s in FP16, is
    a half within rounding; what becomes float is not exact, since its rounding is dropped.
    """
    kept = _choose(graph)
    _drop_quantizers(graph, kept)
    sources = {
        name for node in graph.nodes if node.output[0] in kept if (name := _quantized_input(graph, node))
    }
    for source in sorted(sources):
        _quantize_once(graph, source)
        _truncate(graph, source)
    graph.drop_dead()
    return len(kept)


def _quantized_input(graph: Graph, node: Any) -> str | None:
    """The float tensor behind the INT8 input of a convolution with INT8 weights; None for other nodes."""
    if node.op_type != "Conv":
        return None
    restored, weights = (graph.producer.get(name) for name in node.input[:2])
    if restored is None or weights is None or {restored.op_type, weights.op_type} != {"DequantizeLinear"}:
        return None
    quantizer = graph.producer.get(restored.input[0])
    return (
        str(quantizer.input[0]) if quantizer is not None and quantizer.op_type == "QuantizeLinear" else None
    )


def _per_tensor(graph: Graph, node: Any) -> bool:
    """Whether a convolution's weights have one scale: with more, it writes FP32, and scale and bias take another
    kernel.
    """
    scale = graph.constants.get(graph.producer[node.input[1]].input[1])
    return scale is not None and scale.size == 1


def _choose(graph: Graph) -> set[str]:
    """Outputs of the convolutions that stay INT8."""
    kept: set[str] = set()
    last = _last_convolutions(graph)
    for node in graph.nodes:  # in the file's order, which is topological
        source = _quantized_input(graph, node)
        if source is None or node.output[0] in kept:
            continue
        readers = _readers(graph, source)
        one_scale = len(_scales(graph, source)) == 1
        if (
            one_scale
            and all(_may_stay(graph, n, last) for n in readers)
            and _written_as_bytes(graph, source, kept)
        ):
            kept |= {reader.output[0] for reader in readers}
    return kept


def _last_convolutions(graph: Graph) -> set[str]:
    """Outputs of the convolutions that stay FP32."""
    nodes = [graph.nodes[index] for index in full_precision_nodes(graph)]
    return {node.output[0] for node in nodes if node.op_type == "Conv"}


def _may_stay(graph: Graph, node: Any, last: set[str]) -> bool:
    if _quantized_input(graph, node) is None or not _per_tensor(graph, node):
        return False
    if any(reader.output[0] in last for reader in _readers(graph, _written(graph, node))):
        return False
    kernel = _weight(graph, node)
    return kernel is not None and kernel.shape[1] >= FEWEST_CHANNELS


def _weight(graph: Graph, node: Any) -> np.ndarray | None:
    """Weights of a convolution, float or, if stored so, INT8."""
    name = node.input[1]
    while name not in graph.constants:
        maker = graph.producer.get(name)
        if maker is None:
            return None
        name = maker.input[0]
    return graph.constants[name]


def _readers(graph: Graph, tensor: str) -> list[Any]:
    """Readers of a tensor, looking through quantizers."""
    found = []
    for node in graph.consumers[tensor]:
        if node.op_type in Q_DQ:
            found += _readers(graph, node.output[0])
        else:
            found.append(node)
    return found


def _written(graph: Graph, node: Any) -> str:
    """The tensor that a convolution's kernel writes, after the fused sum and ReLU."""
    tensor = str(node.output[0])
    while len(readers := _readers(graph, tensor)) == 1 and readers[0].op_type in ("Add", "Relu"):
        tensor = str(readers[0].output[0])
        if readers[0].op_type == "Relu":
            break
    return tensor


def _scales(graph: Graph, tensor: str) -> set[float]:
    """The scales a tensor is quantized with."""
    quantizers = [node for node in graph.consumers[tensor] if node.op_type == "QuantizeLinear"]
    return {float(scale) for node in quantizers for scale in graph.constants[node.input[1]].reshape(-1)}


def _written_as_bytes(graph: Graph, tensor: str, kept: set[str]) -> bool:
    """Whether the kernel that computes a tensor can write it as INT8 at no cost."""
    if tensor in graph.outputs:
        return False
    maker = graph.producer.get(tensor)
    while maker is not None and maker.op_type in _ARRANGED and len(graph.consumers[maker.input[0]]) == 1:
        maker = graph.producer.get(maker.input[0])
    if maker is None:
        return False
    if maker.op_type in _ELEMENTWISE:
        return True
    convolution = _convolution_of(graph, tensor)
    if convolution is None or convolution.output[0] in kept:
        return False
    kernel = _weight(graph, convolution)
    if kernel is None or len(kernel) % CHANNELS_TOGETHER:
        return False
    (step,) = _scales(graph, tensor)
    return _fits_half(graph, convolution, step)


def _fits_half(graph: Graph, convolution: Any, step: float) -> bool:
    """Whether weights and bias in steps keep their bits in FP16, including the half that rounds."""
    kernel, bias = _float_values(graph, convolution), _bias(graph, convolution)
    largest = [float(np.abs(values).max(initial=0.0)) / step for values in (kernel, bias)]
    return largest[0] <= LARGEST and largest[1] < LARGEST_BIAS


def _convolution_of(graph: Graph, tensor: str) -> Any | None:
    """The convolution whose output after a ReLU is this tensor, if nothing else reads that output."""
    relu = graph.producer.get(tensor)
    if relu is None or relu.op_type != "Relu" or len(graph.consumers[relu.input[0]]) != 1:
        return None
    convolution = graph.producer.get(relu.input[0])
    return convolution if convolution is not None and convolution.op_type == "Conv" else None


def _drop_quantizers(graph: Graph, kept: set[str]) -> None:
    """Let operations that are no longer INT8 read the tensors before their quantizers."""
    needed = {name for node in graph.nodes if node.output[0] in kept for name in node.input}
    for node in graph.nodes:
        if node.op_type == "Conv" and node.output[0] not in kept and node.input[1] not in graph.constants:
            node.input[1] = _float_weight(graph, node)
    for node in graph.nodes:
        if node.op_type != "DequantizeLinear" or node.output[0] in needed:
            continue
        quantizer = graph.producer.get(node.input[0])
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            graph.replace_input(node.output[0], quantizer.input[0], graph.consumers[node.output[0]])
    graph.drop_dead()


def _float_weight(graph: Graph, node: Any) -> str:
    """The float constant behind a convolution's quantized weights."""
    quantizer = graph.producer.get(graph.producer[node.input[1]].input[0])
    if quantizer is not None:
        return str(quantizer.input[0])
    return graph.constant(_float_values(graph, node), "weight")


def _float_values(graph: Graph, node: Any) -> np.ndarray:
    """A convolution's weights in float, quantized or not, stored as float or as INT8."""
    values = _weight(graph, node)
    assert values is not None, "weights that are constants were chosen"
    if values.dtype != np.int8:
        return values
    scale = graph.constants[graph.producer[node.input[1]].input[1]]
    return values * scale.reshape(-1, *[1] * (values.ndim - 1))


def _bias(graph: Graph, node: Any) -> np.ndarray:
    """A convolution's bias; 0 if it has none."""
    given = node.input[2] if len(node.input) > 2 else ""
    if given:
        return graph.constants[given]
    return np.zeros(len(_float_values(graph, node)), np.float32)


def _quantize_once(graph: Graph, tensor: str) -> None:
    """Let all readers of a tensor's bytes read those of its first quantizer."""
    first, *others = graph.consumers[tensor]
    for quantizer in others:
        graph.replace_input(quantizer.output[0], first.output[0], graph.consumers[quantizer.output[0]])
    graph.drop_dead()


def _truncate(graph: Graph, tensor: str) -> None:
    """Let the convolution behind ``tensor``, with its ReLU, write the bytes that the quantizer would; no change if
    another kernel writes it.
    """
    convolution = _convolution_of(graph, tensor)
    if convolution is None:
        return
    (quantizer,) = graph.consumers[tensor]
    # The scale rounded to FP16, with which the readers dequantize the bytes.
    scale = half_scale(graph.constants[quantizer.input[1]]).astype(np.float32)
    for reader in graph.consumers[quantizer.output[0]]:
        reader.input[1] = graph.constant(scale, "step")
    kernel = graph.constants[convolution.input[1]]
    bias = _bias(graph, convolution)
    del convolution.input[1:]
    convolution.input.append(graph.constant(kernel / scale, "kernel_in_steps"))
    convolution.input.append(graph.constant(bias / scale + np.float32(0.5), "bias_in_steps"))
    limits = [graph.constant(np.array(limit, np.float32), "limit") for limit in (0, 127)]
    clipped = graph.append("Clip", [convolution.output[0], *limits])
    quantized = graph.append("Cast", [clipped], to=graph.onnx.TensorProto.INT8)
    graph.replace_input(quantizer.output[0], quantized, graph.consumers[quantizer.output[0]])
    graph.drop_dead()
