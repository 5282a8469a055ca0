"""Does a built model compute what its source does? Judged on probe images, in people and joints, maps, known faults.

How large the error of a correct build may be depends on its precision. FP32 and FP16 have bounds of their own. After
INT8 layers, one value rounded the other way changes everything behind it, so a correct runtime's error is about the
graph's own quantization error. That error, measured on the same images, sets the bound. If the builder chose the INT8
itself, there is no float network to measure it with, and people and joints decide. Known faults are found by the shape
of the error, far below these bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from samkr_edge.builder.check.faults import LEAST_CHANGE, explains, is_seen, narrow_type, project, tiles
from samkr_edge.builder.check.keypoint_errors import strange_keypoints
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import stay
from samkr_edge.builder.check.seen_people import People, Staying
from samkr_edge.builder.check.suspects import Suspect
from samkr_edge.model_card import ModelCard

# Relative L2 error of a map, and the largest error of an offset as a share of the largest offset. Correct builds of
# trained and untrained networks: FP32 4e-7 and 0 (builds clear TF32, which rounds like FP16), FP16 2e-3 and, at a few
# pixels far from all people, 0.022.
FLOAT_BOUNDS = {"fp32": (2e-3, 0.01), "fp16": (5e-3, 0.05)}
# ONNX files without probe images are judged on noise, where errors are larger: FP16 sums alone cause 5e-3.
ON_NOISE = 3.0
# Input pixels that the joints of clear people may move in float builds, or this share of the person's diagonal.
FLOAT_JOINTS = {"fp32": (0.25, 0.0025), "fp16": (0.5, 0.005)}
# INT8: multiples of the quantization error; correct builds have up to 1.8. The error of an all-zero output is 1.
QUANTIZATION_ERRORS, LEAST_ALLOWED, MOST_ALLOWED = 3.5, 0.02, 0.9
# INT8 chosen by the builder: there is no quantization error to compare with.
IMPLICIT_ALLOWED = 0.5
# INT8: median move of a joint as a share of the person's diagonal (correct builds: 0.004); share of people lost.
INT8_JOINTS, INT8_LOST = 0.03, 0.25


class Reference(NamedTuple):
    """What a built model is judged by.

    Attributes:
        maps: of the source.
        unquantized: of the source without its quantizers; None where it has none.
        people: whom the source sees clearly.
        suspects: known faults; empty if only exactness is checked.
        probe: what the images are, in words.
        on_noise: the images are noise, without people.
    """

    maps: Maps
    unquantized: Maps | None
    people: People
    suspects: Sequence[Suspect]
    probe: str
    on_noise: bool = False

    def by_quantizing(self, card: ModelCard) -> Staying | None:
        """What the source's own quantization does to its people; None for a float source."""
        return stay(self.people, self.unquantized, card) if self.unquantized is not None else None


@dataclass(frozen=True)
class Agreement:
    """How close a built model is to its source.

    Attributes:
        probe: what they were compared on.
        maps: names of the heatmap and of the offset or tag.
        errors, allowed: relative L2 errors of both maps.
        largest, largest_allowed: largest error of an offset, map pixels, or of a tag; the bound is None for INT8.
        people, kept, least_kept: people whom the source sees clearly, how many stay, and how many must.
        joints_median, joints_largest: how far their joints move, input pixels.
        joints_allowed: bound of the largest move in float models, of the median in INT8.
        faults: known faults whose shape the error has; in INT8 also keypoints that are computed wrongly.
    """

    precision: str
    probe: str
    maps: tuple[str, str]
    errors: tuple[float, float]
    allowed: tuple[float, float]
    largest: float
    largest_allowed: float | None
    people: int
    kept: int
    least_kept: int
    joints_median: float
    joints_largest: float
    joints_allowed: float
    faults: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """False also if anything is NaN."""
        moved = self.joints_largest if self.precision in FLOAT_BOUNDS else self.joints_median
        return (
            not self.faults
            and all(error <= bound for error, bound in zip(self.errors, self.allowed, strict=True))
            and (self.largest_allowed is None or self.largest <= self.largest_allowed)
            and self.kept >= self.least_kept
            and moved <= self.joints_allowed
        )

    def to_dict(self) -> dict[str, Any]:
        """For passports and ``--json``: errors as shares, largest in map pixels, joints in input pixels."""
        heatmap, association = (
            {"error": error, "allowed": bound} for error, bound in zip(self.errors, self.allowed, strict=True)
        )
        return {
            "holds": self.holds,
            "precision": self.precision,
            "probe": self.probe,
            self.maps[0]: heatmap,
            self.maps[1]: {**association, "largest": self.largest, "largest_allowed": self.largest_allowed},
            "people": {"seen": self.people, "kept": self.kept, "least_kept": self.least_kept},
            "joints": {
                "median": self.joints_median,
                "largest": self.joints_largest,
                "allowed": self.joints_allowed,
            },
            "faults": list(self.faults),
        }

    def sentence(self) -> str:
        """The result in one line."""
        return "; ".join([*self._people(), self._maps()])

    def facts(self) -> dict[str, object]:
        """Lines for an error message, named faults first."""
        facts: dict[str, object] = {"fault": [f"it computes as if {fault}" for fault in self.faults]}
        facts |= {
            name: f"relative error {error:.1e}, allowed {bound:.1e}"
            for name, error, bound in zip(self.maps, self.errors, self.allowed, strict=True)
        }
        if self.largest_allowed is not None:
            unit = "map pixels in an offset" if self.maps[1] == "offset" else f"in a {self.maps[1]}"
            facts["largest"] = f"{self.largest:.2g} {unit}, allowed {self.largest_allowed:.2g}"
        if self.people:
            which = "largest" if self.precision in FLOAT_BOUNDS else "median"
            facts["people"] = f"{self.kept} of {self.people} stay, needed {self.least_kept}"
            facts["joints"] = (
                f"move median {self.joints_median:.2g}, largest {self.joints_largest:.2g} px, allowed "
                f"{which} {self.joints_allowed:.2g}"
            )
        return {**facts, "judged on": self.probe}

    def _people(self) -> list[str]:
        if not self.people:
            return [f"{self.probe}, on which the source detects nobody clearly"]
        lines = [f"on {self.probe} people {self.kept} of {self.people} stay"]
        if self.kept:
            lines.append(f"joints move median {self.joints_median:.2f}, largest {self.joints_largest:.2f} px")
        return lines

    def _maps(self) -> str:
        heatmap, association = (
            f"{name} {error:.0e} of {bound:.0e}"
            for name, error, bound in zip(self.maps, self.errors, self.allowed, strict=True)
        )
        return f"relative error {heatmap}, {association} allowed"


def judge(reference: Reference, found: Maps, card: ModelCard, precision: str) -> Agreement:
    """Compare the maps of a built model with its source's.

    Args:
        precision: what the built model computes in: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
    """
    staying = stay(reference.people, found, card)
    by_quantizing = reference.by_quantizing(card)
    agreement = judge_pairs(reference, found, staying, by_quantizing, card.maps, precision)
    if agreement.faults or precision in FLOAT_BOUNDS:
        return agreement
    strange = strange_keypoints(reference.maps, reference.unquantized, found, card)
    return replace(agreement, faults=tuple(strange))


def judge_pairs(
    reference: Reference,
    found: Maps,
    staying: Staying,
    by_quantizing: Staying | None,
    names: tuple[str, str],
    precision: str,
) -> Agreement:
    """The bounds and known faults of ``judge``, given what became of the people; also for a few pixels of maps."""
    source, unquantized = reference.maps, reference.unquantized
    errors = _errors(source, found)
    largest_allowed = None
    if precision in FLOAT_BOUNDS:
        bound, share = (ON_NOISE**reference.on_noise * limit for limit in FLOAT_BOUNDS[precision])
        allowed = (bound, bound)
        largest_allowed = share * float(np.abs(source.association).max(initial=0.0))
    elif unquantized is not None:
        noise = _errors(source, unquantized)
        allowed = (_beside(noise[0]), _beside(noise[1]))
    else:
        allowed = (IMPLICIT_ALLOWED, IMPLICIT_ALLOWED)
    least_kept, joints_allowed = _allowed_of_people(reference.people, precision, by_quantizing)
    return Agreement(
        precision=precision,
        probe=reference.probe,
        maps=names,
        errors=errors,
        allowed=allowed,
        largest=float(np.abs(found.association - source.association).max(initial=0.0)),
        largest_allowed=largest_allowed,
        people=staying.people,
        kept=staying.kept,
        least_kept=least_kept,
        joints_median=staying.median,
        joints_largest=staying.largest,
        joints_allowed=joints_allowed,
        faults=_faults(reference, found, allowed, names),
    )


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """L2 norm of the difference of two arrays of any shape, as a share of the expected one's."""
    return float(np.linalg.norm(expected - found) / max(float(np.linalg.norm(expected)), 1e-12))


def _errors(expected: Maps, found: Maps) -> tuple[float, float]:
    heatmap, association = (relative_error(a, b) for a, b in zip(expected, found, strict=True))
    return heatmap, association


def _beside(noise: float) -> float:
    return min(LEAST_ALLOWED + QUANTIZATION_ERRORS * noise, MOST_ALLOWED)


def _allowed_of_people(people: People, precision: str, by_quantizing: Staying | None) -> tuple[int, float]:
    """How many must stay, and how far joints may move: the largest move in float models, the median in INT8."""
    diagonal = people.diagonals
    size = float(np.median(diagonal)) if len(diagonal) else 0.0
    if precision in FLOAT_JOINTS:
        pixels, share = FLOAT_JOINTS[precision]
        return len(people), max(pixels, share * size) + people.grain
    # People with a single joint have no size: INT8 gets FP16's bound in pixels.
    lost, moved = int(INT8_LOST * len(people)), max(FLOAT_JOINTS["fp16"][0], INT8_JOINTS * size, people.grain)
    if by_quantizing is not None:
        lost = max(lost, 2 * (by_quantizing.people - by_quantizing.kept))
        moved = max(moved, QUANTIZATION_ERRORS * by_quantizing.median)
    return len(people) - min(lost, len(people)), moved


def _faults(
    reference: Reference, found: Maps, allowed: tuple[float, float], names: tuple[str, str]
) -> tuple[str, ...]:
    """The suspect that explains most of the error, and any maps computed in a narrow type."""
    source = reference.maps
    sizes = [max(float(np.linalg.norm(maps)), 1e-12) for maps in source]
    shares: dict[str, float] = {}
    for suspect in reference.suspects:
        count = len(suspect.change.heatmap)
        error = tiles([b[:count] - a[:count] for a, b in zip(source, found, strict=True)])
        change = tiles(suspect.change)
        strength = sum(float(np.linalg.norm(d)) / size for d, size in zip(change, sizes, strict=True))
        if strength < LEAST_CHANGE:
            continue
        beta, spread = project(error, change, sizes)
        may_be = [
            bound * float(np.linalg.norm(maps[:count])) for bound, maps in zip(allowed, source, strict=True)
        ]
        if is_seen(beta, spread) and explains(beta, error, change, may_be):
            shares[suspect.words] = beta * strength
    faults = [max(shares, key=lambda words: shares[words])] if shares else []
    for name, expected, maps in zip(names, source, found, strict=True):
        narrow = narrow_type(expected, maps)
        if narrow:
            faults.append(f"the last operation of the {name} were in {narrow}")
    return tuple(faults)
