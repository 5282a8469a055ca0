"""The networks whose offsets lead from a person's centre to the joints: SAMKR and its baseline DEKR."""

from __future__ import annotations

from torch import Tensor, nn

from training.models.adaptive_conv import AffineSampling
from training.models.config import ModelConfig
from training.models.heads import HeatmapHead, OffsetHead, initialise
from training.models.hrnet import HRNet


class OffsetNet(nn.Module):
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

    def forward_training(self, image: Tensor) -> dict[str, Tensor]:
        """``heatmap`` (N, K+1, h, w), ``offset`` (N, 2K, h, w), and with SWAHR ``scale`` (N, K+1, h, w)."""
        features = self.backbone(image)
        maps = self.heatmap_head.forward_training(features)
        return {**maps, "offset": self.offset_head(features)}

    def drop_scale_branches(self) -> None:
        """Remove SWAHR's branch, which only its loss uses."""
        self.heatmap_head.scale = None

    @property
    def scale_branches(self) -> list[nn.Module]:
        """SWAHR's, for training only; empty where there are none."""
        return [] if self.heatmap_head.scale is None else [self.heatmap_head.scale]
