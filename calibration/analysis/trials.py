"""Measurements of quantized variants of one network; each is made once, and on disk at once.

A trial is keyed by a digest of all that decides it (weights, policy, calibration images, evaluated images, the modules
in INT8). So an interrupted analysis resumes, a later one reuses what fits, and a trial of other inputs is never
mistaken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.analysis.scoring import (
    Bench,
    Difference,
    Followed,
    MapRecorder,
    Maps,
    Measured,
    error_fields,
)
from calibration.analysis.switches import Switches
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import read_json, write_json
from samkr_edge.fixes import quoted
from samkr_edge.model_card import ModelCard
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner
from training.without_attention import without_attention

SCHEMA_VERSION = 1
Modules = frozenset[str]
FLOAT: Modules = frozenset()


@dataclass(frozen=True)
class Trial:
    """One variant of the network against a baseline variant.

    Attributes:
        ap, oks: of the variant: AP in 0..100, mean OKS in 0..1.
        difference: variant minus baseline.
        map_errors: relative L2 error of each of the variant's maps against the float network's.
        followed: how it follows the people of the reference; None on labelled images.
    """

    ap: float
    oks: float
    difference: Difference
    map_errors: dict[str, float]
    followed: Followed | None = None

    @property
    def baseline_ap(self) -> float:
        """AP of the baseline."""
        return self.ap - self.difference.ap.difference

    def to_dict(self) -> dict[str, Any]:
        return {
            "ap": self.ap,
            "oks": self.oks,
            "difference": self.difference.to_dict(),
            **error_fields(self.map_errors),
            "followed": asdict(self.followed) if self.followed else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        followed = data.get("followed")
        errors = {name.removesuffix("_error"): data[name] for name in data if name.endswith("_error")}
        if "heatmap" not in errors:
            raise KeyError("heatmap_error")
        return cls(
            data["ap"],
            data["oks"],
            Difference.from_dict(data["difference"]),
            errors,
            None if followed is None else Followed(**followed),
        )


class TrialStore:
    """Trials in a JSON file, rewritten after each.

    Raises:
        SamkrError: SE-D80 not a file of trials.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trials: dict[str, Any] = {}
        if path.is_file():
            try:
                content = read_json(path, "file of trials")
            except SamkrError as error:
                raise self._foreign() from error
            trials = content.get("trials") if isinstance(content, dict) else None
            if not isinstance(trials, dict) or content.get("schema_version") != SCHEMA_VERSION:
                raise self._foreign()
            self._trials = trials

    def get(self, key: str) -> Trial | None:
        found = self._trials.get(key)
        try:
            return None if found is None else Trial.from_dict(found["trial"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._foreign() from error

    def put(self, key: str, what: str, trial: Trial) -> None:
        self._trials[key] = {"what": what, "trial": trial.to_dict()}
        write_json(self.path, {"schema_version": SCHEMA_VERSION, "trials": self._trials})

    def _foreign(self) -> SamkrError:
        return SamkrError(
            "SE-D80",
            f"{self.path} holds no trials of this version, so it was not touched",
            fix=f"mv {quoted(self.path)} {quoted(f'{self.path}.old')}   # everything is then measured again",
        )


class Trials:
    """Variants of one network on one bench.

    Args:
        switches: makes the calibrated network; called once, when the first trial has to be measured.
        card: of the float network.
        bench: the images.
        store: keeps finished trials.
        context: content hashes of everything that decides a trial except the bench and the modules.
        report: called for each new trial with its name and result.
    """

    def __init__(
        self,
        switches: Callable[[], Switches],
        card: ModelCard,
        bench: Bench,
        store: TrialStore,
        context: dict[str, Any],
        *,
        report: Callable[[str, Trial], None] | None = None,
    ) -> None:
        self.bench = bench
        self._switches = switches
        self._card = card
        self._store = store
        self._context = json.dumps({**context, "images": bench.digest}, sort_keys=True)
        self._report = report
        self._baselines: dict[Modules, Measured] = {}
        self._float_maps: Maps | None = None

    def measured(self, modules: Modules, what: str, baseline: Modules = FLOAT) -> Trial:
        """The variant with these modules in INT8, against the one with ``baseline`` in INT8."""
        parts = (*sorted(modules), "against", *sorted(baseline))
        return self._once(
            parts, what, baseline, lambda before: before if modules == baseline else self._run(modules)
        )

    def without_attention(self) -> Trial:
        """The float network with its attention left out, against the whole one."""
        what = "without attention"
        return self._once(
            (what, "against"),
            what,
            FLOAT,
            lambda _: self._score(without_attention(self._switches().use(FLOAT))),
        )

    def _once(
        self, parts: tuple[str, ...], what: str, baseline: Modules, run: Callable[[Measured], Measured]
    ) -> Trial:
        """The stored trial of this key; else what ``run``, given the baseline, measures, against that baseline."""
        key = hashlib.sha256("\n".join((self._context, *parts)).encode()).hexdigest()
        known = self._store.get(key)
        if known is not None:
            return known
        before = self._baseline(baseline)
        now = run(before)
        difference = self.bench.compare(before, now)
        trial = Trial(now.ap, now.oks, difference, now.map_errors, now.followed)
        self._store.put(key, what, trial)
        if self._report:
            self._report(what, trial)
        return trial

    def _baseline(self, modules: Modules) -> Measured:
        if modules not in self._baselines:
            self._baselines[modules] = self._run(modules)
        return self._baselines[modules]

    def _run(self, modules: Modules) -> Measured:
        if modules and self._float_maps is None:
            self._baseline(FLOAT)
        return self._score(self._switches().use(modules), keep=not modules)

    def _score(self, network: PoseNet, *, keep: bool = False) -> Measured:
        recorder = MapRecorder(TorchRunner(network, self._card), self._float_maps, keep=keep)
        measured = self.bench.run(recorder)
        if keep:
            self._float_maps = recorder.kept
        return measured
