"""Which part of the network does INT8 hurt? Each group alone in INT8, and each alone restored to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from calibration.analysis.groups import Group
from calibration.analysis.trials import FLOAT, Modules, Trial, Trials


@dataclass(frozen=True)
class Sensitivity:
    """One group of layers.

    Attributes:
        group: its name and patterns.
        modules: names of its modules.
        in_policy: those that the policy has in INT8.
        macs_share: share of the network's multiply-accumulates in it, 0..1.
        alone: the whole group in INT8 and all else float, against the float network.
        restored: the policy with this group float, against the policy; None if the policy has it float anyway.
    """

    group: Group
    modules: Modules
    in_policy: Modules
    macs_share: float
    alone: Trial
    restored: Trial | None

    @property
    def distinguishable(self) -> bool:
        """Whether the loss in INT8 is more than the choice of images explains."""
        return self.alone.difference.worse

    def to_dict(self) -> dict[str, Any]:
        return {
            "group": self.group.name,
            "patterns": list(self.group.patterns),
            "modules": len(self.modules),
            "modules_in_policy": len(self.in_policy),
            "macs_share": self.macs_share,
            "distinguishable": self.distinguishable,
            "alone": self.alone.to_dict(),
            "restored": self.restored.to_dict() if self.restored else None,
        }


def analyse(
    trials: Trials,
    groups: Mapping[Group, list[str]],
    policy: Modules,
    macs: Mapping[str, int],
    *,
    restore: bool = True,
    done: Callable[[str], None] | None = None,
) -> list[Sensitivity]:
    """Measure every group; ``ranked`` sorts the result.

    Args:
        trials: measures, and remembers what it has measured.
        groups: all modules that could be INT8, by group.
        policy: the modules that the policy has in INT8.
        macs: multiply-accumulates by convolution name.
        restore: also measure each group restored from the policy.
        done: called with the name of each finished group.
    """
    total = max(sum(macs.values()), 1)
    found = []
    for group, members in groups.items():
        modules = frozenset(members)
        inside = modules & policy
        found.append(
            Sensitivity(
                group,
                modules,
                inside,
                sum(macs.get(module, 0) for module in modules) / total,
                trials.measured(modules, f"only {group.name}", FLOAT),
                trials.measured(policy - modules, f"policy without {group.name}", policy)
                if restore and inside
                else None,
            )
        )
        if done:
            done(group.name)
    return found


def ranked(results: list[Sensitivity]) -> list[Sensitivity]:
    """Groups whose loss exceeds the noise first, by AP lost; then the others, by mean OKS lost."""

    def place(result: Sensitivity) -> tuple[bool, float]:
        difference = result.alone.difference
        loss = difference.ap if result.distinguishable else difference.oks
        return not result.distinguishable, loss.difference

    return sorted(results, key=place)


def conclusion(results: list[Sensitivity], images: int) -> str:
    """The table's result in words, and its limits."""
    standing = [r.group.name for r in ranked(results) if r.distinguishable]
    rest = len(results) - len(standing)
    first = (
        f"{', '.join(standing)} stand out from the noise of {images} images"
        if standing
        else f"no group stands out from the noise of {images} images"
    )
    chance = round(0.05 * len(results) + 0.5)
    return (
        f"{first}; the other {rest} are indistinguishable, and so is their order. "
        f"Intervals are 95 % each: about {chance} of {len(results)} groups would stand out by chance."
    )
