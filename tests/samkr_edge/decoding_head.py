"""The end of a network that decodes itself, from features on, as ONNX; for the tests of CPU builds."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from samkr_edge.pose.decode_settings import DecodeSettings
from training import export
from training.models.adaptive_conv import AffineSampling
from training.models.decode_graph import DecodeGraph
from training.models.heads import OffsetHead

KEYPOINTS, CHANNELS = 3, 4


class Head(nn.Module):
    """Features (N, 5, h, w) -> candidates of P people, and the offset map (N, 2K, h, w) if ``maps``."""

    def __init__(
        self,
        blocks: int,
        hw: tuple[int, int],
        people: int,
        *,
        groups: int,
        single: bool,
        maps: bool,
        scale: float,
    ) -> None:
        super().__init__()
        self.maps = maps
        self.heat = nn.Conv2d(5, KEYPOINTS + 1, 1)
        self.offset = OffsetHead(
            5,
            KEYPOINTS,
            CHANNELS,
            groups=groups,
            adaptive_blocks=blocks,
            deformable=True,
            identity=True,
            single_branch=single,
            scale=scale,
        )
        self.decode = DecodeGraph(DecodeSettings(max_people=people), KEYPOINTS, 4, hw)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        offset = self.offset(x)
        found = self.decode(self.heat(x), offset)
        return (*found, offset) if self.maps else found


def exported(
    path: Path,
    *,
    blocks: int = 1,
    hw: tuple[int, int] = (12, 16),
    people: int = 6,
    batch: int = 1,
    groups: int = 0,
    single: bool = False,
    maps: bool = False,
    scale: float = 1.0,
) -> onnx.ModelProto:
    """A head whose taps lie up to many pixels away, beyond the map's border, too."""
    torch.manual_seed(blocks)
    head = Head(blocks, hw, people, groups=groups, single=single, maps=maps, scale=scale).eval()
    for module in head.modules():
        if isinstance(module, AffineSampling):
            nn.init.normal_(module.affine.weight, std=0.3)
            nn.init.normal_(module.affine.bias, std=1.5)
    names = ("poses", "scores", *(["offset"] if maps else []))
    with torch.no_grad():
        export._export(head, torch.zeros(batch, 5, *hw), path, 17, names)
    model = onnx.load(path)
    export._bypass_no_ops(model)
    return model
