"""In which ONNX form INT8 pays with TensorRT for RTX, by its builder's list of layers: no GPU, no torch, no times.

    python benchmarks/host/rtx_forms.py                       # the table of docs/rtx-int8-forms.md
    python benchmarks/host/rtx_forms.py --target SM120 -o forms.json

Every row is a graph of a few layers in one form, built for one compute capability. What counts: the type in which the
convolutions read and write, the kernels that only walk over maps, and the bytes that all kernels read and write.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from rtx_chains import Chain, Grain, Kind

from samkr_edge.artefact import write_json
from samkr_edge.build.builder_listing import listing_of_log
from samkr_edge.build.engine_layers import parse_layers
from samkr_edge.build.engine_measures import measure
from samkr_edge.errors import SamkrError
from samkr_edge.runtime.tensorrt_module import import_tensorrt

Settings = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Row:
    """One form: what became of it, or the builder's reason to refuse it."""

    group: str
    form: str
    convolutions: str
    elementwise: int
    kernels: int
    megabytes: float
    refused: str = ""


class Builder:
    """Builds graphs and measures the engines' layers."""

    def __init__(self, target: str) -> None:
        self.trt = import_tensorrt("rtx")
        self.target = target
        messages: list[str] = []

        class Logger(self.trt.ILogger):  # type: ignore[name-defined, misc]
            def log(self, severity: Any, message: str) -> None:
                messages.append(message)

        self.messages = messages
        self.logger = Logger()
        self.builder = self.trt.Builder(self.logger)

    def row(
        self,
        group: str,
        form: str,
        model: ModelProto,
        settings: Settings | None = None,
        targets: Sequence[str] = (),
    ) -> Row:
        """What a graph becomes; for other compute capabilities than usual where they are given."""
        self.messages.clear()
        network = self.builder.create_network(0)
        parser = self.trt.OnnxParser(network, self.logger)
        if not parser.parse(model.SerializeToString()):
            reasons = (parser.get_error(i) for i in range(parser.num_errors))
            return refused(group, form, " ".join(f"{e.desc()} ({e.node_operator()})" for e in reasons))
        config = self.builder.create_builder_config()
        targets = targets or [self.target]
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, target), index)
        config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
        if settings:
            settings(self.trt, config)
        if self.builder.build_serialized_network(network, config) is None:
            reason = next((text for text in reversed(self.messages) if "Error Code" in text), "no reason given")
            return refused(group, form, reason)
        layers = parse_layers(json.dumps(listing_of_log("\n".join(self.messages))))
        found = measure(layers)
        kinds = Counter(found.convolutions)
        kinds.update((layer.inputs[0].dtype, layer.outputs[0].dtype) for layer in layers if layer.kind == "gemm")
        text = ", ".join(f"{count} {reads} -> {writes}" for (reads, writes), count in sorted(kinds.items()))
        return Row(group, form, text, found.elementwise, found.kernels, found.bytes_moved / 1e6)


def refused(group: str, form: str, reason: str) -> Row:
    return Row(group, form, "", 0, 0, 0.0, " ".join(reason.split())[:160])


def chain(
    floats: Kind = "fp16",
    quantized: Kind = "int8",
    grain: Grain | None = "tensor",
    before: str = "qdq",
    after: str = "",
    relu: str = "Relu",
    depth: int = 3,
    channels: int = 64,
    size: int = 64,
    batch: int = 1,
    step: float = 0.05,
    opset: int = 19,
    **layer: Any,
) -> ModelProto:
    """Convolutions in a row: ``before`` and ``after`` name what quantizes their input and their output."""
    chain = Chain(floats, quantized, opset)
    x = chain.input(batch, channels, *[size] * layer.get("dims", 2))
    for _ in range(depth):
        x = getattr(chain, before)(x, step) if before else x
        x = chain.conv(x, channels, channels, grain=grain, **layer)
        x = getattr(chain, after)(x, step) if after else x
        if relu == "Clip":
            x = chain.op("Clip", x, chain.number(0), chain.number(6))
        elif relu == "Max":
            x = chain.op("Max", x, chain.number(0))
        elif relu == "Mul":
            x = chain.op("Mul", x, chain.constant(chain.random.uniform(0.5, 2, (1, channels, 1, 1)), floats))
        elif relu:
            x = chain.op(relu, x)
    return chain.model(x)


def integer_operator(kind: str) -> ModelProto:
    """One convolution by ONNX's other ways to write integer arithmetic."""
    chain = Chain()
    x, kernel = chain.q(chain.input(1, 64, 64, 64)), chain.constant(np.ones((64, 64, 3, 3)), "int8")
    if kind == "QLinearConv":
        steps = [chain.constant(value, kind) for value, kind in ((0.05, "fp32"), (0, "int8"))]
        y = chain.dq(chain.op(kind, x, *steps, kernel, *steps, *steps, pads=[1] * 4))
    elif kind == "ConvInteger":
        y = chain.cast(chain.op(kind, x, kernel, pads=[1] * 4), "fp16")
    else:
        bias = chain.op("DequantizeLinear", chain.constant(np.arange(64), "int32"), chain.number(0.0005))
        y = chain.op("Conv", chain.dq(x), chain.weights((64, 64, 3, 3), "tensor"), bias, pads=[1] * 4)
    return chain.model(y)


def products(
    quantized: Kind = "int8", bias: bool = False, relu: bool = True, grain: Grain = "tensor", batch: int = 1
) -> ModelProto:
    """1x1 convolutions as matrix products, channels last."""
    chain = Chain("fp16", quantized)
    x = chain.qdq(chain.input(batch, 64, 64, 64))
    for _ in range(3):
        x = chain.op("MatMul", x, chain.weights((64, 64), grain, axis=1))
        x = chain.op("Add", x, chain.constant(chain.random.normal(0, 0.1, 64), "fp16")) if bias else x
        x = chain.qdq(chain.relu(x) if relu else x)
    return chain.model(x)


def pairs(quantizer: str, first: Grain | None = None, quantized: Kind = "int8") -> ModelProto:
    """Two pairs of convolutions, the second of each INT8 and the first not, unless it has a grain."""
    chain = Chain("fp16", quantized)
    x = chain.input(1, 64, 64, 64)
    for _ in range(2):
        y = chain.conv(chain.qdq(x) if first else x, 64, 64, grain=first)
        # What truncates cuts negative values itself.
        if quantizer == "limited":
            y = chain.op("Clip", y, chain.number(0), chain.number(127))
            y = chain.dq(chain.cast(y, quantized))
        elif quantizer == "truncated":
            y = chain.truncated(y)
        else:
            y = _quantized(chain, chain.relu(y), quantizer)
        x = chain.relu(chain.conv(y, 64, 64))
    return chain.model(x)


def _quantized(chain: Chain, x: str, how: str) -> str:
    if how == "floored":
        return chain.truncated(x, floor=True)
    return str(getattr(chain, how)(x)) if how else x


def blocks(form: str, grain: Grain = "tensor", quantized: Kind = "int8", channels: int = 32) -> ModelProto:
    """Four basic blocks: two convolutions, the block's input added, ReLU."""
    chain = Chain("fp16", quantized)
    x = chain.relu(chain.input(1, channels, 128, 128))
    skip = x = chain.truncated(x) if form == "bytes between blocks" else x
    for _ in range(4):
        if form == "fp16":
            y = chain.conv(chain.relu(chain.conv(x, channels, channels, grain=None)), channels, channels, grain=None)
            skip = x
        elif form == "bytes inside":
            y = chain.truncated(chain.conv(x, channels, channels, grain=None))
            y, skip = chain.conv(y, channels, channels, grain=grain), x
        elif form == "bytes inside, rounded":
            y = chain.qdq(chain.relu(chain.conv(x, channels, channels, grain=None)))
            y, skip = chain.conv(y, channels, channels, grain=grain), x
        elif form == "bytes between blocks":
            y = chain.conv(chain.relu(chain.conv(x, channels, channels, grain=grain)), channels, channels, grain=None)
            x = chain.truncated(chain.op("Add", y, x))
            continue
        else:
            q = chain.qdq(x)
            y = chain.conv(chain.qdq(chain.relu(chain.conv(q, channels, channels, grain=grain))), channels, channels,
                           grain=grain)  # fmt: skip
            y = chain.qdq(y) if form == "both addends" else y
            skip = {"one Q for all": q, "Q per reader": chain.qdq(x, 0.06)}.get(form, x if form == "no addend" else q)
        x = chain.relu(chain.op("Add", y, skip))
    return chain.model(x)


def bottlenecks(int8: bool) -> ModelProto:
    """Four bottlenecks of 256 channels; the 3x3 convolution is INT8 or FP16."""
    chain = Chain()
    x = chain.relu(chain.input(1, 256, 128, 128))
    for _ in range(4):
        y = chain.conv(x, 256, 64, 1, grain=None)
        y = chain.conv(chain.truncated(y), 64, 64) if int8 else chain.conv(chain.relu(y), 64, 64, grain=None)
        x = chain.relu(chain.op("Add", chain.conv(chain.relu(y), 64, 256, 1, grain=None), x))
    return chain.model(x)


def resolution_sum(form: str) -> ModelProto:
    """A map, two smaller ones behind 1x1 convolutions enlarged, their sum, ReLU, and a convolution that reads it."""
    chain = Chain()
    total = chain.input(1, 32, 128, 128)
    for factor in (2, 4):
        x = chain.input(1, 32 * factor, 128 // factor, 128 // factor)
        y = chain.conv(chain.qdq(x) if form != "fp16" else x, 32 * factor, 32, 1,
                       grain=None if form == "fp16" else "tensor")  # fmt: skip
        y = chain.qdq(y) if form == "Q before enlarging" else y
        y = chain.enlarge(y, factor)
        y = chain.qdq(y) if form == "Q behind enlarging" else y
        total = chain.op("Add", total, y)
    x = chain.relu(total)
    return chain.model(chain.conv(x if form == "fp16" else chain.qdq(x), 32, 32,
                                  grain=None if form == "fp16" else "tensor"))  # fmt: skip


def concatenation(form: str) -> ModelProto:
    """Four resolutions enlarged and joined, read by the first convolutions of two heads."""
    chain = Chain()
    parts = []
    for level in range(4):
        x = chain.relu(chain.input(1, 32 << level, 128 >> level, 128 >> level))
        x = chain.qdq(x) if form == "Q before enlarging" else x
        parts.append(chain.enlarge(x, 1 << level, "linear") if level else x)
    x = chain.op("Concat", *parts, axis=1)
    grain: Grain | None = None if form == "fp16" else "tensor"
    x = x if form == "fp16" else chain.qdq(x)
    return chain.model(*(chain.relu(chain.conv(x, 480, out, 1, grain=grain)) for out in (32, 272)))


def taps(form: str) -> ModelProto:
    """The adaptive convolution: nine taps a pixel sampled in FP32, a grouped 1x1 convolution, the input added."""
    chain, branches, channels = Chain(), 17, 16
    x = chain.relu(chain.input(1, branches * channels, 64, 64))
    grid = chain.cast(chain.input(branches, 9 * 64, 64, 2), "fp32")
    maps = chain.op("Reshape", chain.cast(x, "fp32"), chain.constant([branches, channels, 64, 64]))
    y = chain.op("GridSample", maps, grid, mode="bilinear", padding_mode="zeros", align_corners=0)
    y = chain.cast(chain.op("Reshape", y, chain.constant([1, branches * channels * 9, 64, 64])), "fp16")
    y = chain.qdq(y) if form == "int8" else y
    y = chain.conv(y, branches * channels * 9, branches * channels, 1, grain="tensor" if form == "int8" else None,
                   group=branches)  # fmt: skip
    return chain.model(chain.relu(chain.op("Add", y, x)))


def forms() -> Iterator[tuple[str, str, ModelProto]]:
    """(group, form, graph) of every row but those of the builder's settings."""
    group = "three convolutions 3x3, 64 channels, bias, ReLU"
    yield group, "FP16", chain(grain=None, before="")
    for floats in ("fp32", "fp16", "bf16"):
        for grain in ("channel", "tensor"):
            yield group, f"INT8, {floats.upper()} scales, weights per {grain}", chain(floats, grain=grain)  # type: ignore[arg-type]
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
        yield group, f"FP8 for INT8, weights per {grain}", chain(quantized="fp8", grain=grain)  # type: ignore[arg-type]
    for kind in ("QLinearConv", "ConvInteger", "DequantizeLinear of INT32 bias"):
        yield group, kind, integer_operator(kind)
    group = "three 1x1 as matrix products, channels last"
    for quantized in ("int8", "fp8"):
        for bias, relu in ((True, True), (False, True), (False, False)):
            name = f"{quantized.upper()}{', bias' if bias else ''}{', ReLU' if relu else ''}"
            yield group, name, products(quantized, bias, relu)  # type: ignore[arg-type]
    yield group, "INT8, ReLU, weights per channel", products(grain="channel")
    yield group, "INT8, ReLU, batch 4", products(batch=4)
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
    group = "four bottlenecks of 256 channels, 128x128"
    yield group, "FP16", bottlenecks(False)
    yield group, "bytes into the 3x3, truncated", bottlenecks(True)
    group = "sum over three resolutions"
    yield group, "FP16", resolution_sum("fp16")
    for form in ("Q before enlarging", "Q behind enlarging", "addends not quantized"):
        yield group, f"INT8, {form}", resolution_sum(form)
    group = "four resolutions joined, two heads"
    yield group, "FP16", concatenation("fp16")
    for form in ("Q before enlarging", "Q behind joining"):
        yield group, f"INT8, {form}", concatenation(form)
    group = "nine taps a pixel and their grouped convolution"
    yield group, "FP16", taps("fp16")
    yield group, "INT8", taps("int8")


def builder_settings(trt: Any) -> Iterator[tuple[str, Settings]]:
    """(name, what sets it) of every setting of the builder that might change fusion."""
    for name, value in trt.TilingOptimizationLevel.__members__.items():
        yield f"tiling {name}", lambda _, c, v=value: setattr(c, "tiling_optimization_level", v)
    for level in range(6):
        yield f"optimization level {level}", lambda _, c, v=level: setattr(c, "builder_optimization_level", v)
    for mask in range(1 << len(trt.TacticSource.__members__)):
        yield f"tactic sources {mask:02b}", lambda _, c, v=mask: c.set_tactic_sources(v)
    for name, value in trt.PreviewFeature.__members__.items():
        yield f"preview {name}", lambda _, c, v=value: c.set_preview_feature(v, not c.get_preview_feature(v))
    for name, value in trt.BuilderFlag.__members__.items():
        yield f"flag {name}", lambda _, c, v=value: c.clear_flag(v) if c.get_flag(v) else c.set_flag(v)
    for name, value in trt.HardwareCompatibilityLevel.__members__.items():
        yield f"hardware {name}", lambda _, c, v=value: setattr(c, "hardware_compatibility_level", v)
    for streams in (0, 4):
        yield f"auxiliary streams {streams}", lambda _, c, v=streams: setattr(c, "max_aux_streams", v)


def table(rows: list[Row]) -> str:
    """Markdown, one table for every group."""
    lines: list[str] = []
    for before, one in zip([None, *rows], rows, strict=False):
        if before is None or before.group != one.group:
            lines += ["", f"**{one.group[0].upper()}{one.group[1:]}**", "",
                      "| form | reads -> writes | elementwise | kernels | MB |", "|---|---|---|---|---|"]  # fmt: skip
        cells = [f"refused: {one.refused}", "", "", ""] if one.refused else [
            one.convolutions, str(one.elementwise), str(one.kernels), f"{one.megabytes:.2f}"]  # fmt: skip
        lines.append("| " + " | ".join([one.form, *cells]) + " |")
    return "\n".join(lines[1:])


def settings_rows(builder: Builder, group: str, model: ModelProto) -> Iterator[Row]:
    """One row for all settings under which the same comes out."""
    outcomes: dict[Row, list[str]] = {}
    for name, settings in builder_settings(builder.trt):
        outcomes.setdefault(builder.row(group, "", model, settings), []).append(name)
    for outcome, names in outcomes.items():
        yield replace(outcome, form="; ".join(names))


def card_rows(builder: Builder) -> Iterator[Row]:
    """What other cards get, and what an engine for several gets."""
    group = "the four basic blocks for other cards"
    everything = [name for name in builder.trt.ComputeCapability.__members__ if name.startswith("SM")]
    for targets in ([name] for name in everything):
        for form in ("fp16", "one Q for all", "bytes inside"):
            yield builder.row(group, f"{targets[0]}, {form}", blocks(form), targets=targets)
    for targets in (everything, [name for name in everything if name != "SM75"]):
        yield builder.row(group, f"{' + '.join(targets)}, bytes inside", blocks("bytes inside"), targets=targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="SM89", help="compute capability: SM75, SM80, SM86, SM89, SM120, SM121")
    parser.add_argument("-o", "--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    try:
        builder = Builder(arguments.target)
    except SamkrError as error:
        raise SystemExit(str(error)) from error
    rows = [builder.row(group, form, model) for group, form, model in forms()]
    rows += settings_rows(builder, "settings of the builder, on three INT8 convolutions", chain())
    rows += settings_rows(builder, "settings of the builder, on the truncated blocks", blocks("bytes inside"))
    rows += card_rows(builder)
    print(f"TensorRT for RTX {builder.trt.__version__}, {arguments.target}\n")
    print(table(rows))
    if arguments.out:
        write_json(
            arguments.out,
            {"tensorrt_rtx": builder.trt.__version__, "target": arguments.target, "rows": [asdict(r) for r in rows]},
        )


if __name__ == "__main__":
    main()
