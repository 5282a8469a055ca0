"""Where each tensor of another project's network goes in ours.

The official code (HRNet/DEKR) has one module per keypoint where ours is grouped, so several of its tensors fill
consecutive rows of one of ours; the two convolutions that predict the affine map (four and two channels) lie side by
side in our six. mmpose is grouped too, but orders the six channels as rows of a 2x3 matrix, predicts the map without
its identity, and its displacement is joint - location, the negative of ours.
HigherHRNet and SWAHR have the same modules as ours, under other names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

BACKBONE = re.compile(r"(conv[12]|bn[12]|layer1|transition[123]|stage[234])\.")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Place:
    """Where one foreign tensor goes: all of our tensor ``target``, or rows of it where ``stride`` is given.

    Our grouped tensor has ``stride`` rows for each keypoint; ``value`` is those of ``keypoint`` from ``first`` on.
    """

    target: str
    value: Tensor
    keypoint: int = 0
    stride: int = 0
    first: int = 0

    @property
    def rows(self) -> slice:
        start = self.keypoint * self.stride + self.first
        return slice(start, start + len(self.value)) if self.stride else slice(None)


def layout_of(kind: str, tensors: Mapping[str, Tensor]) -> Callable[[str, Tensor], Place | None]:
    """The function (name, tensor) -> place for files of a kind; its result is None if our network has no such part.

    Args:
        kind: ``hrnet``, ``dekr``, ``mmpose``, ``higherhrnet``, ``swahr`` or ``samkr-edge``.
        tensors: the file's, any shape; their names show which version of mmpose wrote it.
    """
    if kind == "mmpose":
        return _Mmpose(tensors)
    return {
        "hrnet": _backbone,
        "dekr": _dekr,
        "higherhrnet": _higherhrnet,
        "swahr": _higherhrnet,
        "samkr-edge": _own,
    }[kind]


def _backbone(name: str, tensor: Tensor) -> Place | None:
    return Place(f"backbone.{name}", tensor) if BACKBONE.match(name) else None


def _own(name: str, tensor: Tensor) -> Place | None:
    return _backbone(name, tensor) or Place(name, tensor)


_DEKR_WHOLE = (
    ("transition_heatmap.", "heatmap_head.transition."),
    ("head_heatmap.0.0.", "heatmap_head.block."),
    ("head_heatmap.1.", "heatmap_head.final."),
    ("transition_offset.", "offset_head.transition."),
)
_DEKR_BLOCK = re.compile(r"offset_feature_layers\.(\d+)\.(\d+)\.(.+)")
_DEKR_FINAL = re.compile(r"offset_final_layer\.(\d+)\.(weight|bias)")


def _dekr(name: str, tensor: Tensor) -> Place | None:
    """Official DEKR: ``offset_feature_layers.{keypoint}.{block}``, ``offset_final_layer.{keypoint}``."""
    for theirs, ours in _DEKR_WHOLE:
        if name.startswith(theirs):
            return Place(ours + name.removeprefix(theirs), tensor)
    if matched := _DEKR_FINAL.fullmatch(name):
        return Place(f"offset_head.final.{matched[2]}", tensor, int(matched[1]), stride=2)
    matched = _DEKR_BLOCK.fullmatch(name)
    if not matched:
        return _backbone(name, tensor)
    keypoint, block = int(matched[1]), f"offset_head.blocks.{matched[2]}."
    part, _, kind = matched[3].partition(".")
    if part == "transform_matrix_conv":  # a00 a01 a10 a11
        return Place(f"{block}sampling.affine.{kind}", tensor, keypoint, stride=6)
    if part == "translation_conv":  # t_y t_x
        return Place(f"{block}sampling.affine.{kind}", tensor, keypoint, stride=6, first=4)
    if kind == COUNTER:
        return Place(f"{block}bn.{kind}", tensor)
    if part in ("adapt_conv", "bn"):
        return Place(f"{block}{part}.{kind}", tensor, keypoint, stride=len(tensor))
    return None


_HIGHER_WHOLE = (
    ("final_layers.0.", "final_low."),
    ("final_layers.1.", "final_high."),
    ("deconv_layers.0.0.", "deconv."),
    ("conv_scale_layers.0.", "scale_low."),
    ("conv_scale_layers.1.", "scale_high."),
)
_HIGHER_BLOCK = re.compile(r"deconv_layers\.0\.([1-9]\d*)\.0\.(.+)")


def _higherhrnet(name: str, tensor: Tensor) -> Place | None:
    """Official HigherHRNet, SWAHR's ``conv_scale_layers`` besides; mmpose 0.x has it, too, behind ``keypoint_head.``.

    ``deconv_layers.0`` is a list of the transposed convolution and then the blocks, each within a list of its own.
    """
    bare = name.removeprefix("keypoint_head.")
    for theirs, ours in _HIGHER_WHOLE:
        if bare.startswith(theirs):
            return Place(f"grouping_head.{ours}{bare.removeprefix(theirs)}", tensor)
    if matched := _HIGHER_BLOCK.fullmatch(bare):
        return Place(f"grouping_head.blocks.{int(matched[1]) - 1}.{matched[2]}", tensor)
    return _backbone(name, tensor)


class _Mmpose:
    """mmpose's DEKR head: ``head.`` from version 1.0 on, ``keypoint_head.`` with the opposite signs before it."""

    _KEY = re.compile(
        r"(?:keypoint_)?head\.(heatmap|displacement|offset)_conv_layers\.(\d)\.(?:(conv|bn|norm)\.)?(.+)"
    )

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        # Before 1.0: location - joint, as ours, and the centre as the first heatmap.
        self._old = any(".offset_conv_layers." in name for name in tensors)
        last = [int(m[2]) for m in map(self._KEY.fullmatch, tensors) if m and m[1] != "heatmap"]
        self._final = max(last, default=0)

    def __call__(self, name: str, tensor: Tensor) -> Place | None:
        matched = self._KEY.fullmatch(name)
        if not matched:
            return _backbone(name, tensor)
        head, layer, module, rest = matched[1], int(matched[2]), matched[3], matched[4]
        if layer == 0:
            ours = "heatmap_head" if head == "heatmap" else "offset_head"
            return Place(f"{ours}.transition.{0 if module == 'conv' else 1}.{rest}", tensor)
        if head == "heatmap":
            if layer == 1:
                return Place(f"heatmap_head.block.{rest}", tensor)
            return Place(f"heatmap_head.final.{rest}", tensor.roll(-1, 0) if self._old else tensor)
        if layer == self._final:
            return Place(f"offset_head.final.{rest}", tensor if self._old else -tensor)
        block = f"offset_head.blocks.{layer - 1}."
        if rest.startswith("transform_matrix_conv."):
            kind = rest.removeprefix("transform_matrix_conv.")
            return Place(f"{block}sampling.affine.{kind}", _affine_of_mmpose(tensor, kind == "bias"))
        if module == "norm":
            return Place(f"{block}bn.{rest}", tensor)
        return Place(block + rest, tensor) if rest == "adapt_conv.weight" else None


def _affine_of_mmpose(tensor: Tensor, bias: bool) -> Tensor:
    """Rows of [A - 1 | t], (6K, ...) a00 a01 t_y a10 a11 t_x, as ours: a00 a01 a10 a11 t_y t_x, A itself."""
    six = tensor.reshape(-1, 6, *tensor.shape[1:])[:, [0, 1, 3, 4, 2, 5]].clone()
    if bias:
        # mmpose adds the map to the regular grid; ours replaces it.
        six[:, [0, 3]] += 1.0
    return six.reshape(tensor.shape)
