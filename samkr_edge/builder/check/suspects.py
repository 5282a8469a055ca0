"""Faults that are known to happen, and the effect of each on the maps, computed by ONNX Runtime.

Most change the maps by less than a correct FP16 or INT8 build does, so they are recognised by the shape of the change,
not by its size (``samkr_edge.builder.check.faults``).

Sampling faults are computed next to the network itself: each adds a copy of everything after the GridSample nodes,
which costs an offset head instead of a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samkr_edge.builder.check.maps import Maps, opened
from samkr_edge.onnx_graph.onnx_file import FLOAT, FLOAT16, Node, OnnxFile, make_node

# Normalisation of ImageNet, RGB, with which the zoo networks are trained.
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Suspect:
    """A fault, in words that follow "it computes as if", and how the maps of the first N images would change."""

    words: str
    change: Maps


def _nearest(node: Node, outputs: list[str], suffix: str) -> list[Node]:
    return [node.copy(f"{node.name}{suffix}", node.inputs, outputs, mode="nearest")]


def _half_grid(node: Node, outputs: list[str], suffix: str) -> list[Node]:
    image, grid = node.inputs
    half, back = f"{grid}{suffix}_half", f"{grid}{suffix}_back"
    return [
        make_node("Cast", [grid], [half], to=FLOAT16),
        make_node("Cast", [half], [back], to=FLOAT),
        node.copy(f"{node.name}{suffix}", [image, back], outputs),
    ]


_SAMPLINGS: dict[str, Callable[[Node, list[str], str], list[Node]]] = {
    "GridSample took the nearest pixel": _nearest,
    "the sampling grid were rounded to FP16": _half_grid,
}


def _swap_channels(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[..., ::-1])


def _unnormalised(images: np.ndarray) -> np.ndarray:
    """Images whose normalised values are these images' values between 0 and 1."""
    return np.rint(255 * _MEAN + _STD * images).astype(np.uint8)


_INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "red and blue were swapped": _swap_channels,
    "the image were not normalised by mean and deviation": _unnormalised,
}


def maps_and_suspects(
    model: OnnxFile, names: tuple[str, str], images: np.ndarray
) -> tuple[Maps, list[Suspect]]:
    """Maps of a float model, called ``names``, on uint8 (N, H, W, 3), and what each suspect does to them.

    Faults of the input are computed for the first image only.
    """
    model = model.copy()
    added = [
        _add_branch(model, names, edit, f"__{number}") for number, edit in enumerate(_SAMPLINGS.values())
    ]
    all_names = [*names, *(name for branch in added for name in branch.values())]
    with opened(model, all_names) as runner:
        arrays = dict(zip(all_names, runner.run(images), strict=True))
        right = Maps(*(arrays[name] for name in names))
        suspects = []
        for words, branch in zip(_SAMPLINGS, added, strict=True):
            changed = (arrays[branch[name]] if name in branch else arrays[name] for name in names)
            suspects.append(Suspect(words, _difference(right, Maps(*changed))))
        first = Maps(*(array[:1] for array in right))
        for words, edit in _INPUTS.items():
            suspects.append(Suspect(words, _difference(first, Maps(*runner.run(edit(images[:1]))[:2]))))
    return right, suspects


def _difference(right: Maps, wrong: Maps) -> Maps:
    with np.errstate(invalid="ignore"):  # infinity less infinity: the maps are refused afterwards
        return Maps(wrong.heatmap - right.heatmap, wrong.association - right.association)


def _add_branch(
    model: OnnxFile, names: tuple[str, str], edit: Callable[[Node, list[str], str], list[Node]], suffix: str
) -> dict[str, str]:
    """Copy everything between sampling and maps, and edit the copy's sampling; map -> its name in the copy."""
    renamed: dict[str, str] = {}
    needed = _above(model, names)
    for node in list(model.nodes):
        sampling = node.op_type == "GridSample"
        if not (sampling or renamed.keys() & set(node.inputs)) or not needed & set(node.outputs):
            continue
        inputs = [renamed.get(name, name) for name in node.inputs]
        outputs = [f"{name}{suffix}" for name in node.outputs]
        moved = node.copy(f"{node.name}{suffix}", inputs, outputs)
        model.nodes += edit(moved, outputs, suffix) if sampling else [moved]
        renamed.update(zip(node.outputs, outputs, strict=True))
    return {name: renamed[name] for name in names if name in renamed}


def _above(model: OnnxFile, names: tuple[str, ...]) -> set[str]:
    """These tensors and all that they depend on."""
    makers = {output: node for node in model.nodes for output in node.outputs}
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += makers[name].inputs if name in makers else []
    return found
