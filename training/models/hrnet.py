"""HRNet, the backbone of all networks here.

Paper: Sun et al., Deep High-Resolution Representation Learning, CVPR 2019. Parameter names are those of the official
code (HRNet/DEKR), so that its weights load by name. Stride of every output: 4 (branch 0), 8, 16, 32.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from training.models.sums import ChannelConcat, ResidualAdd, ResolutionSum


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias (padding keeps the size at stride 1) and its batch normalisation."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)
        self.add = ResidualAdd()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.add(self.bn2(self.conv2(y)), x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with expansion 4: (N, C, H, W) -> (N, 4 * M, H, W)."""

    def __init__(self, inputs: int, middle: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.conv1, self.bn1 = conv_bn(inputs, middle, 1)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(middle, middle, 3)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3, self.bn3 = conv_bn(middle, outputs, 1)
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1)) if inputs != outputs else None
        self.add = ResidualAdd()
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        return self.relu3(self.add(self.bn3(self.conv3(y)), skip))


class FuseModule(nn.Module):
    """One HRNet module: ``blocks`` basic blocks on every branch, then every branch receives all the others.

    Branch i has ``channels[i]`` channels at stride 4 * 2^i. Branch j > i reaches output i through a 1x1 convolution and
    nearest up-sampling, branch j < i through (i - j) strided 3x3 convolutions, all but the last with a ReLU.
    ``first_only`` leaves out the other outputs.
    """

    def __init__(self, channels: Sequence[int], blocks: int, *, first_only: bool = False) -> None:
        super().__init__()
        count = len(channels)
        outputs = 1 if first_only else count
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(channels, source, target) for source in range(count))
            for target in range(outputs)
        )
        self.sums = nn.ModuleList(ResolutionSum(count) for _ in range(outputs))
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in range(outputs))

    @staticmethod
    def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            up = nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest")
            return nn.Sequential(*conv_bn(channels[source], channels[target], 1), up)
        steps: list[nn.Module] = []
        for step in range(source, target):
            last = step == target - 1
            outputs = channels[target] if last else channels[source]
            layers = conv_bn(channels[source], outputs, 3, stride=2)
            steps.append(nn.Sequential(*layers, *([] if last else [nn.ReLU(inplace=True)])))
        return nn.Sequential(*steps)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branch i (N, C_i, H / 2^i, W / 2^i) -> same shapes, or only the first."""
        branches = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        fused = []
        for paths, add, relu in zip(self.fuse_layers, self.sums, self.relus, strict=True):
            terms = [path(x) for path, x in zip(paths, branches, strict=True)]  # type: ignore[call-overload]
            fused.append(relu(add(terms)))
        return fused


class HRNet(nn.Module):
    """(N, 3, H, W) normalised image -> (N, 15 * C, H / 4, W / 4): four branches, resized and concatenated.

    With ``first_only`` the last module gives its stride-4 branch alone: (N, C, H / 4, W / 4), as HigherHRNet has it.

    Args:
        width: channels of the stride-4 branch; 32 and 48 in the papers, 18 for small devices.
        stem: channels of the two stem convolutions and inside the bottlenecks; 64 in the papers.
        bottlenecks: blocks of ``layer1``; 4 in the papers.
        modules: fuse modules of stages 2, 3 and 4; (1, 4, 3) in the papers.
        blocks: basic blocks per branch and module; 4 in the papers.
    """

    def __init__(
        self,
        width: int,
        stem: int,
        bottlenecks: int,
        modules: tuple[int, int, int],
        blocks: int,
        *,
        first_only: bool = False,
    ) -> None:
        super().__init__()
        channels = [width * 2**i for i in range(4)]
        self.conv1, self.bn1 = conv_bn(3, stem, 3, stride=2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_bn(stem, stem, 3, stride=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(
            *(Bottleneck(stem if i == 0 else 4 * stem, stem) for i in range(bottlenecks))
        )
        self.transition1 = nn.ModuleList(
            [_transition(4 * stem, channels[0], 1), nn.Sequential(_transition(4 * stem, channels[1], 2))]
        )
        self.stage2 = nn.Sequential(*(FuseModule(channels[:2], blocks) for _ in range(modules[0])))
        self.transition2 = _new_branch(channels, 2)
        self.stage3 = nn.Sequential(*(FuseModule(channels[:3], blocks) for _ in range(modules[1])))
        self.transition3 = _new_branch(channels, 3)
        self.stage4 = nn.Sequential(
            *(
                FuseModule(channels, blocks, first_only=first_only and index == modules[2] - 1)
                for index in range(modules[2])
            )
        )
        self.first_only = first_only
        self.channels = width if first_only else sum(channels)
        if not first_only:
            self.upsamples = nn.ModuleList(
                nn.Upsample(scale_factor=float(2**i), mode="bilinear", align_corners=False)
                for i in range(1, 4)
            )
            self.concat = ChannelConcat(4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(image)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        y = self.stage2([transition(x) for transition in self.transition1])
        y = self.stage3([*y, self.transition2[2](y[-1])])
        y = self.stage4([*y, self.transition3[3](y[-1])])
        if self.first_only:
            first: Tensor = y[0]
            return first
        resized = [up(branch) for up, branch in zip(self.upsamples, y[1:], strict=True)]
        return self.concat([y[0], *resized])


def _transition(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True))


def _new_branch(channels: Sequence[int], index: int) -> nn.ModuleList:
    """The transition that adds branch ``index`` from the last one; existing branches pass through."""
    existing = [nn.Identity() for _ in range(index)]
    return nn.ModuleList([*existing, nn.Sequential(_transition(channels[index - 1], channels[index], 2))])
