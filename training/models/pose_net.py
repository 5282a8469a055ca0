"""Any network of the zoo, told apart by ``config.decoding``."""

from __future__ import annotations

from typing import TypeAlias

from training.models.grouping_net import GroupingNet
from training.models.offset_net import OffsetNet

PoseNet: TypeAlias = OffsetNet | GroupingNet
