"""The two heads: heatmaps of all keypoints and the person centre, and the offsets from every pixel to its joints.

Under autocast the last convolution of both stays in float32. What subspace attention adds is about 1 / (H*W) of a
feature, which half precision rounds away, and an offset of 30 pixels would come in steps of 1/8 (bfloat16).
"""

from __future__ import annotations

from torch import Tensor, nn

from training.models.adaptive_conv import AdaptiveBlock, AffineSampling
from training.models.execution import widened, without_autocast
from training.models.grouped_conv import GroupedPointwise
from training.models.hrnet import BasicBlock, conv_bn
from training.models.subspace_attention import SubspaceAttention


class ScaleBranch(nn.Sequential):
    """SWAHR's (Luo et al., CVPR 2021): features (N, C, h, w) -> (N, ``channels``, h, w), one map for each heatmap.

    It predicts how much each Gaussian of the target should be sharpened. Only the loss uses it; it is never exported.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 9, padding=4, groups=channels),
        )

    def initialise(self) -> None:
        """Nothing is sharpened at first: the last convolution is 0."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


class HeatmapHead(nn.Module):
    """(N, C, h, w) -> (N, K+1, h, w); the last channel is the person centre. No sigmoid, as in DEKR.

    ``scale_branch`` adds a ``ScaleBranch``, for training only.
    """

    def __init__(self, inputs: int, width: int, keypoints: int, scale_branch: bool) -> None:
        super().__init__()
        self.transition = nn.Sequential(*conv_bn(inputs, width, 1), nn.ReLU(inplace=True))
        self.block = BasicBlock(width)
        self.final = nn.Conv2d(width, keypoints + 1, 1)
        self.scale = ScaleBranch(width, keypoints + 1) if scale_branch else None

    def features(self, x: Tensor) -> Tensor:
        return self.block(self.transition(x))

    def forward(self, x: Tensor) -> Tensor:
        return self._heatmap(self.features(x))

    def forward_training(self, x: Tensor) -> dict[str, Tensor]:
        """Features (N, C, h, w) -> ``heatmap`` (N, K+1, h, w), and SWAHR's ``scale``, same shape, where it exists."""
        y = self.features(x)
        maps = {"heatmap": self._heatmap(y)}
        return maps if self.scale is None else {**maps, "scale": self.scale(y)}

    def _heatmap(self, y: Tensor) -> Tensor:
        with without_autocast(y):
            return self.final(widened(y))


class OffsetHead(nn.Module):
    """(N, C, h, w) -> (N, 2K, h, w), channels x0 y0 x1 y1 ..., value = location - joint in map pixels.

    One branch of ``channels`` channels per keypoint: ``adaptive_blocks`` adaptive convolutions, subspace attention
    (``groups`` subspaces; 0 leaves it out: DEKR), and a 1x1 convolution to the keypoint's two numbers. All branches
    are grouped operations. ``single_branch`` is Table 1's first row: one branch for all keypoints.
    """

    def __init__(
        self,
        inputs: int,
        keypoints: int,
        channels: int,
        *,
        groups: int,
        adaptive_blocks: int,
        deformable: bool,
        identity: bool,
        single_branch: bool,
        scale: float,
    ) -> None:
        super().__init__()
        branches = 1 if single_branch else keypoints
        total = branches * channels
        self.scale = scale
        self.transition = nn.Sequential(*conv_bn(inputs, total, 1), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            *(
                AdaptiveBlock(channels, branches, deformable=deformable, identity=identity)
                for _ in range(adaptive_blocks)
            )
        )
        self.attention = SubspaceAttention(channels, branches, groups) if groups else nn.Identity()
        self.final = GroupedPointwise(total, 2 * keypoints, 1, groups=branches)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.blocks(self.transition(x)))
        with without_autocast(y):
            offset = self.final(widened(y))
            return offset if self.scale == 1.0 else offset * self.scale


def initialise(module: nn.Module) -> None:
    """The papers' initialisation: convolutions N(0, 0.001), biases 0; the adaptive kernels keep torch's default."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d) and not name.endswith("adapt_conv"):
            nn.init.normal_(child.weight, std=0.001)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    for child in module.modules():
        if isinstance(child, AffineSampling | ScaleBranch):
            child.initialise()
