"""`samkr-edge search`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.analysed import analysed
from calibration.cli.options import (
    ActivationBits,
    Bits,
    Calibrator,
    Checkpoint,
    Data,
    Images,
    PolicyName,
    Seed,
    Threads,
)
from samkr_edge.cli.options import SPLIT, AsJson, Split, out_file, word
from samkr_edge.cli.photos import PhotoWords
from samkr_edge.cli.places import file_to_write
from samkr_edge.cli.protocol import Anyway
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from calibration.analysis.budget import LossBudget
    from calibration.analysis.judge import Judge
    from calibration.analysis.scoring import Bench, Measured
    from calibration.analysis.search import SearchResult, SearchStep
    from calibration.analysis.sensitivity import Sensitivity
    from calibration.analysis.start import Analysis
    from calibration.analysis.trials import Trial, TrialStore

_MAX_DROP = 0.5  # AP points


def search(
    checkpoint: Checkpoint,
    data: Data = None,
    photos: PhotoWords = None,
    out: Annotated[Path | None, out_file("Policy to write (YAML) [default: found.yaml].")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="AP points that may be lost against FP32 [default: 0.5 without --max-moved]."
        ),
    ] = None,
    max_moved: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="PX",
            help="With --photos: pixels of the picture within which 95 % of FP32's joints must be found.",
        ),
    ] = None,
    min_int8: Annotated[
        float, typer.Option(min=0, max=100, help="Minimum share of multiply-accumulates in INT8, percent.")
    ] = 50.0,
    policy: PolicyName = "default",
    split: Split = SPLIT,
    limit: Annotated[
        int | None,
        typer.Option(min=2, help="Images that the budget is judged on [default: all, or 200 photos]."),
    ] = None,
    anyway: Anyway = False,
    rank_images: Annotated[int, typer.Option(min=2, help="Images that groups are ranked on.")] = 200,
    calibrator: Calibrator = None,
    images: Images = 128,
    bits: Bits = None,
    activation_bits: ActivationBits = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Find the policy with the most INT8 within a budget: of AP, or of pixels by which joints move.

    Ranks groups by AP lost per work saved (as `sensitivity` measures it; put both in one folder and it is reused),
    restores the costliest until the budget holds on the whole split, undoes what was not needed, and quantizes again
    by the policy it wrote, as proof. Exit code 6 if no policy with enough INT8 meets the budget.

    With --photos some pictures calibrate, others judge, by the people that the FP32 network finds on them; for
    --max-moved the joints of lost people count as not found.

    After a kill the same command resumes where it stopped.

    Examples:

      samkr-edge search fp32/final.pt --data people --max-drop 0.5 -o found.yaml

      samkr-edge search fp32/final.pt --photos my_pictures --max-moved 4

      samkr-edge quantize fp32/final.pt --data people --policy found.yaml -o ptq.pt
    """
    from calibration.analysis.budget import LossBudget
    from calibration.analysis.search import found_policy, policy_text
    from calibration.analysis.search import search as find
    from calibration.analysis.trials import TrialStore
    from calibration.inputs import warn_if_meaningless
    from calibration.policy import load_policy
    from samkr_edge.files.artefact import replacing
    from samkr_edge.files.yaml_file import is_own

    if max_moved is not None and not photos:
        raise _without_reference()
    if out is not None and not is_own(out.name):
        raise typer.BadParameter(
            f"a policy is read from a file whose name ends in .yaml, and {out.name!r} does not"
        )
    out = out or _default_place()
    with analysed(
        checkpoint, data, photos, policy=policy, split=split, limit=limit, anyway=anyway, images=images, seed=seed,
        threads=threads, calibrator=word(calibrator), bits=bits, activation_bits=activation_bits,
    ) as (analysis, judge):  # fmt: skip
        points = _MAX_DROP if max_drop is None and max_moved is None else max_drop
        budget = LossBudget(points, max_moved, judge.metric, judge.against_fp32)
        store = TrialStore(out.parent / "trials.json")
        trials = analysis.trials(judge.bench, store)
        base = trials.measured(analysis.chosen, f"policy {analysis.policy.name}")
        warn_if_meaningless(base.baseline_ap)
        results = [] if budget.holds(base) else _ranked(analysis, judge.few(rank_images), store, budget)
        found = find(trials, results, analysis.chosen, analysis.macs, budget, min_int8 / 100)
        written = found_policy(analysis.policy, out.stem, found, budget)
        with replacing(out) as temporary:
            temporary.write_text(policy_text(written), encoding="utf-8")
        proof = analysis.score(load_policy(str(out)), judge.bench)
    enough = found.best.macs_share >= min_int8 / 100
    if points is not None and not base.baseline_ap > points:
        raise _nothing_to_lose(budget, base.baseline_ap, len(judge.bench.images), out, checkpoint, data)
    if not (found.within and enough and budget.proved(base.baseline_ap, proof)):
        raise _over_budget(budget, min_int8, found.best, out, checkpoint, data, photos)
    _report(out, analysis, judge, budget, base, found, proof, as_json)


def _report(
    out: Path,
    analysis: Analysis,
    judge: Judge,
    budget: LossBudget,
    base: Trial,
    found: SearchResult,
    proof: Measured,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from samkr_edge.cli.console import emit

    best, images = found.best, len(judge.bench.images)
    difference = best.trial.difference.ap
    payload = {
        "policy": str(out),
        "within_budget": True,
        "max_drop": budget.points,
        "max_moved": budget.pixels,
        "restored": list(best.restored),
        "int8_macs_share": best.macs_share,
        "difference": [difference.difference, difference.low, difference.high],
        "final_ap": proof.ap,
        "final_followed": asdict(proof.followed) if proof.followed else None,
        "fp32_ap": base.baseline_ap,
        **judge.facts,
        **analysis.context,
        "steps": [step.to_dict() for step in found.steps],
    }
    proved = f"{proof.ap:.2f} {judge.metric}" + (f", {proof.followed}" if proof.followed else "")
    emit(
        payload,
        f"{out}: {budget.lost(best.trial)} on {counted(images, 'image')}, budget {budget}; "
        f"{100 * best.macs_share:.1f} % of the work in INT8; restored: {', '.join(best.restored) or 'nothing'}\n"
        f"quantized again by the written policy: {proved}",
        as_json,
    )


def _default_place() -> Path:
    """found.yaml, in which only a policy that `search` wrote and nobody edited may be replaced."""
    from calibration.analysis.search import is_untouched
    from samkr_edge.files.own_files import refuse_foreign

    out = Path("found.yaml")
    file_to_write(out)
    refuse_foreign([out], made=is_untouched)
    return out


def _ranked(analysis: Analysis, bench: Bench, store: TrialStore, budget: LossBudget) -> list[Sensitivity]:
    """What each group of modules that the policy quantizes loses, alone in INT8."""
    from calibration.analysis.sensitivity import analyse
    from samkr_edge.terminal import say

    say(f"over the budget of {budget}: ranking the groups on {counted(len(bench.images), 'image')}")
    groups = {g: m for g, m in analysis.groups.items() if analysis.chosen & set(m)}
    return analyse(analysis.trials(bench, store), groups, analysis.chosen, analysis.macs, restore=False)


def _without_reference() -> SamkrError:
    return SamkrError(
        "SE-U12",
        "--max-moved needs --photos, on which joints are compared with FP32's, so nothing was done",
        fix="run the same command with --photos DIR in place of --data, or with --max-drop in place of --max-moved",
    )


def _nothing_to_lose(
    budget: LossBudget, fp32_ap: float, images: int, written: Path, checkpoint: Path, data: Path | None
) -> SamkrError:
    fix = "run the same command with --max-drop 0.5   # FP32 itself has 100 AP against FP32"
    if data is not None:
        fix = (
            f"samkr-edge eval {quoted(checkpoint)} --data {quoted(data)}   "
            "# a network must find people to be judged by AP"
        )
    return SamkrError(
        "SE-Q83",
        f"no policy could lose more than {budget.points:g} {budget.metric} here, so passing the budget would prove "
        "nothing",
        {
            "FP32": f"{fp32_ap:.1f} {budget.metric} on {counted(images, 'image')}",
            "written": f"{written}, untested",
        },
        fix=fix,
    )


def _over_budget(
    budget: LossBudget,
    min_int8: float,
    best: SearchStep,
    written: Path,
    checkpoint: Path,
    data: Path | None,
    photos: list[str] | None,
) -> SamkrError:
    given = [word for path in photos or () for word in ("--photos", path)] or ["--data", str(data)]
    teach = "DIR" if data is None else str(data)  # labels, which QAT learns from
    return SamkrError(
        "SE-Q82",
        f"no policy keeps the budget of {budget} with at least {min_int8:g} % of the work in INT8",
        {
            "best": f"{budget.lost(best.trial)}, {100 * best.macs_share:.1f} % in INT8",
            "restored": ", ".join(best.restored) or "nothing",
            "written": f"{written}, although it misses the budget",
        },
        fix=f"samkr-edge quantize {quoted(checkpoint)} --policy {quoted(written)} {shlex.join(given)} -o ptq.pt && "
        f"samkr-edge qat ptq.pt --data {quoted(teach)} -o qat.pt   # or allow less INT8: --min-int8",
    )
