"""Named networks: the paper's, those it compares with, the rows of its ablation tables, small ones, and the demo's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from samkr_edge.network_name import unknown_network
from training.models.config import ModelConfig

if TYPE_CHECKING:
    from training.models.pose_net import PoseNet

_W32 = ModelConfig("samkr_w32", scale_branch=True)
_W48 = ModelConfig("samkr_w48", width=48, input_size=(640, 640))
# For small devices, and of no paper: the heads are W32's, the heatmaps' as wide as the backbone, as in W32's and W48's.
_W18 = replace(_W32, name="samkr_w18", width=18)
# Suffix of any name: one adaptive convolution per branch, as in the paper's text; its printed numbers imply two.
ONE_BLOCK = "_1block"
_DEKR: dict[str, Any] = {"channels": 15, "groups": 0, "scale_branch": False}
_GROUPING: dict[str, Any] = {"decoding": "grouping", "channels": 0, "groups": 0, "adaptive_blocks": 0}
_HIGHER_W32 = ModelConfig("higherhrnet_w32", **_GROUPING)
_HIGHER_W48 = ModelConfig("higherhrnet_w48", width=48, input_size=(640, 640), **_GROUPING)
# The demo's: the same classes, narrow enough to learn rendered people in minutes on two cores.
_TINY = ModelConfig(
    "samkr_tiny",
    input_size=(128, 128),
    width=16,
    stem_channels=32,
    bottlenecks=1,
    stage_modules=(1, 1, 1),
    blocks=2,
    channels=8,
    groups=4,
    adaptive_blocks=1,
    identity_init=True,
    offset_scale=8.0,
    default_init=True,
)

_ZOO: tuple[ModelConfig, ...] = (
    _W32,
    _W48,
    replace(_W32, name="dekr_w32", **_DEKR),
    replace(_W48, name="dekr_w48", **_DEKR),
    _W18,
    replace(_W18, name="dekr_w18", **_DEKR),
    replace(_W32, name="samkr_w32_nodc", deformable=False),
    replace(_W48, name="samkr_w48_nodc", deformable=False),
    replace(_W32, name="dekr_w32_nodc", deformable=False, **_DEKR),
    replace(_W48, name="dekr_w48_nodc", deformable=False, **_DEKR),
    # Tables 1 and 2 of the paper, named {g}_samkr_{c}; the last row's printed g=8 must be 12 (c = g * s = 12 * 2).
    replace(_W32, name="single_branch_272", channels=272, single_branch=True),
    replace(_W32, name="1_samkr_16", groups=1),
    replace(_W32, name="16_samkr_16", groups=16),
    replace(_W32, name="8_samkr_16"),
    replace(_W32, name="2_samkr_16", groups=2),
    replace(_W32, name="4_samkr_16", groups=4),
    replace(_W32, name="8_samkr_8", channels=8),
    replace(_W32, name="8_samkr_24", channels=24),
    replace(_W32, name="4_samkr_8", channels=8, groups=4),
    replace(_W32, name="12_samkr_24", channels=24, groups=12),
    _HIGHER_W32,
    _HIGHER_W48,
    replace(_HIGHER_W32, name="swahr_w32", scale_branch=True),
    replace(_HIGHER_W48, name="swahr_w48", scale_branch=True),
    _TINY,
    replace(_TINY, name="dekr_tiny", **{**_DEKR, "channels": 8}),
    replace(_TINY, name="swahr_tiny", scale_branch=True, deconv_blocks=1, **_GROUPING),
)


def model_names() -> list[str]:
    """Names of the zoo, in listing order."""
    return [config.name for config in _ZOO]


def model_config(name: str, keypoints: int = 17) -> ModelConfig:
    """The configuration of a zoo network for K keypoints; ``NAME_1block`` has one adaptive convolution per branch.

    Raises:
        SamkrError: SE-U01 no such name.
    """
    for config in _ZOO:
        # Networks that group joints have no adaptive convolution.
        if config.name == (name.removesuffix(ONE_BLOCK) if config.adaptive_blocks else name):
            blocks = 1 if name.endswith(ONE_BLOCK) else config.adaptive_blocks
            return replace(config, name=name, keypoints=keypoints, adaptive_blocks=blocks)
    raise unknown_network(name, model_names(), fix="samkr-edge models")


def build_model(config: ModelConfig) -> PoseNet:
    """A network with fresh weights."""
    # Here, so that names and structures are known without torch.
    from training.models.grouping_net import GroupingNet
    from training.models.offset_net import OffsetNet

    return GroupingNet(config) if config.decoding == "grouping" else OffsetNet(config)
