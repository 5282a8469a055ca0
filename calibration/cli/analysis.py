"""`samkr-edge sensitivity` and `samkr-edge search`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.places import file_to_write, folder_to_write
from samkr_edge.cli.protocol import Anyway
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.analysis.sensitivity import Sensitivity
    from calibration.analysis.trials import Trial

Checkpoint = Annotated[Path, typer.Argument(help="FP32 checkpoint.")]
Data = Annotated[
    Path, typer.Option(help="COCO or CrowdPose directory: train calibrates, the split below judges.")
]
Split = Annotated[str, typer.Option(help="Split that is evaluated.")]
PolicyName = Annotated[str, typer.Option("--policy", help="Name of a shipped policy, or a YAML file.")]
Calibrator = Annotated[
    str | None, typer.Option(help="max, entropy, percentile or mse, in place of the policy's.")
]
Images = Annotated[int, typer.Option(min=8, help="Calibration images.")]
Bits = Annotated[int | None, typer.Option(min=2, max=8, help="Bits of weights; below 8 for analysis only.")]
ActivationBits = Annotated[int | None, typer.Option(min=2, max=8, help="Bits of activations; likewise.")]
Seed = Annotated[int, typer.Option(help="Chooses the calibration images.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def sensitivity(
    checkpoint: Checkpoint,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for sensitivity.json, sensitivity.svg and the finished trials.",
            callback=folder_to_write,
        ),
    ] = Path("sensitivity"),
    policy: PolicyName = "default",
    split: Split = "val",
    limit: Annotated[int, typer.Option(min=2, help="Evaluate the first N images.")] = 200,
    anyway: Anyway = False,
    calibrator: Calibrator = None,
    images: Images = 128,
    bits: Bits = None,
    activation_bits: ActivationBits = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy lost by each group of layers when it alone is INT8, and won when it alone is restored.

    About 25 groups: the stem, each stage and resolution, fuse layers, the parts of the heads. Differences are
    paired, with 95 % intervals over images; mean OKS is the sharper signal. At 8 bits most groups drown in the noise:
    --bits 4 shows the order that they would have. The last row is the float network without its attention.

    After a kill the same command goes on where it was.

    Examples:

      samkr-edge sensitivity fp32/final.pt --data people

      samkr-edge sensitivity fp32/final.pt --data people --bits 4 --limit 400 --out sensitivity-w4
    """
    from rich.console import Group

    from calibration.analysis.chart import sensitivity_chart
    from calibration.analysis.scoring import Bench
    from calibration.analysis.sensitivity import analyse, conclusion, ranked
    from calibration.analysis.start import Analysis, interval
    from calibration.analysis.trials import TrialStore
    from calibration.inputs import warn_if_meaningless
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.files.artefact import replacing, write_json
    from samkr_edge.files.ours import refuse_foreign

    results_path, chart = out / "sensitivity.json", out / "sensitivity.svg"
    refuse_foreign(
        [results_path, chart], made=lambda _: _is_sensitivity(results_path), fix="choose another --out"
    )
    analysis = Analysis.of(
        checkpoint, data, policy, images, seed, threads, split=split,
        calibrator=calibrator, bits=bits, activation_bits=activation_bits,
    )  # fmt: skip
    bench = Bench(open_dataset(data, split), limit)
    learned = bench.unseen_by({str(checkpoint): analysis.card}, anyway=anyway)
    trials = analysis.trials(bench, TrialStore(out / "trials.json"))
    whole = trials.measured(analysis.chosen, f"policy {analysis.policy.name}")
    warn_if_meaningless(whole.baseline_ap)
    results = ranked(analyse(trials, analysis.groups, analysis.chosen, analysis.macs))
    left_out = trials.without_attention() if analysis.network.config.groups else None
    text = conclusion(results, len(bench.images))
    payload = {
        "checkpoint": checkpoint.name,
        "data": data.name,
        "split": split,
        "images": len(bench.images),
        "images_digest": bench.digest,
        **learned,
        **analysis.context,
        "policy": analysis.policy.model_dump(mode="json"),
        "fp32_ap": whole.baseline_ap,
        "policy_trial": whole.to_dict(),
        "groups": [result.to_dict() for result in results],
        "without_attention": left_out.to_dict() if left_out else None,
        "conclusion": text,
    }
    write_json(results_path, payload)
    numbers = "INT8" if analysis.policy.bits == 8 else f"{analysis.policy.bits}-bit weights"
    metric = "train-fit AP" if learned["trained_on"] else "AP"
    title = f"{metric} of {analysis.card.model} with one group in {numbers}"
    with replacing(chart) as temporary:
        temporary.write_text(sensitivity_chart(results, title, len(bench.images), left_out), encoding="utf-8")
    summary = (
        f"the whole policy {analysis.policy.name}: {interval(whole.difference.ap)} {metric}, "
        f"{interval(whole.difference.oks, 100)} OKS x 100"
    )
    emit(
        {"out": str(out), **payload},
        Group(_table(results, left_out), summary, text, f"chart: {chart}"),
        as_json,
    )


def search(
    checkpoint: Checkpoint,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Policy to write (YAML) [default: found.yaml].", callback=file_to_write
        ),
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0.0, help="AP points that may be lost against FP32.")] = 0.5,
    min_int8: Annotated[
        float, typer.Option(min=0, max=100, help="Least share of multiply-accumulates in INT8, percent.")
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
    """The policy with most INT8 within an AP budget.

    Ranks groups by AP lost per work saved (as `sensitivity` measures it; put both in one folder and it is reused),
    restores the dearest until the budget holds on the whole split, gives back what was not needed, and quantizes
    anew by the policy it writes to prove it. Ends with exit code 6 where no policy with enough INT8 holds the budget.

    After a kill the same command goes on where it was.

    Examples:

      samkr-edge search fp32/final.pt --data people --max-drop 0.5 -o found.yaml

      samkr-edge quantize fp32/final.pt --data people --policy found.yaml -o ptq.pt
    """
    from calibration.analysis.scoring import Bench
    from calibration.analysis.search import found_policy, is_untouched, policy_text
    from calibration.analysis.search import search as find
    from calibration.analysis.sensitivity import analyse
    from calibration.analysis.start import Analysis, interval
    from calibration.analysis.trials import TrialStore
    from calibration.inputs import warn_if_meaningless
    from calibration.policy import load_policy
    from samkr_edge.cli.console import emit, say
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.files.artefact import replacing
    from samkr_edge.files.ours import refuse_foreign

    if out is None:
        out = Path("found.yaml")
        file_to_write(out)
        refuse_foreign([out], made=is_untouched)
    analysis = Analysis.of(
        checkpoint, data, policy, images, seed, threads, split=split,
        calibrator=calibrator, bits=bits, activation_bits=activation_bits,
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
        say(f"over the budget of {max_drop:g} AP: ranking the groups on {rank_images} images")
        ranker = analysis.trials(Bench(dataset, min(rank_images, len(whole.images))), store)
        groups = {g: m for g, m in analysis.groups.items() if analysis.chosen & set(m)}
        results = analyse(ranker, groups, analysis.chosen, analysis.macs, restore=False)
    found = find(trials, results, analysis.chosen, analysis.macs, max_drop, min_int8 / 100)
    written = found_policy(analysis.policy, out.stem, found, max_drop)
    with replacing(out) as temporary:
        temporary.write_text(policy_text(written), encoding="utf-8")
    proof = analysis.score(load_policy(str(out)), whole)
    enough = found.best.macs_share >= min_int8 / 100
    within = found.within and enough and base.baseline_ap - proof <= max_drop
    difference = found.best.trial.difference.ap
    metric = "train-fit AP" if learned["trained_on"] else "AP"
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
    if not base.baseline_ap > max_drop:
        raise SamkrError(
            "SE-Q83",
            f"no policy could lose more than {max_drop:g} AP here, so none has been shown not to",
            {
                "FP32": f"{base.baseline_ap:.1f} AP on {len(whole.images)} images",
                "written": f"{out}, of which nothing is known",
            },
            fix=f"samkr-edge eval {quoted(checkpoint)} --data {quoted(data)}   "
            "# a network must find people to be judged by AP",
        )
    if not within:
        raise SamkrError(
            "SE-Q82",
            f"no policy loses at most {max_drop:g} AP with at least {min_int8:g} % of the work in INT8",
            {
                "best": f"{interval(difference)} AP, {100 * found.best.macs_share:.1f} % in INT8",
                "restored": ", ".join(found.best.restored) or "nothing",
                "written": f"{out}, though it does not hold the budget",
            },
            fix=f"samkr-edge quantize {quoted(checkpoint)} --policy {quoted(out)} --data {quoted(data)} -o ptq.pt && "
            f"samkr-edge qat ptq.pt --data {quoted(data)} -o qat.pt   # or allow less INT8: --min-int8",
        )
    emit(
        payload,
        f"{out}: {interval(difference)} {metric} against FP32 on {len(whole.images)} images, budget {max_drop:g}; "
        f"{100 * found.best.macs_share:.1f} % of the work in INT8; restored: "
        f"{', '.join(found.best.restored) or 'nothing'}\nquantized anew by the written policy: {proof:.2f} {metric}",
        as_json,
    )


def _is_sensitivity(path: Path) -> bool:
    """Whether a file is what `sensitivity` writes; its chart is known by it."""
    try:
        payload = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(payload, dict) and payload.keys() >= {"policy_trial", "groups", "conclusion"}


def _table(results: Sequence[Sensitivity], left_out: Trial | None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from calibration.analysis.start import interval

    table = Table(
        title="alone: the group alone in INT8, against FP32; restored: it alone float, against the policy",
        caption="95 % intervals over images; ~ indistinguishable from no loss",
        box=SIMPLE_HEAD,
    )
    table.add_column("group", no_wrap=True)
    for name in ("MACs", "AP alone", "OKS x 100 alone", "offset\nerror", "AP restored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for r in results:
        restored = interval(r.restored.difference.ap) if r.restored else "float anyway"
        table.add_row(
            r.group.name,
            f"{100 * r.macs_share:.1f} %",
            *_lost(r.alone),
            restored,
            "" if r.distinguishable else "~",
        )
    if left_out:
        table.add_section()
        mark = "" if left_out.difference.worse else "~"
        table.add_row("without attention", "", *_lost(left_out), "", mark)
    return table


def _lost(trial: Trial) -> tuple[str, str, str]:
    """AP, OKS and the error of the offsets, as the cells of a row."""
    from calibration.analysis.start import interval

    difference = trial.difference
    return interval(difference.ap), interval(difference.oks, 100), f"{100 * trial.offset_error:.2f} %"
