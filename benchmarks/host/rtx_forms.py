"""In which ONNX form INT8 pays with TensorRT for RTX, by its builder's list of layers: no GPU, no torch, no times.

    python -m benchmarks.host.rtx_forms                       # the table of docs/rtx-int8-forms.md
    python -m benchmarks.host.rtx_forms --target SM120 -o forms.json
    python -m benchmarks.host.rtx_forms w32.onnx w32-int8.onnx       # whole networks as `samkr-edge export` writes them

Every row is a graph of a few layers in one form, built for one compute capability. What counts: the type in which the
convolutions read and write, the kernels that only walk over maps, and the bytes that all kernels read and write.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from onnx import ModelProto, load_from_string

from benchmarks.host.rtx_chains import blocks, chain
from benchmarks.host.rtx_rows import forms
from samkr_edge.builder.enlarge import enlarge_sums
from samkr_edge.builder.inspect.builder_listing import listing_of_log
from samkr_edge.builder.inspect.engine_layers import layers_in
from samkr_edge.builder.inspect.engine_measures import measure
from samkr_edge.builder.tensorrt.edits import edit, prepare
from samkr_edge.builder.tensorrt.fused_int8 import fuse_int8
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import write_json
from samkr_edge.machine.tensorrt_module import import_tensorrt
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx

Settings = Callable[[Any], None]


@dataclass(frozen=True)
class FormRow:
    """One form: what the builder made of it, or why it refused."""

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

        class FormLogger(self.trt.ILogger):  # type: ignore[name-defined]
            def log(self, severity: Any, message: str) -> None:
                messages.append(message)

        self.messages = messages
        self.logger = FormLogger()
        self.builder = self.trt.Builder(self.logger)

    def row(
        self,
        group: str,
        form: str,
        model: ModelProto | bytes,
        settings: Settings | None = None,
        targets: Sequence[str] = (),
    ) -> FormRow:
        """What the builder makes of a graph, for the compute capabilities ``targets`` if any are given."""
        self.messages.clear()
        network = self.builder.create_network(0)
        parser = self.trt.OnnxParser(network, self.logger)
        if not parser.parse(model if isinstance(model, bytes) else model.SerializeToString()):
            reasons = (parser.get_error(i) for i in range(parser.num_errors))
            return refused(group, form, " ".join(f"{e.desc()} ({e.node_operator()})" for e in reasons))
        config = self.builder.create_builder_config()
        targets = targets or [self.target]
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, target), index)
        config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
        if settings:
            settings(config)
        if self.builder.build_serialized_network(network, config) is None:
            reason = next(
                (text for text in reversed(self.messages) if "Error Code" in text), "no reason given"
            )
            return refused(group, form, reason)
        layers = layers_in(listing_of_log("\n".join(self.messages)))
        found = measure(layers)
        kinds = Counter(found.convolutions)
        kinds.update(
            (layer.inputs[0].dtype, layer.outputs[0].dtype) for layer in layers if layer.kind == "gemm"
        )
        text = ", ".join(f"{count} {reads} -> {writes}" for (reads, writes), count in sorted(kinds.items()))
        return FormRow(group, form, text, found.elementwise, found.kernels, found.bytes_moved / 1e6)


def refused(group: str, form: str, reason: str) -> FormRow:
    return FormRow(group, form, "", 0, 0, 0.0, " ".join(reason.split())[:160])


def builder_settings(trt: Any) -> Iterator[tuple[str, Settings]]:
    """(name, function that applies it) of every builder setting that might change fusion."""
    for name, value in trt.TilingOptimizationLevel.__members__.items():
        yield f"tiling {name}", partial(_assign, "tiling_optimization_level", value)
    for level in range(6):
        yield f"optimization level {level}", partial(_assign, "builder_optimization_level", level)
    for mask in range(1 << len(trt.TacticSource.__members__)):
        yield f"tactic sources {mask:02b}", partial(_call, "set_tactic_sources", mask)
    for name, value in trt.PreviewFeature.__members__.items():
        yield f"preview {name}", partial(_toggle_preview, value)
    for name, value in trt.BuilderFlag.__members__.items():
        yield f"flag {name}", partial(_toggle_flag, value)
    for name, value in trt.HardwareCompatibilityLevel.__members__.items():
        yield f"hardware {name}", partial(_assign, "hardware_compatibility_level", value)
    for streams in (0, 4):
        yield f"auxiliary streams {streams}", partial(_assign, "max_aux_streams", streams)


def _assign(name: str, value: Any, config: Any) -> None:
    setattr(config, name, value)


def _call(name: str, value: Any, config: Any) -> None:
    getattr(config, name)(value)


def _toggle_flag(flag: Any, config: Any) -> None:
    (config.clear_flag if config.get_flag(flag) else config.set_flag)(flag)


def _toggle_preview(feature: Any, config: Any) -> None:
    config.set_preview_feature(feature, not config.get_preview_feature(feature))


def _title(group: str) -> str:
    return group if group.endswith(".onnx") else group[0].upper() + group[1:]


def table(rows: list[FormRow]) -> str:
    """Markdown, one table per group."""
    lines: list[str] = []
    for before, one in zip([None, *rows], rows, strict=False):
        if before is None or before.group != one.group:
            lines += ["", f"**{_title(one.group)}**", "",
                      "| form | reads -> writes | elementwise | kernels | MB |", "|---|---|---|---|---|"]  # fmt: skip
        cells = [f"refused: {one.refused}", "", "", ""] if one.refused else [
            one.convolutions, str(one.elementwise), str(one.kernels), f"{one.megabytes:.2f}"]  # fmt: skip
        lines.append("| " + " | ".join([one.form, *cells]) + " |")
    return "\n".join(lines[1:])


def settings_rows(builder: Builder, group: str, model: ModelProto) -> Iterator[FormRow]:
    """One row per distinct outcome, naming all settings that give it."""
    outcomes: dict[FormRow, list[str]] = {}
    for name, settings in builder_settings(builder.trt):
        outcomes.setdefault(builder.row(group, "", model, settings), []).append(name)
    for outcome, names in outcomes.items():
        yield replace(outcome, form="; ".join(names))


def card_rows(builder: Builder) -> Iterator[FormRow]:
    """The basic blocks built for other compute capabilities, one at a time and several in one engine."""
    group = "the four basic blocks for other cards"
    everything = [name for name in builder.trt.ComputeCapability.__members__ if name.startswith("SM")]
    for targets in ([name] for name in everything):
        for form in ("fp16", "one Q for all", "bytes inside"):
            yield builder.row(group, f"{targets[0]}, {form}", blocks(form), targets=targets)
    for targets in (everything, [name for name in everything if name != "SM75"]):
        yield builder.row(
            group, f"{' + '.join(targets)}, bytes inside", blocks("bytes inside"), targets=targets
        )


def network_rows(builder: Builder, path: Path) -> Iterator[FormRow]:
    """A whole network in FP16 and, if it has quantizers, in INT8 as is and in the form that fuses."""
    forms = {"FP16": ("strip_quantizers",)}
    if facts_of(read_onnx(path)).precision == "int8":
        forms |= {"INT8": ("drop_branch_quantizers",), "INT8, fused": ("fuse_int8",)}
    for form, steps in forms.items():
        for name, add in ((form, False), (f"{form}, resolutions added from the smallest", True)):
            model = read_onnx(path)
            edit(model, steps)
            graph = Graph(load_from_string(model.encode()))
            if "fuse_int8" in steps:
                print(path.name, fuse_int8(graph), "INT8 convolutions kept")
            if add:
                enlarge_sums(graph)
            data = graph.write().SerializeToString()
            yield builder.row(path.name, name, prepare(decode_onnx(data), ("cast_first", "bake_fp16")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", type=Path, help="ONNX files to build in place of the small graphs"
    )
    parser.add_argument(
        "--target", default="SM89", help="compute capability: SM75, SM80, SM86, SM89, SM120, SM121"
    )
    parser.add_argument("-o", "--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    try:
        builder = Builder(arguments.target)
    except SamkrError as error:
        raise SystemExit(str(error)) from error
    rows = [row for path in arguments.models for row in network_rows(builder, path)]
    if not rows:
        rows += (builder.row(group, form, model) for group, form, model in forms())
        rows += settings_rows(builder, "settings of the builder, on three INT8 convolutions", chain())
        rows += settings_rows(
            builder, "settings of the builder, on the truncated blocks", blocks("bytes inside")
        )
        rows += card_rows(builder)
    print(f"TensorRT for RTX {builder.trt.__version__}, {arguments.target}\n")
    print(table(rows))
    if arguments.out:
        write_json(
            arguments.out,
            {
                "tensorrt_rtx": builder.trt.__version__,
                "target": arguments.target,
                "rows": [asdict(r) for r in rows],
            },
        )


if __name__ == "__main__":
    main()
