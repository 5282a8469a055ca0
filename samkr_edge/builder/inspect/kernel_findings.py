"""Why INT8 does not pay in an engine that uses it: the kernels around its convolutions.

TensorRT for RTX writes the result of an INT8 convolution in FP32 if its weight scales are per channel; another kernel
multiplies by the scales, adds the bias, applies the ReLU and quantizes again. Such an engine moves more bytes than FP16
does. Full TensorRT does all of this inside the convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.engine_findings import modules_of, ms_of
from samkr_edge.builder.inspect.engine_layers import FLOATS, Layer
from samkr_edge.builder.inspect.engine_measures import is_elementwise, moved, requantizes
from samkr_edge.builder.inspect.finding import Finding
from samkr_edge.printable import counted

# Elementwise kernels per convolution: FP16 engines of these networks have 0.25 at most, INT8 ones up to 0.9.
MANY_ELEMENTWISE = 0.5
# A finding's policy names up to this many modules; for more, it gives the rule for all convolutions.
_NAMED = 8


def find_kernels(layers: Sequence[Layer]) -> list[Finding]:
    """Findings about the kernels around INT8 convolutions, most important first."""
    return [*_not_int8(layers), *_int8_writes_float(layers), *_many_elementwise(layers)]


def _int8_writes_float(layers: Sequence[Layer]) -> list[Finding]:
    """INT8 convolutions that write FP32: 4 bytes where FP16 writes 2 and INT8 could write 1."""
    int8 = [layer for layer in layers if layer.role == "conv" and layer.precision == "int8"]
    findings = []
    for compiled in (True, False):  # by the graph compiler, which adds another kernel, or not
        found = [
            layer
            for layer in int8
            if layer.writes == "fp32" and myelin.is_convolution(layer.name, layer.kind) == compiled
        ]
        if not found:
            continue
        modules = modules_of(found)
        what = f"{len(found)} of {counted(len(int8), 'INT8 convolution')} write FP32"
        if compiled:
            what += ": scale, bias, ReLU and re-quantization are a kernel of their own"
            policy = _per_tensor(modules, everything=len(found) == len(int8))
            note = (
                "where weights have one scale for all channels, they write FP16 with bias and ReLU inside; equalise "
                "channels first, or small ones are rounded away: samkr-edge quantize --policy rtx does both"
            )
        else:
            policy = ""
            note = (
                "no policy rule: what reads them is FP32; build with FP16 allowed, or baked in (TensorRT 11)"
            )
        findings.append(Finding("int8-writes-float", what, modules, ms_of(found), policy, note))
    return findings


def _per_tensor(modules: Sequence[str], everything: bool) -> str:
    why = "one scale for the weights of all channels lets TensorRT for RTX fuse what follows"
    if everything or len(modules) > _NAMED:
        return f"# in place of the rule that makes convolutions INT8\n{_rule('*', why)}"
    return "\n".join(_rule(module, why) for module in modules)


def _rule(match: str, why: str) -> str:
    return f'- match: "{match}"\n  op: conv\n  precision: int8\n  granularity: tensor\n  why: {why}'


def _many_elementwise(layers: Sequence[Layer]) -> list[Finding]:
    """Elementwise kernels, if many of them quantize."""
    convolutions = [layer for layer in layers if layer.role == "conv"]
    elementwise = [layer for layer in layers if is_elementwise(layer)]
    quantizing = [layer for layer in elementwise if requantizes(layer)]
    if len(elementwise) <= MANY_ELEMENTWISE * len(convolutions) or not quantizing:
        return []
    share = sum(map(moved, quantizing)) / (sum(map(moved, layers)) or 1)
    return [
        Finding(
            "many-elementwise-kernels",
            f"{counted(len(elementwise), 'elementwise kernel')} for {counted(len(convolutions), 'convolution')}; "
            f"{len(quantizing)} of them quantize, and move {share:.0%} of all bytes",
            (),
            ms_of(quantizing),
            note="no policy rule of its own: what makes convolutions write FP16 takes work from these; --precision "
            "best tells whether FP16 moves fewer bytes in fewer kernels",
        )
    ]


def _not_int8(layers: Sequence[Layer]) -> list[Finding]:
    """Float convolutions whose weights are stored as INT8 and dequantized by kernels of the engine."""
    makers = {tensor.name: layer for layer in layers for tensor in layer.outputs}
    found, conversions = [], []
    for layer in layers:
        if layer.role != "conv" or layer.precision not in FLOATS:
            continue
        maker = _maker_of_weights(makers.get(tensor.name) for tensor in layer.inputs)
        if maker is not None:
            found.append(layer)
            conversions.append(maker)
    if not found:
        return []
    precision = " and ".join(sorted({layer.precision.upper() for layer in found}))
    return [
        Finding(
            "not-int8",
            f"{counted(len(found), 'convolution')} quantized to INT8 but computed in {precision}, "
            "the weights of each converted by a kernel",
            modules_of(found),
            ms_of([*found, *conversions]),
            note="no policy rule: TensorRT for RTX has no INT8 convolutions for Turing (SM 7.5), nor in an engine that "
            "serves it next to other cards; leave Turing out of the target, or use --precision fp16",
        )
    ]


def _maker_of_weights(makers: Iterable[Layer | None]) -> Layer | None:
    """The kernel whose only inputs are constants, including INT8 weights."""
    return next(
        (
            maker
            for maker in makers
            if maker is not None
            and not maker.inputs
            and any(one.dtype == "int8" and len(one.shape) > 1 for one in maker.constants)
        ),
        None,
    )
