"""Which row of an earlier run a row of this one stands for: by content, else by role; a name alone says nothing.

A name depends on what else was measured: of two INT8 models each has its file in it, of one neither.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from benchmarks.schema import ModelResult

Pair = tuple[ModelResult, ModelResult]  # the earlier row, the row of now


@dataclass(frozen=True)
class RowPairs:
    """What belongs together, in the order of now; the earlier rows and those of now that belong to none."""

    pairs: list[Pair]
    gone: list[ModelResult]
    new: list[ModelResult]


def role(model: ModelResult) -> tuple[Hashable, ...]:
    """What a model is, whatever its weights: network, form, precision, how it got it, input size."""
    return (model.network, model.kind, model.precision, model.stage, model.input_size)


# From the surest to the loosest. The same bytes come first, since a file may have been renamed; of two models in one
# role the file tells which is which.
_SIGNS: tuple[Callable[[ModelResult], Hashable], ...] = (
    lambda model: (model.sha256, model.file),
    lambda model: model.sha256,
    lambda model: (role(model), model.file),
    role,
)


def pair_rows(earlier: Sequence[ModelResult], now: Sequence[ModelResult]) -> RowPairs:
    """Pair rows by each sign in turn, where it fits exactly one row that is left of either run."""
    gone, new = list(earlier), list(now)
    found: dict[str, ModelResult] = {}
    for sign in _SIGNS:
        for model in list(new):
            olds = [old for old in gone if sign(old) == sign(model)]
            if len(olds) == 1 and sum(sign(other) == sign(model) for other in new) == 1:
                found[model.name] = olds[0]
                gone.remove(olds[0])
                new.remove(model)
    pairs = [(found[model.name], model) for model in now if model.name in found]
    return RowPairs(pairs, gone, new)
