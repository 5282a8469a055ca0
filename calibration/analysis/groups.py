"""Architectural units of the network: the rows of a sensitivity table, and what a search restores together.

There are hundreds of layers, and one of them says little; a stage at one resolution is something that a person can
reason about and a policy can name in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Group:
    """A unit: its name, and globs on module names as in a policy (``*`` matches dots too)."""

    name: str
    patterns: tuple[str, ...]


def _stage(number: int) -> tuple[Group, ...]:
    """The branches of a stage by resolution, and its fuse layers with the sums at their ends."""
    stage = f"backbone.stage{number}.*"
    branches = (
        Group(f"stage{number} stride {4 * 2**i}", (f"{stage}.branches.{i}.*",)) for i in range(number)
    )
    return (*branches, Group(f"stage{number} fuse", (f"{stage}.fuse_layers.*", f"{stage}.sums.*")))


GROUPS: tuple[Group, ...] = (
    Group("stem", ("backbone.conv1", "backbone.conv2")),
    Group("layer1", ("backbone.layer1.*",)),
    Group("transition1", ("backbone.transition1.*",)),
    *_stage(2),
    Group("transition2", ("backbone.transition2.*",)),
    *_stage(3),
    Group("transition3", ("backbone.transition3.*",)),
    *_stage(4),
    Group("heatmap transition", ("heatmap_head.transition.*",)),
    Group("heatmap block", ("heatmap_head.block.*",)),
    Group("heatmap final", ("heatmap_head.final",)),
    Group("offset transition", ("offset_head.transition.*",)),
    Group("adaptive offsets", ("offset_head.blocks.*.sampling.*",)),
    Group("adaptive conv", ("offset_head.blocks.*.adapt_conv", "offset_head.blocks.*.add")),
    Group("attention", ("offset_head.attention.*",)),
    Group("offset final", ("offset_head.final",)),
    Group("tags and heatmap", ("grouping_head.final_low",)),
    Group("deconvolution", ("grouping_head.deconv.*",)),
    Group("stride 2 blocks", ("grouping_head.blocks.*",)),
    Group("stride 2 heatmap", ("grouping_head.final_high",)),
)


def group_modules(modules: Iterable[str]) -> dict[Group, list[str]]:
    """Every module in its group, without groups that the network does not have.

    Raises:
        ValueError: a module belongs to no group or to two.
    """
    members: dict[Group, list[str]] = {group: [] for group in GROUPS}
    for module in modules:
        homes = [g for g in GROUPS if any(fnmatchcase(module, pattern) for pattern in g.patterns)]
        if len(homes) != 1:
            raise ValueError(f"{module} is in {len(homes)} groups")
        members[homes[0]].append(module)
    return {group: found for group, found in members.items() if found}
