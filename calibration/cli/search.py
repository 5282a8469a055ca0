"""`samkr-edge search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from samkr_edge.cli.options import AsJson, Split, out_file, word
from samkr_edge.cli.places import file_to_write
from samkr_edge.cli.protocol import Anyway
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from calibration.analysis.scoring import Bench
    from calibration.analysis.search import SearchStep
    from calibration.analysis.sensitivity import Sensitivity
    from calibration.analysis.start import Analysis
    from calibration.analysis.trials import TrialStore


def search(
    checkpoint: Checkpoint,
    data: Data,
    out: Annotated[Path | None, out_file("Policy to write (YAML) [default: found.yaml].")] = None,
    max_drop: Annotated[float, typer.Option(min=0.0, help="AP points that may be lost against FP32.")] = 0.5,
    min_int8: Annotated[
        float, typer.Option(min=0, max=100, help="Minimum share of multiply-accumulates in INT8, percent.")
    ] = 50.0,
    policy: PolicyName = "default",
    split: Split = "val",
    limit: Annotated[
        int | None, typer.Option(min=2, help="Images that the budget is judged on [default: all].")
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
    """Find the policy with the most INT8 within an AP budget.

    Ranks groups by AP lost per work saved (as `sensitivity` measures it; put both in one folder and it is reused),
    restores the costliest until the budget holds on the whole split, undoes what was not needed, and quantizes again
    by the policy it wrote, as proof. Exit code 6 if no policy with enough INT8 meets the budget.

    After a kill the same command resumes where it stopped.

    Examples:

      samkr-edge search fp32/final.pt --data people --max-drop 0.5 -o found.yaml

      samkr-edge quantize fp32/final.pt --data people --policy found.yaml -o ptq.pt
    """
    from calibration.analysis.scoring import Bench
    from calibration.analysis.search import found_policy, policy_text
    from calibration.analysis.search import search as find
    from calibration.analysis.start import Analysis
    from calibration.analysis.trials import TrialStore
    from calibration.inputs import warn_if_meaningless
    from calibration.policy import load_policy
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.files.artefact import replacing

    out = out or _default_place()
    analysis = Analysis.of(
        checkpoint, data, policy, images, seed, threads, split=split,
        calibrator=word(calibrator), bits=bits, activation_bits=activation_bits,
    )  # fmt: skip
    dataset = open_dataset(data, split)
    whole = Bench(dataset, limit)
    learned = whole.unseen_by({str(checkpoint): analysis.card}, anyway=anyway)
    store = TrialStore(out.parent / "trials.json")
    trials = analysis.trials(whole, store)
    base = trials.measured(analysis.chosen, f"policy {analysis.policy.name}")
    warn_if_meaningless(base.baseline_ap)
    results: list[Sensitivity] = []
    if -base.difference.ap.difference > max_drop:
        few = Bench(dataset, min(rank_images, len(whole.images)))
        results = _ranked(analysis, few, store, max_drop)
    found = find(trials, results, analysis.chosen, analysis.macs, max_drop, min_int8 / 100)
    written = found_policy(analysis.policy, out.stem, found, max_drop)
    with replacing(out) as temporary:
        temporary.write_text(policy_text(written), encoding="utf-8")
    proof = analysis.score(load_policy(str(out)), whole)
    enough = found.best.macs_share >= min_int8 / 100
    within = found.within and enough and base.baseline_ap - proof <= max_drop
    metric = "train-fit AP" if learned["trained_on"] else "AP"
    if not base.baseline_ap > max_drop:
        raise _nothing_to_lose(max_drop, base.baseline_ap, len(whole.images), out, checkpoint, data)
    if not within:
        raise _over_budget(max_drop, min_int8, found.best, out, checkpoint, data)
    difference = found.best.trial.difference.ap
    payload = {
        "policy": str(out),
        "within_budget": within,
        "max_drop": max_drop,
        "restored": list(found.best.restored),
        "int8_macs_share": found.best.macs_share,
        "difference": [difference.difference, difference.low, difference.high],
        "final_ap": proof,
        "fp32_ap": base.baseline_ap,
        "images": len(whole.images),
        **learned,
        **analysis.context,
        "steps": [step.to_dict() for step in found.steps],
    }
    emit(
        payload,
        f"{out}: {difference.text()} {metric} against FP32 on {counted(len(whole.images), 'image')}, "
        f"budget {max_drop:g}; "
        f"{100 * found.best.macs_share:.1f} % of the work in INT8; restored: "
        f"{', '.join(found.best.restored) or 'nothing'}\nquantized again by the written policy: {proof:.2f} {metric}",
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


def _ranked(analysis: Analysis, bench: Bench, store: TrialStore, max_drop: float) -> list[Sensitivity]:
    """What each group of modules that the policy quantizes loses, alone in INT8."""
    from calibration.analysis.sensitivity import analyse
    from samkr_edge.terminal import say

    say(f"over the budget of {max_drop:g} AP: ranking the groups on {counted(len(bench.images), 'image')}")
    groups = {g: m for g, m in analysis.groups.items() if analysis.chosen & set(m)}
    return analyse(analysis.trials(bench, store), groups, analysis.chosen, analysis.macs, restore=False)


def _nothing_to_lose(
    max_drop: float, fp32_ap: float, images: int, written: Path, checkpoint: Path, data: Path
) -> SamkrError:
    return SamkrError(
        "SE-Q83",
        f"no policy could lose more than {max_drop:g} AP here, so passing the budget would prove nothing",
        {"FP32": f"{fp32_ap:.1f} AP on {counted(images, 'image')}", "written": f"{written}, untested"},
        fix=f"samkr-edge eval {quoted(checkpoint)} --data {quoted(data)}   "
        "# a network must find people to be judged by AP",
    )


def _over_budget(
    max_drop: float, min_int8: float, best: SearchStep, written: Path, checkpoint: Path, data: Path
) -> SamkrError:

    return SamkrError(
        "SE-Q82",
        f"no policy loses at most {max_drop:g} AP with at least {min_int8:g} % of the work in INT8",
        {
            "best": f"{best.trial.difference.ap.text()} AP, {100 * best.macs_share:.1f} % in INT8",
            "restored": ", ".join(best.restored) or "nothing",
            "written": f"{written}, although it misses the budget",
        },
        fix=f"samkr-edge quantize {quoted(checkpoint)} --policy {quoted(written)} --data {quoted(data)} -o ptq.pt && "
        f"samkr-edge qat ptq.pt --data {quoted(data)} -o qat.pt   # or allow less INT8: --min-int8",
    )
