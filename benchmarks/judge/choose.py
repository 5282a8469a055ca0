"""Which models are worth having (the Pareto front), and which to take under a latency or an accuracy constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.judge.wording import milliseconds


@dataclass(frozen=True)
class Candidate:
    """One measured model.

    Attributes:
        name: unique among the candidates, with its run where there are several.
        p90: milliseconds; constraints are on the p90, as MLPerf counts a single stream.
        ap: 0..100.
        basis: the images and the protocol of its AP; only AP of one basis is comparable.
        stable: whether its times can be trusted.
        metric: what ``ap`` is called; the same for all of one basis.
    """

    name: str
    p90: float
    ap: float
    basis: str
    stable: bool = True
    metric: str = "AP"


@dataclass(frozen=True)
class Choice:
    """A recommendation: one sentence, and the model's name or None."""

    sentence: str
    name: str | None


def choose(
    candidates: Sequence[Candidate],
    *,
    max_latency: float | None = None,
    min_ap: float | None = None,
    left_out: Sequence[str] = (),
) -> Choice:
    """The most accurate model within a latency, the fastest above an AP, or both.

    Args:
        candidates: models with AP, all scored on the same images by the same protocol.
        max_latency: milliseconds that the p90 may reach.
        min_ap: AP that is needed. With ``max_latency`` too, the most accurate model that keeps both.
        left_out: names of measured models without AP; the sentence says that they were not considered.
    """
    if not candidates:
        return Choice(
            "Accuracy was not measured, so no model can be chosen: run bench with --data DIR.", None
        )
    if len({candidate.basis for candidate in candidates}) > 1:
        metrics = sorted({candidate.metric for candidate in candidates})
        return Choice(
            f"The runs have {' and '.join(metrics)}, so their models cannot be compared."
            if len(metrics) > 1
            else "The runs were scored on different images or by different protocols, so their models cannot be "
            f"compared by {metrics[0]}.",
            None,
        )
    metric = candidates[0].metric
    wanted = _constraint(max_latency, min_ap, metric)
    fitting = [
        candidate
        for candidate in candidates
        if (max_latency is None or candidate.p90 <= max_latency)
        and (min_ap is None or candidate.ap >= min_ap)
    ]
    if not fitting:
        fastest, best = min(candidates, key=lambda c: c.p90), max(candidates, key=lambda c: c.ap)
        return Choice(
            f"No measured model has {wanted}: the fastest is {_words(fastest)}, the most accurate {_words(best)}.",
            None,
        )
    if max_latency is None:
        taken = min(fitting, key=lambda c: (c.p90, -c.ap))
        rest = [c for c in candidates if c.p90 < taken.p90]
        why = f"; the next faster one is {_words(max(rest, key=lambda c: c.ap))}" if rest else ""
    else:
        taken = max(fitting, key=lambda c: (c.ap, -c.p90))
        rest = [c for c in candidates if c.ap > taken.ap]
        why = f"; a more accurate one is slower: {_words(min(rest, key=lambda c: c.p90))}" if rest else ""
    why += "" if taken.stable else "; its times are unstable"
    why += f"; not considered, AP unknown: {', '.join(left_out)}" if left_out else ""
    return Choice(
        f"Take {taken.name} for {wanted}: {taken.ap:.1f} {metric} at p90 {milliseconds(taken.p90)} ms{why}.",
        taken.name,
    )


def _constraint(max_latency: float | None, min_ap: float | None, metric: str) -> str:
    texts = [] if max_latency is None else [f"at most {max_latency:g} ms (p90)"]
    texts += [] if min_ap is None else [f"at least {min_ap:g} {metric}"]
    return " and ".join(texts)


def _words(candidate: Candidate) -> str:
    return f"{candidate.name} ({candidate.ap:.1f} {candidate.metric}, p90 {milliseconds(candidate.p90)} ms)"


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, AP) points that no other point dominates, fastest first.

    A point dominates another when it is at least as fast and at least as accurate, and better in one of the two.
    Of equal points all are kept.
    """
    kept = [
        index
        for index, (latency, ap) in enumerate(points)
        if not any(
            (other[0] <= latency and other[1] >= ap) and (other[0] < latency or other[1] > ap)
            for other in points
        )
    ]
    return sorted(kept, key=lambda index: points[index])


def budgets(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The models worth having, fastest first: each is the best for every budget from its own p90 to the next one's."""
    kept: list[Candidate] = []
    for index in front([(candidate.p90, candidate.ap) for candidate in candidates]):
        if not kept or candidates[index].ap > kept[-1].ap:
            kept.append(candidates[index])
    return kept
