"""Which quantizers share one range: all readers of one tensor, and all inputs of one sum.

A tensor that a convolution and a residual sum read is then quantized once, for both, by TensorRT and ONNX Runtime
alike; and the terms of a sum over resolutions add up as integers of one scale. A concatenation needs no rule of its
own: HRNet's joins bilinear up-samplings, which no runtime does in INT8, and one quantizer stands behind it.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from calibration.policy import Assignment


def scale_groups(folded: nn.Module, assignments: Sequence[Assignment]) -> list[list[str]]:
    """Names of activation quantizers, in groups of two and more that share a range.

    Found by one pass on the meta device: which module is handed which tensor. The input size does not matter.

    Args:
        folded: the float network with its batch norms folded.
        assignments: what the policy decided; only INT8 modules have quantizers.
    """
    network = copy.deepcopy(folded).to("meta")
    parents: dict[str, str] = {}
    reader: dict[int, str] = {}
    alive: list[Tensor] = []  # an id is unique among living objects only

    def root(name: str) -> str:
        while parents[name] != name:
            name = parents[name]
        return name

    def watch(assignment: Assignment) -> Any:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tensors = inputs[0] if isinstance(inputs[0], list) else inputs
            names = [f"{assignment.module}.{name}" for name in quantizer_names(assignment.op, len(tensors))]
            for name, tensor in zip(names, tensors, strict=True):
                alive.append(tensor)
                parents[name] = root(reader[id(tensor)]) if id(tensor) in reader else name
                reader.setdefault(id(tensor), name)
            for name in names[1:]:
                parents[root(name)] = root(names[0])

        return before

    for assignment in assignments:
        if assignment.precision == "int8":
            network.get_submodule(assignment.module).register_forward_pre_hook(watch(assignment))
    with torch.no_grad():
        network(torch.empty(1, 3, 64, 64, device="meta"))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in parents:
        groups[root(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def quantizer_names(op: str, inputs: int) -> list[str]:
    """Attribute names of an operation's activation quantizers, in the order of its inputs."""
    if op == "residual_add":
        return ["branch_input_quantizer", "skip_input_quantizer"]
    if op == "resolution_sum":
        return [f"term{index}_input_quantizer" for index in range(inputs)]
    return ["input_quantizer"]
