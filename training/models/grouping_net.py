"""The networks whose tags say which joints belong together: HigherHRNet and SWAHR.

Sources: Cheng et al., "HigherHRNet", CVPR 2020; Luo et al., "Rethinking the Heatmap Regression for Bottom-up Human Pose
Estimation" (SWAHR), CVPR 2021; tags: Newell et al., "Associative Embedding", 2017. A joint's tag should be like those
of the same person's other joints, and unlike everybody else's; only differences of tags mean anything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.config import ModelConfig
from training.models.execution import widened, without_autocast
from training.models.heads import ScaleBranch, initialise
from training.models.hrnet import BasicBlock, HRNet
from training.models.sums import ChannelConcat


class GroupingHead(nn.Module):
    """Features (N, C, h, w) at stride 4 -> heatmaps at strides 4 and 2, and tags at stride 4.

    Under autocast the last convolution of both resolutions stays in float32: tags are compared by their distances.

    Args:
        width: C.
        keypoints: K.
        blocks: basic blocks at stride 2.
        scale_branch: whether each heatmap gets SWAHR's ``ScaleBranch``, for training only.
    """

    def __init__(self, width: int, keypoints: int, blocks: int, scale_branch: bool) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.final_low = nn.Conv2d(width, 2 * keypoints, 1)
        self.concat = ChannelConcat(2)
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(width + 2 * keypoints, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(BasicBlock(width) for _ in range(blocks)))
        self.final_high = nn.Conv2d(width, keypoints, 1)
        self.scale_low = ScaleBranch(width, keypoints) if scale_branch else None
        self.scale_high = ScaleBranch(width, keypoints) if scale_branch else None
        self.upsample = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)

    def begin_silent(self) -> None:
        """Let heatmaps and scales begin at 0, as the papers' initialisation does; tags keep their weights and differ.

        From heatmaps as high as a peak at every pixel a network learns to be silent, and then nothing for hundreds of
        updates. Tags that begin at 0 are alike, which pushes nobody apart: exp(-d^2) is flat there.
        """
        tags = self.final_low.weight.detach()[self.keypoints :].clone()
        for last in (self.final_low, self.final_high, self.scale_low, self.scale_high):
            if last is not None:
                initialise(last)
        with torch.no_grad():
            self.final_low.weight[self.keypoints :] = tags

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmap (N, K, 2h, 2w), the mean of both resolutions', and tag (N, K, h, w)."""
        low, tag, features = self._first(x)
        return 0.5 * (self.upsample(low) + _exactly(self.final_high, features)), tag

    def forward_training(self, x: Tensor) -> dict[str, Tensor]:
        """``heatmap_low`` and ``tag`` (N, K, h, w), ``heatmap`` (N, K, 2h, 2w); SWAHR's ``scale_low`` and ``scale``."""
        low, tag, features = self._first(x)
        maps = {"heatmap_low": low, "tag": tag, "heatmap": _exactly(self.final_high, features)}
        if self.scale_low is not None and self.scale_high is not None:
            maps |= {"scale_low": self.scale_low(x), "scale": self.scale_high(features)}
        return maps

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Heatmap and tag (N, K, h, w) at stride 4, and features (N, C, 2h, 2w) at stride 2."""
        both = _exactly(self.final_low, x)
        features = self.blocks(self.deconv(self.concat([x, both.to(x.dtype)])))
        return both[:, : self.keypoints], both[:, self.keypoints :], features


def _exactly(layer: nn.Conv2d, x: Tensor) -> Tensor:
    with without_autocast(x):
        y: Tensor = layer(widened(x))
        return y


class GroupingNet(nn.Module):
    """Normalised image float (N, 3, H, W) -> heatmap (N, K, H/2, W/2), tag (N, K, H/4, W/4).

    Pixel i of a map at stride s covers input pixels s * i to s * (i + 1): its middle is at input pixel s * (i + 0.5).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = HRNet(
            config.width,
            config.stem_channels,
            config.bottlenecks,
            config.stage_modules,
            config.blocks,
            first_only=True,
        )
        self.grouping_head = GroupingHead(
            config.width, config.keypoints, config.deconv_blocks, config.scale_branch
        )
        if not config.default_init:
            initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps: tuple[Tensor, Tensor] = self.grouping_head(self.backbone(image))
        return maps

    def forward_training(self, image: Tensor) -> dict[str, Tensor]:
        """Image (N, 3, H, W) -> the maps (N, K, h, w) that the loss needs; see ``GroupingHead.forward_training``."""
        return self.grouping_head.forward_training(self.backbone(image))

    def drop_scale_branches(self) -> None:
        """Remove SWAHR's branches, which only its loss uses."""
        self.grouping_head.scale_low = self.grouping_head.scale_high = None

    @property
    def scale_branches(self) -> list[nn.Module]:
        """SWAHR's, for training only; empty where there are none."""
        both = (self.grouping_head.scale_low, self.grouping_head.scale_high)
        return [branch for branch in both if branch is not None]
