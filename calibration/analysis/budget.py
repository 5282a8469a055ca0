"""What a search may lose: AP, and pixels by which the joints of the FP32 network's people move."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from calibration.analysis.scoring import Followed, Measured
from calibration.analysis.trials import Trial


@dataclass(frozen=True)
class LossBudget:
    """Limits of what a policy may lose against FP32.

    Attributes:
        points: AP points (the point estimate); None: any number.
        pixels: of the photographs, within which 95 % of the joints of FP32's people must be found, those of lost people
            counting as not found; None: any distance.
        metric: what AP is called.
        against_fp32: whether that is AP against FP32's people.
    """

    points: float | None = None
    pixels: float | None = None
    metric: str = "AP"
    against_fp32: bool = False

    def holds(self, trial: Trial) -> bool:
        return self._holds(-trial.difference.ap.difference, trial.followed)

    def proved(self, fp32_ap: float, measured: Measured) -> bool:
        """Whether it holds for another measurement."""
        return self._holds(fp32_ap - measured.ap, measured.followed)

    def loss(self, trial: Trial) -> tuple[float, float]:
        """The less, the better."""
        reach = 0.0 if self.pixels is None else _reach(trial.followed)
        return reach, -trial.difference.ap.difference

    def lost(self, trial: Trial) -> str:
        """What a policy loses against FP32, in words."""
        ap = f"{trial.difference.ap.text()} {self.metric}" + ("" if self.against_fp32 else " against FP32")
        return ap if self.pixels is None or trial.followed is None else f"{trial.followed}, {ap}"

    def _holds(self, drop: float, followed: Followed | None) -> bool:
        few = self.points is None or drop <= self.points
        return few and (self.pixels is None or _reach(followed) <= self.pixels)

    def __str__(self) -> str:
        limits = [f"{self.pixels:g} px"] if self.pixels is not None else []
        limits += [f"{self.points:g} {self.metric}"] if self.points is not None else []
        return " and ".join(limits)


def _reach(followed: Followed | None) -> float:
    return inf if followed is None or followed.reach_px is None else followed.reach_px
