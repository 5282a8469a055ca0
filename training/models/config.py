"""What decides a network's structure. SAMKR, DEKR, HigherHRNet and SWAHR are configurations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from samkr_edge.model_card import DECODINGS


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a network's structure.

    Attributes:
        name: zoo name.
        decoding: ``offsets``: ``OffsetNet``; ``grouping``: ``GroupingNet``, to which the fields from ``channels`` to
            ``single_branch`` and ``offset_scale`` mean nothing.
        keypoints: K.
        input_size: (height, width) in pixels, multiples of 32.
        width: HRNet width C; the stride-4 branch's channels.
        stem_channels, bottlenecks, stage_modules, blocks: see ``HRNet``.
        channels: c, channels per keypoint branch (272 in Table 1's single branch).
        groups: g, subspaces per branch; 0 leaves the attention out (DEKR).
        adaptive_blocks: adaptive convolutions per branch; 2 fits the paper's printed numbers.
        deformable: False puts plain 3x3 convolutions in their place (``_nodc``).
        identity_init: adaptive convolutions start as plain 3x3 ones; False is the official start (all taps centred).
        single_branch: one branch for all keypoints (Table 1, first row).
        scale_branch: SWAHR's branch during training, one for each resolution of the heatmap.
        offset_scale: constant on the offset output; small networks learn large offsets faster with 8.
        default_init: torch's own initialisation, for training from scratch, in place of DEKR's N(0, 0.001).
        deconv_blocks: basic blocks at stride 2 (``grouping``); 4 in the papers.
    """

    name: str
    keypoints: int = 17
    input_size: tuple[int, int] = (512, 512)
    width: int = 32
    stem_channels: int = 64
    bottlenecks: int = 4
    stage_modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    channels: int = 16
    groups: int = 8
    adaptive_blocks: int = 2
    deformable: bool = True
    identity_init: bool = False
    single_branch: bool = False
    scale_branch: bool = False
    offset_scale: float = 1.0
    default_init: bool = False
    decoding: str = "offsets"
    deconv_blocks: int = 4

    @property
    def stride(self) -> int:
        """Input pixels per pixel of the heatmap that is deployed."""
        return 4 if self.decoding == "offsets" else 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values; those of grouping only where there is some: the files of other networks stay what they were."""
        grouped = () if self.decoding == "grouping" else ("decoding", "deconv_blocks")
        return {name: value for name, value in asdict(self).items() if name not in grouped}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Inverse of ``to_dict``; raises TypeError on unknown fields, ValueError on an unknown decoding."""
        known = {field.name for field in fields(cls)}
        if unknown := set(data) - known:
            raise TypeError(f"unknown model fields {sorted(unknown)}")
        values = dict(data)
        for name in ("input_size", "stage_modules"):
            values[name] = tuple(values[name])
        if values.get("decoding", "offsets") not in DECODINGS:
            raise ValueError(f"decoding {values['decoding']!r}, this version knows {' and '.join(DECODINGS)}")
        return cls(**values)
