"""What TensorRT made of a network, layer by layer, and why its INT8 is not faster.

Reads the engine inspector's JSON of TensorRT 8.5 to 11 and, where there is one, a per-layer profile. Pure: no
TensorRT needed. The formats differ: up to 10 a tensor has one text ``Format/Datatype``, a sentence
(``Thirty-two wide channel vectorized row major Int8 format``) or a word (``Half``); in 11 it is split in two fields,
and ``Bindings`` became ``I/O Tensors``.

A layer's name and metadata name the ONNX nodes fused into it, and these carry the network's module names: so a finding
can say which line of the quantization policy would change it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError

# INT8 tensor cores work on blocks of 32 channels: a convolution with fewer than half of that computes mostly padding.
SMALLEST_CHANNELS = 16
# Below this share of the time, conversions are not what makes an engine slow.
NOTABLE_SHARE = 0.02

_DTYPES = (
    # The first that matches; `uint8` before `int8`, and `float` last since `bfloat16` and `float8` hold it.
    ("uint8", r"uint8"),
    ("int8", r"int8"),
    ("int4", r"int4"),
    ("fp8", r"fp8|float8|e4m3"),
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half|float16"),
    ("int64", r"int64"),
    ("int32", r"int32"),
    ("bool", r"bool"),
    ("fp32", r"fp32|float"),
)  # fmt: skip
_KEPT_FLOAT = "first see whether the policy keeps it in float for accuracy"
FLOATS = ("fp32", "fp16", "bf16", "fp8")


@dataclass(frozen=True)
class Tensor:
    """One input or output of a layer; ``dtype`` is ``int8``, ``fp16``, ... or ``?``."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: TensorRT's name of it.
        kind: TensorRT's type of it: ``CaskConvolution``, ``Reformat``, ``kgen``, ...
        role: ``conv``, ``conversion`` (of format or precision, no arithmetic), ``sum`` or ``other``.
        nodes: ONNX nodes fused into it.
        inputs, outputs: activations.
        precision: what it computes in.
        macs: multiply-accumulates, None where the JSON does not tell.
        channels: (input, output) channels per group of a convolution.
        ms: time from the profile.
    """

    name: str
    kind: str
    role: str
    nodes: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: str
    macs: int | None = None
    channels: tuple[int, int] | None = None
    ms: float | None = None

    @property
    def module(self) -> str:
        """The network's module that this layer mostly is; TensorRT's name where it is none of ours."""
        for node in self.nodes:
            if _operation(node) == "Conv":
                return module_of(node)
        return module_of(self.nodes[0]) if self.nodes else self.name


@dataclass(frozen=True)
class Finding:
    """Something that costs time.

    Attributes:
        kind: ``float_island``, ``unfused_sum``, ``small_convolution``, ``conversions`` or ``fp32_remainder``.
        what: one sentence.
        modules: whom it concerns.
        ms: time of the layers concerned, where there is a profile.
        policy: rules that would change it, in the policy's YAML; empty where no rule can.
        note: what to know before doing so.
    """

    kind: str
    what: str
    modules: tuple[str, ...]
    ms: float | None = None
    policy: str = ""
    note: str = ""


@dataclass(frozen=True)
class EngineReport:
    """Layers, sums over them and findings, the costliest first."""

    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...] = field(default=())

    def counts(self) -> dict[str, int]:
        """Layers that compute, by precision."""
        return self._sum(lambda layer: 1)

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates by precision, of the layers whose JSON tells them."""
        return self._sum(lambda layer: layer.macs or 0)

    def ms(self) -> dict[str, float] | None:
        """Time by precision, and of conversions; None without a profile."""
        if all(layer.ms is None for layer in self.layers):
            return None
        found: dict[str, float] = self._sum(lambda layer: layer.ms or 0.0)
        found["conversions"] = sum(layer.ms or 0.0 for layer in self.conversions())
        return found

    def conversions(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.role == "conversion"]

    def _sum(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = defaultdict(int)
        for layer in self.layers:
            if layer.role != "conversion" and value(layer):
                found[layer.precision] += value(layer)
        return dict(found)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers_by_precision": self.counts(),
            "macs_by_precision": self.macs(),
            "ms_by_precision": self.ms(),
            "conversions": len(self.conversions()),
            "findings": [asdict(finding) for finding in self.findings],
            "layers": [{**asdict(layer), "module": layer.module} for layer in self.layers],
        }


def inspect_layers(text: str, profile: str | None = None) -> EngineReport:
    """Layers and findings from the inspector's JSON and, where given, a profile's JSON.

    Args:
        text: ``EngineInspector.get_engine_information(JSON)`` or ``trtexec --exportLayerInfo``.
        profile: ``trtexec --exportProfile``, or an object layer name -> milliseconds.

    Raises:
        SamkrError: SE-B92 not such JSON, SE-B93 the engine was built without layer details.
    """
    layers = parse_layers(text, parse_profile(profile) if profile else {})
    return EngineReport(tuple(layers), tuple(find(layers)))


def parse_layers(text: str, times: Mapping[str, float] | None = None) -> list[Layer]:
    """Layers in the engine's order, with their times."""
    loaded = _load(text, "engine layers")
    entries = loaded.get("Layers") if isinstance(loaded, dict) else loaded
    if not isinstance(entries, list):
        raise SamkrError("SE-B92", "this JSON holds no engine layers", ["needed     a list `Layers`"])
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise SamkrError(
            "SE-B93",
            "this engine was built without layer details, so there is nothing to inspect",
            [
                f"layers     {len(entries)}, names only",
                "needed     profiling verbosity DETAILED at build time",
            ],
            fix="samkr-edge build MODEL.onnx --target auto",
        )
    try:
        return [_layer(entry, times or {}) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SamkrError(
            "SE-B92", "these engine layers are in a form that is not known", [f"reason     {error!r}"[:160]]
        ) from error


def parse_profile(text: str) -> dict[str, float]:
    """Layer name -> milliseconds of one inference."""
    loaded = _load(text, "profile")
    try:
        if isinstance(loaded, dict):
            return {str(name): float(ms) for name, ms in loaded.items()}
        times: dict[str, float] = defaultdict(float)
        for record in loaded:
            if "name" in record:  # the first record is {"count": N}
                times[record["name"]] += float(record.get("averageMs", record.get("medianMs", 0.0)))
        return dict(times)
    except (TypeError, ValueError, AttributeError) as error:
        raise SamkrError("SE-B92", "this is no profile of layers", [f"reason     {error!r}"[:160]]) from error


def module_of(node: str) -> str:
    """ONNX node name -> module name: ``/net/layer1/layer1.0/conv1/Conv`` -> ``layer1.0.conv1``.

    The exporter writes the path of scopes, where a child of a list repeats its parent's name.
    """
    scopes = node.strip("/").split("/")[:-1]
    if scopes and scopes[0] == "net":
        scopes = scopes[1:]
    kept: list[str] = []
    for scope in scopes:
        if kept and scope.startswith(f"{kept[-1]}."):
            kept.pop()
        kept.append(scope)
    return ".".join(kept) or node


def _load(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SamkrError(
            "SE-B92", f"the {what} are not valid JSON", [f"reason     {error}", f"size       {len(text)}"]
        ) from error


def _layer(entry: Mapping[str, Any], times: Mapping[str, float]) -> Layer:
    name, kind = str(entry["Name"]), str(entry.get("LayerType", ""))
    inputs = tuple(_tensor(tensor) for tensor in entry.get("Inputs", []))
    outputs = tuple(_tensor(tensor) for tensor in entry.get("Outputs", []))
    nodes = _nodes(name, str(entry.get("Metadata", "")))
    role = _role(name, kind, nodes, entry)
    macs, channels = _work(entry, inputs, outputs) if role == "conv" else (None, None)
    weights = entry.get("Weights")
    weight_dtype = dtype_of(str(weights.get("Type", ""))) if isinstance(weights, dict) else "?"
    return Layer(
        name=name,
        kind=kind,
        role=role,
        nodes=nodes,
        inputs=inputs,
        outputs=outputs,
        precision=weight_dtype if role == "conv" and weight_dtype != "?" else _precision(inputs, outputs),
        macs=macs,
        channels=channels,
        ms=times.get(name),
    )


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    text = next(
        (
            str(entry[key])
            for key in ("Format/Datatype", "Format/DataType", "DataType", "Datatype")
            if key in entry
        ),
        str(entry.get("Format", "")),
    )
    return Tensor(str(entry["Name"]), tuple(int(n) for n in entry.get("Dimensions", [])), dtype_of(text))


def dtype_of(text: str) -> str:
    """``int8``, ``fp16``, ``fp32``, ... from any of the ways TensorRT words a type; ``?`` where it tells none."""
    return next((name for name, pattern in _DTYPES if re.search(pattern, text.lower())), "?")


def _precision(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
    """INT8 where all inputs are; else the first float type among inputs, then outputs."""
    kinds = [tensor.dtype for tensor in inputs]
    if kinds and all(kind == "int8" for kind in kinds):
        return "int8"
    everything = [*kinds, *(tensor.dtype for tensor in outputs)]
    return next((kind for kind in everything if kind in FLOATS), everything[0] if everything else "?")


def _nodes(name: str, metadata: str) -> tuple[str, ...]:
    """ONNX nodes of a layer: the metadata names them all, the name of an older engine most of them."""
    found = re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata)
    if not found:
        found = [part for token in re.findall(r"/[\w./-]+", name) for part in token.split("...")]
    return tuple(dict.fromkeys(node for node in found if node))


def _operation(node: str) -> str:
    """``/net/stage3/stage3.0/sums.0/Add_1`` -> ``Add``."""
    return re.sub(r"_\d+$", "", node.rsplit("/", 1)[-1])


def _role(name: str, kind: str, nodes: Sequence[str], entry: Mapping[str, Any]) -> str:
    operations = [_operation(node) for node in nodes]
    if kind in ("Reformat", "NoOp") or name.startswith(("Reformatting CopyNode", "reformat")):
        return "conversion"
    if entry.get("ParameterType") == "Convolution" or "conv" in kind.lower() or "Conv" in operations:
        return "conv"
    if nodes and all(operation in ("QuantizeLinear", "DequantizeLinear", "Cast") for operation in operations):
        return "conversion"
    if any(_operation(node) == "Add" and _sum_op(module_of(node)) for node in nodes):
        return "sum"
    return "other"


def _sum_op(module: str) -> str | None:
    """The policy's name for a sum: ``residual_add``, ``resolution_sum``, or None for any other addition."""
    parts = module.split(".")
    if parts[-1] == "add":
        return "residual_add"
    return "resolution_sum" if len(parts) > 1 and parts[-2] == "sums" else None


def _policy_op(layer: Layer) -> str | None:
    """What a policy's rule calls this layer's operation; None for what no rule can make INT8."""
    if layer.role == "conv":
        return "conv"
    if any(_operation(node) == "MaxPool" for node in layer.nodes):
        return "max_pool"
    return _sum_op(layer.module) if layer.role == "sum" else None


def _work(
    entry: Mapping[str, Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[int | None, tuple[int, int] | None]:
    """(multiply-accumulates, channels per group) of a convolution, from its shapes (N, C, H, W)."""
    kernel, groups = entry.get("Kernel"), int(entry.get("Groups", 1) or 1)
    if not kernel or not inputs or not outputs or min(len(inputs[0].shape), len(outputs[0].shape)) < 3:
        return None, None
    c_in, c_out = inputs[0].shape[1] // groups, int(entry.get("OutMaps") or outputs[0].shape[1])
    macs = outputs[0].shape[0] * c_out * prod(outputs[0].shape[2:]) * c_in * prod(kernel)
    return macs, (c_in, c_out // groups)


# Findings.


def find(layers: Sequence[Layer]) -> list[Finding]:
    """Everything worth saying, the costliest first; without a profile, in the order of the rules."""
    graph = _Graph(layers)
    borders = _borders(graph)
    found = [*_float_islands(graph, borders), *_unfused_sums(layers, borders)]
    told = {module for finding in found for module in finding.modules}
    found += [
        *_small_convolutions(layers),
        *_conversions(graph, {module: border for module, border in borders.items() if module not in told}),
        *_fp32_remainder(layers),
    ]
    return sorted(found, key=lambda finding: -(finding.ms or 0.0))


class _Graph:
    """Who feeds whom, looking through conversions."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self._producer = {tensor.name: layer for layer in layers for tensor in layer.outputs}
        self._consumers: dict[str, list[Layer]] = defaultdict(list)
        for layer in layers:
            for tensor in layer.inputs:
                self._consumers[tensor.name].append(layer)

    def before(self, layer: Layer) -> list[Layer]:
        """Layers whose results ``layer`` reads."""
        return self._reach(
            layer, lambda near: [self._producer[t.name] for t in near.inputs if t.name in self._producer]
        )

    def after(self, layer: Layer) -> list[Layer]:
        """Layers that read the results of ``layer``."""
        return self._reach(layer, lambda near: [c for t in near.outputs for c in self._consumers[t.name]])

    def _reach(self, layer: Layer, step: Callable[[Layer], list[Layer]]) -> list[Layer]:
        found: dict[Layer, None] = {}
        waiting, seen = step(layer), {layer}
        while waiting:
            near = waiting.pop(0)
            if near in seen:
                continue
            seen.add(near)
            if near.role == "conversion":
                waiting += step(near)
            else:
                found[near] = None
        return list(found)


@dataclass
class _Border:
    """The conversions between INT8 and float that one float layer causes."""

    cause: Layer
    conversions: list[Layer] = field(default_factory=list)


def _borders(graph: _Graph) -> dict[str, _Border]:
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
    around = [borders[module].conversions for module in _modules(layers) if module in borders]
    return [*layers, *(conversion for conversions in around for conversion in conversions)]


def _float_islands(graph: _Graph, borders: Mapping[str, _Border]) -> list[Finding]:
    """Float convolutions between INT8 ones: both borders are conversions, and INT8 neighbours cannot fuse."""
    found = [
        layer
        for layer in graph.layers
        if layer.role == "conv"
        and layer.precision in FLOATS
        and (before := graph.before(layer))
        and all(near.precision == "int8" for near in before)
        and any(near.precision == "int8" for near in graph.after(layer))
    ]
    if not found:
        return []
    modules = _modules(found)
    return [
        Finding(
            "float_island",
            f"{_count(found, 'float convolution')} between INT8 layers, with the conversions around",
            modules,
            _ms(_with_borders(found, borders)),
            _rules(modules, "conv", "int8", "it breaks a chain of INT8 layers"),
            _KEPT_FLOAT,
        )
    ]


def _unfused_sums(layers: Sequence[Layer], borders: Mapping[str, _Border]) -> list[Finding]:
    """Sums that are layers of their own; a fused one is part of a convolution."""
    findings = []
    for operation, title in (("residual_add", "residual sum"), ("resolution_sum", "cross-resolution sum")):
        for quantized in (False, True):
            found = [
                layer
                for layer in layers
                if layer.role == "sum"
                and operation in {_sum_op(module_of(node)) for node in layer.nodes}
                and (layer.precision == "int8") == quantized
            ]
            if not found:
                continue
            modules = tuple(
                dict.fromkeys(
                    module_of(node)
                    for layer in found
                    for node in layer.nodes
                    if _sum_op(module_of(node)) == operation
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
                policy = _rules(modules, operation, "int8", "an INT8 sum fuses with its convolution")
            how = "INT8" if quantized else "float"
            findings.append(
                Finding(
                    "unfused_sum",
                    f"{_count(found, title)} not fused, {how}",
                    modules,
                    _ms(_with_borders(found, borders)),
                    policy,
                    note,
                )
            )
    return findings


def _small_convolutions(layers: Sequence[Layer]) -> list[Finding]:
    """INT8 convolutions that compute mostly padding; the first one, which sees 3 channels, is left alone."""
    found = [
        layer
        for layer in layers
        if layer.role == "conv"
        and layer.precision == "int8"
        and layer.channels is not None
        and layer.channels[0] > 3
        and min(layer.channels) < SMALLEST_CHANNELS
    ]
    if not found:
        return []
    return [
        Finding(
            "small_convolution",
            f"{_count(found, 'INT8 convolution')} with fewer than {SMALLEST_CHANNELS} channels per group: INT8 works "
            "on 32 at a time",
            _modules(found),
            _ms(found),
            f'- match: "*"\n  op: conv\n  below_channels: {SMALLEST_CHANNELS}\n  precision: float\n'
            "  why: INT8 would compute mostly padding",
            "place the rule before the one that makes convolutions INT8",
        )
    ]


def _conversions(graph: _Graph, borders: Mapping[str, _Border]) -> list[Finding]:
    """Changes between INT8 and float, by the float layer that causes them."""
    total = sum(layer.ms or 0.0 for layer in graph.layers)
    findings = []
    for module, border in borders.items():
        cause, ms = border.cause, _ms(border.conversions)
        if ms is not None and ms < NOTABLE_SHARE * total:
            continue
        operation = _policy_op(cause)
        if operation is None:
            operations = " and ".join(sorted({_operation(node) for node in cause.nodes})) or cause.kind
            policy, note = (
                "",
                f"no policy rule: a policy decides about convolutions, sums and pools, not {operations}",
            )
        elif not graph.after(cause):
            policy = ""
            note = "no policy rule: it is an output of the network, where an INT8 step is a visible error"
        else:
            policy, note = _rules((module,), operation, "int8", "its borders cost conversions"), _KEPT_FLOAT
        findings.append(
            Finding(
                "conversions",
                f"{_count(border.conversions, 'conversion')} between INT8 and {cause.precision} around {module}",
                (module,),
                ms,
                policy,
                note,
            )
        )
    return findings


def _fp32_remainder(layers: Sequence[Layer]) -> list[Finding]:
    """FP32 convolutions in an engine that has INT8 ones: what is not INT8 should be FP16."""
    convolutions = [layer for layer in layers if layer.role == "conv"]
    found = [layer for layer in convolutions if layer.precision == "fp32"]
    if not found or not any(layer.precision == "int8" for layer in convolutions):
        return []
    return [
        Finding(
            "fp32_remainder",
            f"{_count(found, 'convolution')} in FP32 beside INT8 ones",
            _modules(found),
            _ms(found),
            note="no policy rule: build again with FP16 allowed (TensorRT 8 to 10) or baked in (11), "
            "as `samkr-edge build` does",
        )
    ]


def _modules(layers: Iterable[Layer]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.module for layer in layers))


def _ms(layers: Sequence[Layer]) -> float | None:
    known = [layer.ms for layer in layers if layer.ms is not None]
    return sum(known) if known else None


def _count(layers: Sequence[Layer], what: str) -> str:
    return f"{len(layers)} {what}{'' if len(layers) == 1 else 's'}"


def _rules(modules: Iterable[str], op: str, precision: str, why: str) -> str:
    return "\n".join(
        f'- match: "{module}"\n  op: {op}\n  precision: {precision}\n  why: {why}' for module in modules
    )


# Asking TensorRT itself.


def layers_of_engine(engine: Path) -> str:
    """The inspector's JSON of an engine: from ``ENGINE.layers.json`` beside it, else from TensorRT here.

    Raises:
        SamkrError: SE-V92 there is neither; and what opening the engine refuses.
    """
    beside = engine.with_name(engine.name + ".layers.json")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    from samkr_edge.doctor import gpu_count

    if gpu_count() > 0:
        from samkr_edge.pose_model import load_model

        runner: Any = load_model(engine).runner  # its passport is compared first: loading runs native code
        try:
            return str(runner.layers())
        finally:
            runner.close()
    raise SamkrError(
        "SE-V92",
        f"the layers of {engine.name} can be listed only where TensorRT and its GPU are",
        [f"looked for {beside.name}"],
        fix=f"on the device: trtexec --loadEngine={engine.name} --exportLayerInfo={beside.name} "
        f"--exportProfile={engine.name}.profile.json",
    )


def profile_of_engine(engine: Path) -> str | None:
    """The per-layer profile beside an engine, ``ENGINE.profile.json``, where there is one."""
    beside = engine.with_name(engine.name + ".profile.json")
    return beside.read_text(encoding="utf-8") if beside.is_file() else None
