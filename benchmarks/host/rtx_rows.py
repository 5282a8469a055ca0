"""The rows of ``rtx_forms``, each an INT8 form of a small graph, in table order."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from benchmarks.host.rtx_chains import (
    blocks,
    bottlenecks,
    chain,
    concatenation,
    integer_operator,
    pairs,
    products,
    resolution_sum,
    taps,
)

# (group, form, graph)
Row = tuple[str, str, ModelProto]


def forms() -> Iterator[Row]:
    """Every row except those of the builder's settings."""
    yield from plain_chains()
    yield from varied_chains()
    yield from matrix_products()
    yield from convolution_pairs()
    yield from basic_blocks()
    yield from bottleneck_blocks()
    yield from resolution_sums()
    yield from concatenations()
    yield from tap_samplings()


def plain_chains() -> Iterator[Row]:
    group = "three convolutions 3x3, 64 channels, bias, ReLU"
    yield group, "FP16", chain(grain=None, before="")
    for floats in ("fp32", "fp16", "bf16"):
        for grain in ("channel", "tensor"):
            yield group, f"INT8, {floats.upper()} scales, weights per {grain}", chain(floats, grain=grain)


def varied_chains() -> Iterator[Row]:
    group = "the same, INT8, FP16 scales, weights per tensor, but"
    yield group, "weights stored as INT8", chain(stored=True)
    yield group, "bias added behind", chain(bias="behind")
    yield group, "no bias", chain(bias="none")
    yield group, "neither bias nor ReLU", chain(bias="none", relu="")
    for relu in ("Clip", "Max", "LeakyRelu"):
        yield group, f"{relu} for ReLU", chain(relu=relu)
    yield group, "Q and DQ before the ReLU and behind it", chain(after="qdq")
    yield group, "Q and DQ before the ReLU only", chain(before="", after="qdq")
    yield group, "quantized twice", chain(before="qdq", after="qdq", relu="")
    yield group, "factors per channel behind the convolution", chain(bias="none", relu="Mul")
    yield group, "all scales 1/16", chain(step=0.0625)
    yield group, "all scales 1", chain(step=1.0)
    yield group, "quantized by Mul, Round, Clip, Cast", chain(before="written_out")
    yield group, "quantized by Mul, Add 1/2, Clip, Cast", chain(before="truncated")
    for opset in (17, 21):
        yield group, f"opset {opset}", chain(opset=opset, floats="fp32" if opset == 17 else "fp16")
    for channels in (32, 48, 256):
        yield group, f"{channels} channels", chain(channels=channels)
    yield group, "1x1", chain(kernel=1)
    yield group, "stride 2", chain(stride=2)
    yield group, "batch 8", chain(batch=8)
    yield group, "4 groups", chain(group=4)
    yield group, "depthwise", chain(group=64)
    yield group, "one dimension", chain(dims=1)
    yield group, "activations INT8, weights FP16", chain(grain=None)
    yield group, "weights INT8, activations FP16", chain(before="")
    yield group, "weights INT4, activations FP16 (opset 21)", chain(before="", quantized="int4", opset=21)
    for grain in ("channel", "tensor"):
        yield group, f"FP8 for INT8, weights per {grain}", chain(quantized="fp8", grain=grain)
    for kind in ("QLinearConv", "ConvInteger", "DequantizeLinear of INT32 bias"):
        yield group, kind, integer_operator(kind)


def matrix_products() -> Iterator[Row]:
    group = "three 1x1 as matrix products, channels last"
    for quantized in ("int8", "fp8"):
        for bias, positive in ((True, True), (False, True), (False, False)):
            name = f"{quantized.upper()}{', bias' if bias else ''}{', ReLU' if positive else ''}"
            yield group, name, products(quantized, bias, positive)
    yield group, "INT8, ReLU, weights per channel", products(grain="channel")
    yield group, "INT8, ReLU, batch 4", products(batch=4)


def convolution_pairs() -> Iterator[Row]:
    group = "two pairs of convolutions 3x3, the second INT8"
    yield group, "both FP16", chain(grain=None, before="", depth=4)
    yield group, "both INT8", pairs("qdq", "tensor")
    yield group, "first FP16, then Q and DQ", pairs("qdq")
    yield group, "first FP16, then Mul, Round, Clip, Cast", pairs("written_out")
    yield group, "first FP16, then Mul, Add 1/2, Floor, Clip, Cast", pairs("floored")
    yield group, "first FP16, then Mul, Add 1/2, Clip, Cast", pairs("truncated")
    yield group, "first FP16, step and 1/2 in its weights, then Clip, Cast", pairs("limited")
    yield group, "first FP16, FP8 for INT8, Q and DQ", pairs("qdq", quantized="fp8")
    yield group, "first FP16, FP8 for INT8, Clip, Cast", pairs("limited", quantized="fp8")


def basic_blocks() -> Iterator[Row]:
    group = "four basic blocks of 32 channels, 128x128"
    yield group, "FP16", blocks("fp16")
    for form in ("one Q for all", "Q per reader", "both addends", "no addend"):
        yield group, f"INT8, {form}", blocks(form)
    yield group, "INT8, one Q for all, weights per channel", blocks("one Q for all", "channel")
    yield group, "bytes between the blocks, second convolution FP16", blocks("bytes between blocks")
    yield group, "bytes inside the blocks, first convolution FP16, Q and DQ", blocks("bytes inside, rounded")
    yield group, "bytes inside the blocks, first convolution FP16, truncated", blocks("bytes inside")
    yield group, "the same, weights per channel", blocks("bytes inside", "channel")
    yield group, "the same, FP8", blocks("bytes inside, rounded", quantized="fp8")


def bottleneck_blocks() -> Iterator[Row]:
    group = "four bottlenecks of 256 channels, 128x128"
    yield group, "FP16", bottlenecks(False)
    yield group, "bytes into the 3x3, truncated", bottlenecks(True)


def resolution_sums() -> Iterator[Row]:
    group = "sum over three resolutions"
    yield group, "FP16", resolution_sum("fp16")
    for form in ("Q before enlarging", "Q behind enlarging", "addends not quantized"):
        yield group, f"INT8, {form}", resolution_sum(form)


def concatenations() -> Iterator[Row]:
    group = "four resolutions joined, two heads"
    yield group, "FP16", concatenation("fp16")
    for form in ("Q before enlarging", "Q behind joining"):
        yield group, f"INT8, {form}", concatenation(form)


def tap_samplings() -> Iterator[Row]:
    group = "nine taps a pixel and their grouped convolution"
    yield group, "FP16", taps("fp16")
    yield group, "INT8", taps("int8")
