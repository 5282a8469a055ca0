"""The layers of a TensorRT engine, from the engine inspector's JSON and a per-layer profile. Pure: no TensorRT needed.

The formats of TensorRT 8.5 to 11 differ: up to 10 a tensor has one string ``Format/Datatype``, a sentence
(``Thirty-two wide channel vectorized row major Int8 format``) or a word (``Half``); in 11 it is split into two fields,
and ``Bindings`` became ``I/O Tensors``. TensorRT for RTX's listing (``builder_listing``) has a convolution's constants
instead of its kernel and groups, which are derived from the shapes of the weights.

A layer's name and metadata list the ONNX nodes fused into it, which contain the network's module names.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_of

_DTYPES = (
    # The first match counts: `uint8` before `int8`, and `float` last, since `bfloat16` and `float8` contain it.
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
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "Cast")
# Types of layers without quantizers.
FLOATS = ("fp32", "fp16", "bf16")
_QUANTIZED = ("int8", "fp8")

_WRITE = "write it again, on the device: samkr-edge inspect MODEL.engine --profile"


@dataclass(frozen=True)
class LayerTensor:
    """One input or output of a layer; ``dtype`` is ``int8``, ``fp16``, ... or ``?``."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: TensorRT's name.
        kind: TensorRT's layer type: ``CaskConvolution``, ``Reformat``, ``kgen``, ...
        role: ``conv``, ``conversion`` (of format or precision, no arithmetic), ``sum``, ``elementwise`` (a generated
            kernel that does more than that), ``none`` (launches no kernel) or ``other``.
        nodes: ONNX nodes fused into it.
        inputs, outputs: activations.
        precision: what it computes in; for a convolution, the type of its weights.
        macs: multiply-accumulates; None if unknown.
        channels: (input, output) channels per group of a convolution.
        ms: time from the profile.
        constants: weights, scales and the like, if the listing has them.
    """

    name: str
    kind: str
    role: str
    nodes: tuple[str, ...]
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    precision: str
    macs: int | None = None
    channels: tuple[int, int] | None = None
    ms: float | None = None
    constants: tuple[LayerTensor, ...] = ()

    @property
    def writes(self) -> str:
        """Type of its first output."""
        return self.outputs[0].dtype if self.outputs else "?"

    @property
    def module(self) -> str:
        """The network's module that most of this layer belongs to, else TensorRT's name."""
        for node in self.nodes:
            if operation_of(node) == "Conv":
                return module_of(node)
        return module_of(self.nodes[0]) if self.nodes else self.name


def parse_layers(text: str, times: Mapping[str, float] | None = None) -> list[Layer]:
    """``layers_in`` from JSON text; raises the same."""
    return layers_in(_load(text, "engine layers"), times)


def layers_in(loaded: Any, times: Mapping[str, float] | None = None) -> list[Layer]:
    """Layers in the engine's order, with their times.

    Raises:
        SamkrError: SE-B92 not in a known format, SE-B93 names only.
    """
    entries = loaded.get("Layers") if isinstance(loaded, dict) else loaded
    if not isinstance(entries, list):
        raise SamkrError("SE-B92", "this JSON holds no engine layers", {"needed": "a list `Layers`"}, _WRITE)
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise SamkrError(
            "SE-B93",
            "this engine was built without layer details, so there is nothing to inspect",
            {
                "layers": f"{len(entries)}, names only",
                "needed": "profiling verbosity DETAILED at build time",
            },
            fix="samkr-edge build MODEL.onnx --target auto",
        )
    try:
        return [_layer(entry, times or {}) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SamkrError(
            "SE-B92",
            "these engine layers are in an unknown form",
            {"reason": f"{error!r}"[:150]},
            fix="samkr-edge doctor   # and report what it prints: this TensorRT writes its lists in another form",
        ) from error


def listed_engine(text: str) -> str | None:
    """SHA-256 of the engine whose layers these are; None if not given, as in the inspector's JSON."""
    loaded = _load(text, "engine layers")
    return loaded.get("engine_sha256") if isinstance(loaded, dict) else None


def profile_records(runs: Sequence[Mapping[str, float]], engine_sha256: str) -> list[dict[str, Any]]:
    """A profile in the format of ``trtexec --exportProfile``, from layer name -> milliseconds of every inference.

    The first record, the number of inferences, also identifies the measured engine.
    """
    names = dict.fromkeys(name for run in runs for name in run)
    totals = {name: sum(run.get(name, 0.0) for run in runs) for name in names}
    everything = sum(totals.values()) or 1.0
    return [
        {"count": len(runs), "engine_sha256": engine_sha256},
        *(
            {
                "name": name,
                "timeMs": total,
                "averageMs": total / len(runs),
                "medianMs": statistics.median(run.get(name, 0.0) for run in runs),
                "percentage": 100 * total / everything,
            }
            for name, total in totals.items()
        ),
    ]


def profiled_engine(text: str) -> str | None:
    """SHA-256 of the profiled engine; None if not given, as in trtexec's profiles."""
    loaded = _load(text, "profile")
    first = loaded[0] if isinstance(loaded, list) and loaded else None
    return first.get("engine_sha256") if isinstance(first, dict) else None


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
        raise SamkrError(
            "SE-B92", "this is not a layer profile", {"reason": f"{error!r}"[:150]}, _WRITE
        ) from error


def _load(text: str, what: str) -> Any:
    try:
        return json_of(text)
    except ValueError as error:
        raise SamkrError(
            "SE-B92",
            f"the {what} are not valid JSON",
            {"reason": error, "size": len(text)},
            _WRITE,
        ) from error


def _layer(entry: Mapping[str, Any], times: Mapping[str, float]) -> Layer:
    name, kind = str(entry["Name"]), str(entry.get("LayerType", ""))
    inputs = tuple(_tensor(tensor) for tensor in entry.get("Inputs", []))
    outputs = tuple(_tensor(tensor) for tensor in entry.get("Outputs", []))
    nodes = _nodes(name, str(entry.get("Metadata", "")))
    role = _role(name, kind, nodes, entry)
    constants = tuple(_tensor(tensor) for tensor in entry.get("Constants", []))
    precision = _precision(inputs, outputs)
    macs, channels = None, None
    if role == "conv":
        weights = entry.get("Weights")
        listed = _listed_weights(inputs, constants, outputs)
        if isinstance(weights, dict) and (dtype := dtype_of(str(weights.get("Type", "")))) != "?":
            precision = dtype
        elif listed is not None:
            precision = listed.dtype
        macs, channels = (
            _work(entry, inputs, outputs) or _listed_work(listed, inputs, outputs) or (None, None)
        )
    return Layer(
        name=name,
        kind=kind,
        role=role,
        nodes=nodes,
        inputs=inputs,
        outputs=outputs,
        precision=precision,
        macs=macs,
        channels=channels,
        ms=times.get(name),
        constants=constants,
    )


def _tensor(entry: Mapping[str, Any]) -> LayerTensor:
    text = next(
        (
            str(entry[key])
            for key in ("Format/Datatype", "Format/DataType", "DataType", "Datatype")
            if key in entry
        ),
        str(entry.get("Format", "")),
    )
    return LayerTensor(str(entry["Name"]), tuple(int(n) for n in entry.get("Dimensions", [])), dtype_of(text))


def dtype_of(text: str) -> str:
    """``int8``, ``fp16``, ``fp32``, ... from any of TensorRT's names for a type; ``?`` if there is none."""
    return next((name for name, pattern in _DTYPES if re.search(pattern, text.lower())), "?")


def _precision(inputs: Sequence[LayerTensor], outputs: Sequence[LayerTensor]) -> str:
    """INT8 or FP8 if all inputs are; else the first float type among inputs, then outputs."""
    kinds = [tensor.dtype for tensor in inputs]
    if kinds and kinds[0] in _QUANTIZED and len(set(kinds)) == 1:
        return kinds[0]
    everything = [*kinds, *(tensor.dtype for tensor in outputs)]
    return next((kind for kind in everything if kind in FLOATS), everything[0] if everything else "?")


def _nodes(name: str, metadata: str) -> tuple[str, ...]:
    """ONNX nodes of a layer: the metadata lists all of them; in older engines the name lists most."""
    found = re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata)
    if not found:
        found = [part for token in re.findall(r"/[\w./-]+", name) for part in token.split("...")]
    return tuple(dict.fromkeys(node for node in found if node))


def operation_of(node: str) -> str:
    """``/net/stage3/stage3.0/sums.0/Add_1`` -> ``Add``."""
    return re.sub(r"_\d+$", "", node.rsplit("/", 1)[-1])


def _role(name: str, kind: str, nodes: Sequence[str], entry: Mapping[str, Any]) -> str:
    operations = [operation_of(node) for node in nodes]
    if kind in (*myelin.NO_KERNELS, "NoOp"):
        return "none"
    if kind == "Reformat" or name.startswith(("Reformatting CopyNode", "reformat")):
        return "conversion"
    if kind == myelin.GENERATED:
        return _role_of_generated(name, nodes)
    if myelin.is_convolution(name, kind):
        return "conv"
    if kind in myelin.FUSIONS:
        return "other"
    if entry.get("ParameterType") == "Convolution" or "conv" in kind.lower() or "Conv" in operations:
        return "conv"
    if nodes and all(operation in _QUANTIZERS for operation in operations):
        return "conversion"
    return "sum" if _sums(nodes) else "other"


def _role_of_generated(name: str, nodes: Sequence[str]) -> str:
    """A generated kernel is not a convolution, though it may carry the node of one, whose bias it adds."""
    if myelin.converts(name) or (nodes and all(operation_of(node) in _QUANTIZERS for node in nodes)):
        return "conversion"
    return "sum" if myelin.adds(name) and _sums(nodes) else "elementwise"


def _sums(nodes: Sequence[str]) -> bool:
    return any(operation_of(node) == "Add" and sum_op(module_of(node)) for node in nodes)


def sum_op(module: str) -> str | None:
    """The policy's name for a sum: ``residual_add``, ``resolution_sum``, or None for any other addition."""
    parts = module.split(".")
    if parts[-1] == "add":
        return "residual_add"
    return "resolution_sum" if len(parts) > 1 and parts[-2] == "sums" else None


def _work(
    entry: Mapping[str, Any], inputs: Sequence[LayerTensor], outputs: Sequence[LayerTensor]
) -> tuple[int, tuple[int, int]] | None:
    """(multiply-accumulates, channels per group) of a convolution, from its kernel and map shapes."""
    kernel, groups = entry.get("Kernel"), int(entry.get("Groups", 1) or 1)
    if not kernel or not inputs or not outputs or min(len(inputs[0].shape), len(outputs[0].shape)) < 3:
        return None
    c_in, c_out = inputs[0].shape[1] // groups, int(entry.get("OutMaps") or outputs[0].shape[1])
    macs = _images(outputs[0]) * c_out * prod(outputs[0].shape[2:]) * c_in * prod(kernel)
    return macs, (c_in, c_out // groups)


def _listed_weights(
    inputs: Sequence[LayerTensor], constants: Sequence[LayerTensor], outputs: Sequence[LayerTensor]
) -> LayerTensor | None:
    """Weights (out, in / groups, height, width) of a convolution, among its constants or, if computed, its inputs.

    A 1x1 convolution that became a matrix product has (1, out, in), returned as (out, in).
    """
    if not outputs or len(outputs[0].shape) not in (3, 4):
        return None
    rank, c_out = len(outputs[0].shape), outputs[0].shape[1]
    maps = [tensor for tensor in inputs if len(tensor.shape) == rank]
    found = []
    for tensor in (*constants, *maps[1:]):
        shape = tensor.shape[1:] if rank == 3 and tensor.shape[:1] == (1,) else tensor.shape
        weights = LayerTensor(tensor.name, shape, tensor.dtype)
        fits = len(tensor.shape) == rank and len(shape) in (2, 4) and shape[0] == c_out
        if fits and any(_groups(weights, one) for one in maps if one is not tensor):
            found.append(weights)
    # A bias of (1, out, 1, 1) looks like the weights of a convolution with one output.
    return max(found, key=lambda weights: prod(weights.shape), default=None)


def _listed_work(
    weights: LayerTensor | None, inputs: Sequence[LayerTensor], outputs: Sequence[LayerTensor]
) -> tuple[int, tuple[int, int]] | None:
    """``_work`` from the shape of the weights."""
    if weights is None:
        return None
    c_out, c_in = weights.shape[:2]
    macs = _images(outputs[0]) * prod(outputs[0].shape[2:]) * prod(weights.shape)
    # A fused addend is an input too: of the inputs that fit, the one that needs no groups is the convolved one.
    groups = min(n for one in inputs if one.name != weights.name and (n := _groups(weights, one)))
    return macs, (c_in, c_out // groups)


def _groups(weights: LayerTensor, image: LayerTensor) -> int:
    """Groups of the convolution of ``image`` with ``weights``; 0 if they do not fit."""
    if len(image.shape) not in (3, 4) or weights.shape[1] <= 0:
        return 0
    groups, rest = divmod(image.shape[1], weights.shape[1])
    return groups if rest == 0 and groups > 0 and weights.shape[0] % groups == 0 else 0


def _images(tensor: LayerTensor) -> int:
    """The batch; an open one counts as one image."""
    return max(tensor.shape[0], 1)
