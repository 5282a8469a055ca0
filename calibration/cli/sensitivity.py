"""`samkr-edge sensitivity`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.analysed import analysed
from calibration.cli.options import (
    JUDGED_PHOTOS,
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
from samkr_edge.cli.options import SPLIT, AsJson, Split, out_folder, word
from samkr_edge.cli.photos import PhotoWords
from samkr_edge.cli.protocol import Anyway

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.analysis.judge import Judge
    from calibration.analysis.sensitivity import Sensitivity
    from calibration.analysis.start import Analysis
    from calibration.analysis.trials import Trial


def sensitivity(
    checkpoint: Checkpoint,
    data: Data = None,
    photos: PhotoWords = None,
    out: Annotated[
        Path, out_folder("Folder for sensitivity.json, sensitivity.svg and the finished trials.")
    ] = Path("sensitivity"),
    policy: PolicyName = "default",
    split: Split = SPLIT,
    limit: Annotated[int, typer.Option(min=2, help="Evaluate the first N images.")] = JUDGED_PHOTOS,
    anyway: Anyway = False,
    calibrator: Calibrator = None,
    images: Images = 128,
    bits: Bits = None,
    activation_bits: ActivationBits = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy lost by each group of layers when it alone is INT8, and regained when it alone is restored.

    About 20 groups: the stem, each stage and resolution, fuse layers, the parts of the heads. Differences are
    paired, with 95 % intervals over images; mean OKS is more sensitive. At 8 bits most groups are lost in the noise:
    --bits 4 shows their order. The last row is the float network without its attention, if it has one.

    With --photos some pictures calibrate, others judge, by the people that the FP32 network finds on them.

    After a kill the same command resumes where it stopped.

    Examples:

      samkr-edge sensitivity fp32/final.pt --data people

      samkr-edge sensitivity fp32/final.pt --photos my_pictures

      samkr-edge sensitivity fp32/final.pt --data people --bits 4 --limit 400 --out sensitivity-w4
    """
    from calibration.analysis.sensitivity import analyse, ranked
    from calibration.analysis.trials import TrialStore
    from calibration.inputs import warn_if_meaningless
    from samkr_edge.files.own_files import refuse_foreign

    results_path, chart = out / "sensitivity.json", out / "sensitivity.svg"
    refuse_foreign(
        [results_path, chart], made=lambda _: _is_sensitivity(results_path), fix="choose another --out"
    )
    with analysed(
        checkpoint, data, photos, policy=policy, split=split, limit=limit, anyway=anyway, images=images, seed=seed,
        threads=threads, calibrator=word(calibrator), bits=bits, activation_bits=activation_bits,
    ) as (analysis, judge):  # fmt: skip
        trials = analysis.trials(judge.bench, TrialStore(out / "trials.json"))
        whole = trials.measured(analysis.chosen, f"policy {analysis.policy.name}")
        warn_if_meaningless(whole.baseline_ap)
        results = ranked(analyse(trials, analysis.groups, analysis.chosen, analysis.macs))
        left_out = trials.without_attention() if analysis.network.config.groups else None
    _report(results_path, chart, checkpoint, analysis, judge, whole, results, left_out, as_json)


def _report(
    place: Path,
    chart: Path,
    checkpoint: Path,
    analysis: Analysis,
    judge: Judge,
    whole: Trial,
    results: list[Sensitivity],
    left_out: Trial | None,
    as_json: bool,
) -> None:
    from rich.console import Group

    from calibration.analysis.chart import sensitivity_chart
    from calibration.analysis.sensitivity import conclusion
    from samkr_edge.cli.console import emit
    from samkr_edge.files.artefact import replacing, write_json

    images, metric = len(judge.bench.images), judge.metric
    text = conclusion(results, images)
    payload = {
        "checkpoint": checkpoint.name,
        **judge.facts,
        **analysis.context,
        "policy": analysis.policy.model_dump(mode="json"),
        "fp32_ap": whole.baseline_ap,
        "policy_trial": whole.to_dict(),
        "groups": [result.to_dict() for result in results],
        "without_attention": left_out.to_dict() if left_out else None,
        "conclusion": text,
    }
    write_json(place, payload)
    numbers = "INT8" if analysis.policy.bits == 8 else f"{analysis.policy.bits}-bit weights"
    title = f"{metric} of {analysis.card.model} with one group in {numbers}"
    drawn = sensitivity_chart(results, title, images, left_out, metric, judge.against_fp32)
    with replacing(chart) as temporary:
        temporary.write_text(drawn, encoding="utf-8")
    summary = (
        f"the whole policy {analysis.policy.name}: {whole.difference.ap.text()} {metric}, "
        f"{whole.difference.oks.text(100)} OKS x 100" + (f", {whole.followed}" if whole.followed else "")
    )
    emit(
        {"out": str(place.parent), **payload},
        Group(_table(results, left_out, metric), summary, text, f"chart: {chart}"),
        as_json,
    )


def _is_sensitivity(path: Path) -> bool:
    """Whether a file is what `sensitivity` writes; its chart is known by it."""
    from samkr_edge.files.artefact import json_in

    payload = json_in(path)
    return isinstance(payload, dict) and payload.keys() >= {"policy_trial", "groups", "conclusion"}


def _table(results: Sequence[Sensitivity], left_out: Trial | None, metric: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="alone: the group alone in INT8, against FP32; restored: it alone in float, against the policy",
        caption="95 % intervals over images; ~ indistinguishable from no loss",
        box=SIMPLE_HEAD,
    )
    table.add_column("group", no_wrap=True)
    ap = metric.replace(" against", "\nagainst")
    # The map that says whose joint is where: offset or tag.
    *_, second = results[0].alone.map_errors
    for name in ("MACs", f"{ap} alone", "OKS x 100 alone", f"{second}\nerror", f"{ap} restored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for r in results:
        restored = r.restored.difference.ap.text() if r.restored else "float anyway"
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
    """AP, OKS and the error of the second map, as the cells of a row."""

    difference = trial.difference
    *_, error = trial.map_errors.values()
    return difference.ap.text(), difference.oks.text(100), f"{100 * error:.2f} %"
