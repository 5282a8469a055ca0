"""What costs time in an engine's layers: islands, unfused sums, conversions; with the policy line that fixes it.

A finding names modules of the network and, if there is one, the rule of the quantization policy that fixes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.engine_layers import FLOATS, Layer, operation_of, sum_op
from samkr_edge.builder.inspect.finding import Finding
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.printable import counted

# INT8 tensor cores sum over blocks of 32 channels: a convolution with fewer than half of that computes mostly padding.
SMALLEST_CHANNELS = 16
# Below this share of the time, conversions are not what slows an engine down.
NOTABLE_SHARE = 0.02
# Layers that compute nothing by which others are judged.
_PASSED = ("conversion", "elementwise", "none")
_KEPT_FLOAT = "check first whether the policy keeps it in float for accuracy"


def find(layers: Sequence[Layer]) -> list[Finding]:
    """All findings, most expensive first; without a profile, in the order of the rules.

    Islands, sums and conversions are costly by the fusion rules of full TensorRT, so they are not reported for engines
    of TensorRT for RTX: there a float convolution can write INT8, and a float sum fuses.
    """
    graph = _DataFlow(layers)
    found = [*_small_convolutions(graph), *_fp32_remainder(graph)]
    if not any(myelin.is_convolution(layer.name, layer.kind) for layer in layers):
        borders = _borders(graph)
        broken = [*_float_islands(graph, borders), *_unfused_sums(layers, borders)]
        told = {module for finding in broken for module in finding.modules}
        untold = {module: border for module, border in borders.items() if module not in told}
        found = [*broken, *found, *_conversions(graph, untold)]
    return sorted(found, key=lambda finding: -(finding.ms or 0.0))


class _DataFlow:
    """Which layer feeds which, skipping conversions and generated kernels, which follow every convolution in some
    engines.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self._producer = {tensor.name: layer for layer in layers for tensor in layer.outputs}
        self._consumers: dict[str, list[Layer]] = defaultdict(list)
        for layer in layers:
            for tensor in layer.inputs:
                self._consumers[tensor.name].append(layer)

    def before(self, layer: Layer) -> list[Layer]:
        """Layers whose outputs ``layer`` reads."""
        return self._reach(
            layer, lambda near: [self._producer[t.name] for t in near.inputs if t.name in self._producer]
        )

    def after(self, layer: Layer) -> list[Layer]:
        """Layers that read the outputs of ``layer``."""
        return self._reach(layer, lambda near: [c for t in near.outputs for c in self._consumers[t.name]])

    def makes_output(self, layer: Layer) -> bool:
        """Whether an output of the network is made of what ``layer`` computes and of nothing computed later."""
        waiting, seen = [layer], {layer}
        while waiting:
            for tensor in waiting.pop().outputs:
                readers = self._consumers[tensor.name]
                if not readers:
                    return True
                waiting += [near for near in readers if near.role in _PASSED and near not in seen]
                seen.update(readers)
        return False

    def _reach(self, layer: Layer, step: Callable[[Layer], list[Layer]]) -> list[Layer]:
        found: dict[Layer, None] = {}
        waiting, seen = step(layer), {layer}
        while waiting:
            near = waiting.pop(0)
            if near in seen:
                continue
            seen.add(near)
            if near.role in _PASSED:
                waiting += step(near)
            else:
                found[near] = None
        return list(found)


@dataclass
class _Border:
    """The conversions between INT8 and float that one float layer causes."""

    cause: Layer
    conversions: list[Layer] = field(default_factory=list)


def _borders(graph: _DataFlow) -> dict[str, _Border]:
    """Module -> the conversions around it."""
    found: dict[str, _Border] = {}
    for layer in graph.layers:
        kinds = {tensor.dtype for tensor in (*layer.inputs, *layer.outputs)}
        if layer.role != "conversion" or "int8" not in kinds or not kinds & set(FLOATS):
            continue
        from_int8 = any(tensor.dtype == "int8" for tensor in layer.inputs)
        near = graph.after(layer) if from_int8 else graph.before(layer)
        cause = next((other for other in near if other.precision in FLOATS), None)
        if cause is not None:
            found.setdefault(cause.module, _Border(cause)).conversions.append(layer)
    return found


def _with_borders(layers: Sequence[Layer], borders: Mapping[str, _Border]) -> list[Layer]:
    """The layers and the conversions they cause."""
    around = [borders[module].conversions for module in modules_of(layers) if module in borders]
    return [*layers, *(conversion for conversions in around for conversion in conversions)]


def _float_islands(graph: _DataFlow, borders: Mapping[str, _Border]) -> list[Finding]:
    """Float convolutions between INT8 ones: both borders are conversions, and INT8 neighbours cannot fuse."""
    found = [
        layer
        for layer in graph.layers
        if layer.role == "conv"
        and layer.precision in FLOATS
        and (before := graph.before(layer))
        and all(near.precision == "int8" for near in before)
        and any(near.precision == "int8" for near in graph.after(layer))
        and not graph.makes_output(layer)
    ]
    if not found:
        return []
    modules = modules_of(found)
    return [
        Finding(
            "float-island",
            f"{counted(len(found), 'float convolution')} between INT8 layers, with conversions on both sides",
            modules,
            ms_of(_with_borders(found, borders)),
            rules(modules, "conv", "int8", "it breaks a chain of INT8 layers"),
            _KEPT_FLOAT,
        )
    ]


def _unfused_sums(layers: Sequence[Layer], borders: Mapping[str, _Border]) -> list[Finding]:
    """Sums that are separate layers; a fused one is part of a convolution."""
    findings = []
    for operation, title in (("residual_add", "residual sum"), ("resolution_sum", "cross-resolution sum")):
        for quantized in (False, True):
            found = [
                layer
                for layer in layers
                if layer.role == "sum"
                and operation in {sum_op(module_of(node)) for node in layer.nodes}
                and (layer.precision == "int8") == quantized
            ]
            if not found:
                continue
            modules = tuple(
                dict.fromkeys(
                    module_of(node)
                    for layer in found
                    for node in layer.nodes
                    if sum_op(module_of(node)) == operation
                )
            )
            if quantized:
                note = (
                    "all inputs are INT8 already; TensorRT fuses a sum when only the skip input is quantized and the "
                    "other comes straight from its convolution"
                )
                policy = ""
            else:
                note = "a sum fuses with its convolution when the skip input is INT8"
                policy = rules(modules, operation, "int8", "an INT8 sum fuses with its convolution")
            how = "INT8" if quantized else "float"
            findings.append(
                Finding(
                    "unfused-sum",
                    f"{counted(len(found), title)} not fused, {how}",
                    modules,
                    ms_of(_with_borders(found, borders)),
                    policy,
                    note,
                )
            )
    return findings


def _small_convolutions(graph: _DataFlow) -> list[Finding]:
    """INT8 convolutions that compute mostly padding, except the first one, which reads the image.

    Full TensorRT pads the inputs and the outputs of a group. In TensorRT for RTX only the inputs count, the channels
    that are summed over: outputs are FP16 there, and INT8 inputs pay by moving fewer bytes.
    """
    found = [
        layer
        for layer in graph.layers
        if layer.role == "conv"
        and layer.precision == "int8"
        and layer.channels is not None
        and graph.before(layer)
        and _narrowest(layer, layer.channels) < SMALLEST_CHANNELS
    ]
    if not found:
        return []
    return [
        Finding(
            "small-convolution",
            f"{counted(len(found), 'INT8 convolution')} with fewer than {SMALLEST_CHANNELS} channels per group: INT8 "
            "works on 32 at a time",
            modules_of(found),
            ms_of(found),
            f'- match: "*"\n  op: conv\n  below_channels: {SMALLEST_CHANNELS}\n  precision: float\n'
            "  why: INT8 would compute mostly padding",
            "place the rule before the one that makes convolutions INT8",
        )
    ]


def _narrowest(layer: Layer, channels: tuple[int, int]) -> int:
    """Channels that decide whether INT8 is mostly padding; ``channels``: per group, in and out."""
    return channels[0] if myelin.is_convolution(layer.name, layer.kind) else min(channels)


def _conversions(graph: _DataFlow, borders: Mapping[str, _Border]) -> list[Finding]:
    """Changes between INT8 and float, by the float layer that causes them."""
    total = sum(layer.ms or 0.0 for layer in graph.layers)
    findings = []
    for module, border in borders.items():
        cause, ms = border.cause, ms_of(border.conversions)
        if ms is not None and ms < NOTABLE_SHARE * total:
            continue
        operation = _policy_op(cause)
        if operation is None:
            operations = " and ".join(sorted({operation_of(node) for node in cause.nodes})) or cause.kind
            policy, note = (
                "",
                f"no policy rule: a policy decides about convolutions, sums and pools, not {operations}",
            )
        elif graph.makes_output(cause):
            policy = ""
            note = "no policy rule: it is an output of the network, where an INT8 step is a visible error"
        else:
            policy, note = rules((module,), operation, "int8", "its borders cost conversions"), _KEPT_FLOAT
        findings.append(
            Finding(
                "conversions",
                f"{counted(len(border.conversions), 'conversion')} between INT8 and {cause.precision} around {module}",
                (module,),
                ms,
                policy,
                note,
            )
        )
    return findings


def _fp32_remainder(graph: _DataFlow) -> list[Finding]:
    """FP32 convolutions in an engine with INT8 ones: the rest should be FP16, except the last ones, which output
    offsets and heatmaps.
    """
    convolutions = [layer for layer in graph.layers if layer.role == "conv"]
    found = [layer for layer in convolutions if layer.precision == "fp32" and not graph.makes_output(layer)]
    if not found or not any(layer.precision == "int8" for layer in convolutions):
        return []
    return [
        Finding(
            "fp32-remainder",
            f"{counted(len(found), 'convolution')} in FP32 next to INT8 ones",
            modules_of(found),
            ms_of(found),
            note="no policy rule: build again with FP16 allowed (TensorRT 8 to 10) or baked in (11), "
            "as `samkr-edge build` does",
        )
    ]


def modules_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.module for layer in layers))


def ms_of(layers: Sequence[Layer]) -> float | None:
    known = [layer.ms for layer in layers if layer.ms is not None]
    return sum(known) if known else None


def rules(modules: Iterable[str], op: str, precision: str, why: str) -> str:
    return "\n".join(
        f'- match: "{module}"\n  op: {op}\n  precision: {precision}\n  why: {why}' for module in modules
    )


def _policy_op(layer: Layer) -> str | None:
    """The policy's name for this layer's operation; None if no rule can make it INT8."""
    if layer.role == "conv":
        return "conv"
    if any(operation_of(node) == "MaxPool" for node in layer.nodes):
        return "max_pool"
    return sum_op(layer.module) if layer.role == "sum" else None
