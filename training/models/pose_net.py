"""The whole network: HRNet backbone, heatmap head, offset head. SAMKR and its baseline DEKR are configs of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor, nn

from training.models.adaptive_conv import AffineSampling
from training.models.heads import HeatmapHead, OffsetHead, initialise
from training.models.hrnet import HRNet


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a network's structure.

    Attributes:
        name: zoo name.
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
        scale_branch: SWAHR's branch during training.
        offset_scale: constant on the offset output; small networks learn large offsets faster with 8.
        default_init: torch's own initialisation, for training from scratch, in place of DEKR's N(0, 0.001).
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Inverse of ``to_dict``; raises TypeError on unknown fields."""
        known = {field.name for field in fields(cls)}
        if unknown := set(data) - known:
            raise TypeError(f"unknown model fields {sorted(unknown)}")
        values = dict(data)
        for name in ("input_size", "stage_modules"):
            values[name] = tuple(values[name])
        return cls(**values)


class PoseNet(nn.Module):
    """Normalised image float (N, 3, H, W) -> heatmap (N, K+1, H/4, W/4), offset (N, 2K, H/4, W/4).

    Map pixel i is centred on input pixel 4 i; offset = location - joint in map pixels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = HRNet(
            config.width, config.stem_channels, config.bottlenecks, config.stage_modules, config.blocks
        )
        self.heatmap_head = HeatmapHead(
            self.backbone.channels, config.width, config.keypoints, config.scale_branch
        )
        self.offset_head = OffsetHead(
            self.backbone.channels,
            config.keypoints,
            config.channels,
            groups=config.groups,
            adaptive_blocks=config.adaptive_blocks,
            deformable=config.deformable,
            identity=config.identity_init,
            single_branch=config.single_branch,
            scale=config.offset_scale,
        )
        if config.default_init:
            for module in self.modules():
                if isinstance(module, AffineSampling):
                    module.initialise()
        else:
            initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        return self.heatmap_head(features), self.offset_head(features)

    def forward_training(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Heatmap (N, K+1, h, w), offset (N, 2K, h, w), and SWAHR's scale map where the configuration has it."""
        features = self.backbone(image)
        heatmap, scale = self.heatmap_head.forward_training(features)
        return heatmap, self.offset_head(features), scale
