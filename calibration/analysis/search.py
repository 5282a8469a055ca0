"""The fastest policy within a budget: undo INT8 where it costs most AP for the least work saved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from calibration.analysis.budget import LossBudget
from calibration.analysis.sensitivity import Sensitivity
from calibration.analysis.trials import FLOAT, Modules, Trial, Trials
from calibration.policy import Policy, Rule
from samkr_edge.printable import counted

# The first line of a written policy: a digest of the lines below, so that an edited policy is not taken for ours.
_MARK = "# written by samkr-edge search; sha256 of what follows: "


@dataclass(frozen=True)
class SearchStep:
    """One policy that was tried: the groups that it restores to float beyond the base policy, and its result."""

    what: str
    restored: tuple[str, ...]
    macs_share: float
    trial: Trial
    within: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "restored": list(self.restored),
            "int8_macs_share": self.macs_share,
            "within_budget": self.within,
            "trial": self.trial.to_dict(),
        }


@dataclass(frozen=True)
class SearchResult:
    """The end of a search.

    Attributes:
        restored: groups to keep float, in the order of restoring.
        modules: what is left in INT8.
        steps: everything tried, in order.
        best: the last policy within the budget; if there was none, the one that lost least.
    """

    restored: tuple[Sensitivity, ...]
    modules: Modules
    steps: tuple[SearchStep, ...]
    best: SearchStep

    @property
    def within(self) -> bool:
        return self.best.within


def order_of_restoring(results: Sequence[Sensitivity]) -> list[Sensitivity]:
    """Groups of the policy by AP lost per multiply-accumulate saved, the costliest first.

    Groups whose loss is below the noise come after all others, by mean OKS lost per multiply-accumulate.
    """

    def price(result: Sensitivity) -> tuple[bool, float]:
        difference = result.alone.difference
        loss = difference.ap if result.distinguishable else difference.oks
        return not result.distinguishable, loss.difference / max(result.macs_share, 1e-6)

    return sorted((r for r in results if r.in_policy), key=price)


def search(
    trials: Trials,
    results: Sequence[Sensitivity],
    policy: Modules,
    macs: Mapping[str, int],
    budget: LossBudget,
    min_share: float,
    *,
    done: Callable[[SearchStep], None] | None = None,
) -> SearchResult:
    """Restore groups until the budget holds on the images of ``trials``.

    Then each restored group is put back into INT8, the one with most work first, and stays there if the budget still
    holds: this undoes what the noise of the ranking restored needlessly.

    Args:
        trials: measures on the full split.
        results: the sensitivity of each group, measured on any images.
        policy: the modules that the base policy has in INT8.
        macs: multiply-accumulates by convolution name.
        budget: what may be lost.
        min_share: least share of multiply-accumulates in INT8, 0..1: below it a policy is not worth having.
        done: called after each step.
    """
    total = max(sum(macs.values()), 1)
    steps: list[SearchStep] = []

    def attempt(restored: Sequence[Sensitivity], what: str) -> SearchStep:
        modules = _without(policy, restored)
        trial = trials.measured(modules, what, FLOAT)
        names = tuple(r.group.name for r in restored)
        step = SearchStep(what, names, _share(modules, macs, total), trial, budget.holds(trial))
        steps.append(step)
        if done:
            done(step)
        return step

    kept: list[Sensitivity] = []
    best = attempt(kept, "the base policy")
    best_groups = list(kept)
    for result in order_of_restoring(results):
        if best.within:
            break
        if _share(_without(policy, [*kept, result]), macs, total) < min_share:
            continue
        kept.append(result)
        step = attempt(kept, f"{result.group.name} restored")
        if step.within or budget.loss(step.trial) < budget.loss(best.trial):
            best, best_groups = step, list(kept)
    if best.within:
        # The last one restored made the difference; any of the others may be needless.
        for result in sorted(best_groups[:-1], key=lambda r: -r.macs_share):
            fewer = [r for r in best_groups if r is not result]
            step = attempt(fewer, f"{result.group.name} back in INT8")
            if step.within:
                best, best_groups = step, fewer
    return SearchResult(tuple(best_groups), _without(policy, best_groups), tuple(steps), best)


def found_policy(base: Policy, name: str, found: SearchResult, budget: LossBudget) -> Policy:
    """The base policy, preceded by a rule for every restored group that gives the reason."""
    rules = []
    for result in found.restored:
        ap = result.alone.difference.ap
        why = (
            f"search: {result.group.name} alone in INT8 changed {budget.metric} by {ap.text()} "
            f"and is {100 * result.macs_share:.1f} % of the work"
        )
        if not result.distinguishable:
            why += "; below the noise by itself, needed for the budget"
        for pattern in result.group.patterns:
            rules.append(Rule(match=pattern, precision="float", why=why))
    about = (
        f"{base.name} with {counted(len(found.restored), 'group')} restored to float: "
        f"{budget.lost(found.best.trial)}, {100 * found.best.macs_share:.1f} % of the work in INT8; "
        f"the budget of {budget} {'holds' if found.within else 'does not hold'}."
    )
    return base.model_copy(update={"name": name, "about": about, "rules": (*rules, *base.rules)})


def policy_text(policy: Policy) -> str:
    """YAML that ``calibration.policy.load_policy`` reads back as the same policy, except its name."""
    content = policy.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return _marked(yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True))


def is_untouched(path: Path) -> bool:
    """Whether a file is a policy as `search` wrote it; False if it was edited since."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return text == _marked(text.partition("\n")[2])


def _marked(text: str) -> str:
    return f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def _without(policy: Modules, restored: Sequence[Sensitivity]) -> Modules:
    return policy.difference(*(result.modules for result in restored))


def _share(modules: Modules, macs: Mapping[str, int], total: int) -> float:
    return sum(macs.get(module, 0) for module in modules) / total
