"""Which quantizers share one range: all readers of one tensor, and all inputs of one sum.

So a tensor that a convolution and a residual sum read is quantized once for both, in TensorRT and ONNX Runtime; and
the terms of a sum over resolutions are integers of one scale. Concatenations need no rule: HRNet's joins bilinear
up-samplings, which no runtime computes in INT8, and one quantizer follows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from calibration.policy import Assignment

# Module -> its future activation quantizers, each with the number of the tensor that it would read.
Readers = dict[str, list[tuple[str, int]]]


def trace_readers(folded: nn.Module, assignments: Sequence[Assignment]) -> Readers:
    """Which module reads which tensor, by one pass over a small image; the input size does not matter.

    Args:
        folded: the float network with its batch norms folded.
        assignments: names and operations of the modules to look at.
    """
    readers: Readers = {}
    alive: list[Tensor] = []  # an id is unique among living objects only

    def watch(assignment: Assignment) -> Any:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tensors = inputs[0] if isinstance(inputs[0], list) else inputs
            names = quantizer_names(assignment.op, len(tensors))
            alive.extend(tensors)
            readers[assignment.module] = [
                (f"{assignment.module}.{name}", id(tensor))
                for name, tensor in zip(names, tensors, strict=True)
            ]

        return before

    handles = [
        folded.get_submodule(assignment.module).register_forward_pre_hook(watch(assignment))
        for assignment in assignments
    ]
    try:
        # Computed, since the meta device needs a copy of the network and many times as long for its shapes.
        with torch.no_grad():
            folded(torch.zeros(1, 3, 64, 64, device=next(folded.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return readers


def scale_groups(readers: Readers, int8: Collection[str]) -> list[list[str]]:
    """Names of activation quantizers of the ``int8`` modules, in groups of two or more that share a range."""
    parents: dict[Any, Any] = {}

    def root(item: Any) -> Any:
        while parents.setdefault(item, item) != item:
            item = parents[item]
        return item

    quantizers = []
    for module, inputs in readers.items():
        if module in int8:
            for name, tensor in inputs:
                quantizers.append(name)
                parents[root(name)] = root(tensor)
                parents[root(name)] = root(module)
    groups: dict[Any, list[str]] = defaultdict(list)
    for name in quantizers:
        groups[root(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def quantizer_names(op: str, inputs: int) -> list[str]:
    """Attribute names of an operation's activation quantizers, in the order of its inputs."""
    if op == "residual_add":
        return ["branch_input_quantizer", "skip_input_quantizer"]
    if op == "resolution_sum":
        return [f"term{index}_input_quantizer" for index in range(inputs)]
    return ["input_quantizer"]
