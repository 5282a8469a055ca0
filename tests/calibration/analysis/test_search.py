"""The search: restores what is dearest, stops at the budget, gives back what was needless, writes why."""

from pathlib import Path

import pytest
import yaml

from calibration.analysis.budget import LossBudget
from calibration.analysis.groups import Group
from calibration.analysis.scoring import Difference
from calibration.analysis.search import (
    SearchResult,
    found_policy,
    is_untouched,
    order_of_restoring,
    policy_text,
    search,
)
from calibration.analysis.sensitivity import Sensitivity, conclusion, ranked
from calibration.analysis.trials import FLOAT, Modules, Trial
from calibration.policy import load_policy
from samkr_edge.evaluation.scores import Interval

# What INT8 in each group costs, AP, and its share of the work; costs add up.
COSTS = {"stem": 0.1, "layer1": 2.0, "stage4": 1.0, "head": 0.6}
SHARES = {"stem": 0.1, "layer1": 0.4, "stage4": 0.4, "head": 0.1}
ALL = frozenset(COSTS)


def trial(loss: float, noise: float = 0.05) -> Trial:
    def around(value: float) -> Interval:
        return Interval(value, value - noise, value + noise)

    return Trial(
        50 - loss, 0.8 - loss / 100, Difference(around(-loss), around(-loss / 100)), {"heatmap": 0.1}
    )


class Additive:
    """Stands for ``Trials``: losses add up."""

    def __init__(self) -> None:
        self.asked: list[Modules] = []

    def measured(self, modules: Modules, what: str, baseline: Modules = FLOAT) -> Trial:
        self.asked.append(modules)
        return trial(sum(COSTS[m] for m in modules))


def results(noise: float = 0.05) -> list[Sensitivity]:
    return [
        Sensitivity(Group(n, (n,)), frozenset({n}), frozenset({n}), SHARES[n], trial(COSTS[n], noise), None)
        for n in COSTS
    ]


def run(max_drop: float, min_share: float = 0.0, ranking: list[Sensitivity] | None = None) -> SearchResult:
    macs = {name: int(1000 * share) for name, share in SHARES.items()}
    return search(Additive(), ranking or results(), ALL, macs, LossBudget(max_drop), min_share)  # type: ignore[arg-type]


def test_the_dearest_per_work_comes_first_and_noise_comes_last() -> None:
    assert [r.group.name for r in order_of_restoring(results())] == ["head", "layer1", "stage4", "stem"]
    # By AP alone layer1 is the most sensitive: a sensitivity table ranks it first.
    assert ranked(results())[0].group.name == "layer1"
    drowned = {r.group.name: r for r in results(noise=0.7)}
    assert not drowned["head"].distinguishable
    mixed = [drowned["head"], *(r for r in results() if r.group.name != "head")]
    assert order_of_restoring(mixed)[-1].group.name in {"head", "stem"}
    assert "head" in conclusion(results(), 100)
    assert "head" not in conclusion(mixed, 100).split(";")[0]


def test_a_policy_within_the_budget_is_left_alone() -> None:
    found = run(max_drop=4.0)
    assert (found.within, found.restored, found.modules) == (True, (), ALL)
    assert len(found.steps) == 1


def test_groups_are_restored_until_the_budget_holds_and_needless_ones_return() -> None:
    # 3.7 lost. head (0.6), then layer1 (2.0): 1.1 is left; head was needless for a budget of 2.
    found = run(max_drop=2.0)
    assert found.within
    assert [r.group.name for r in found.restored] == ["layer1"]
    assert found.modules == ALL - {"layer1"}
    assert [step.what for step in found.steps] == [
        "the base policy",
        "head restored",
        "layer1 restored",
        "head back in INT8",
    ]
    assert found.best.trial.difference.ap.difference == pytest.approx(-1.7)


def test_an_impossible_budget_gives_the_best_that_keeps_enough_int8() -> None:
    found = run(max_drop=0.05, min_share=0.5)
    assert not found.within
    assert found.best.macs_share >= 0.5
    # head and layer1 may go (half the work stays); the rest may not.
    assert set(found.best.restored) == {"head", "layer1"}


def test_the_policy_says_why_and_reads_back(tmp_path: Path) -> None:
    base, found = load_policy("default"), run(max_drop=2.0)
    policy = found_policy(base, "found", found, LossBudget(2.0))
    path = tmp_path / "found.yaml"
    path.write_text(policy_text(policy))
    assert load_policy(str(path)) == policy
    first = yaml.safe_load(path.read_text())["rules"][0]
    assert (first["match"], first["precision"]) == ("layer1", "float")
    assert "-2.00 [-2.05, -1.95]" in first["why"]
    assert policy.rules[1:] == base.rules
    assert is_untouched(path)
    path.write_text(path.read_text() + "# and what I think\n")
    assert not is_untouched(path)
