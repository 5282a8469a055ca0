"""`samkr-edge quantize`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibration.cli.options import (
    TRAIN_DATA,
    ActivationBits,
    Bits,
    Calibrator,
    Images,
    PolicyName,
    Seed,
    Threads,
)
from samkr_edge.cli.options import AsJson, out_file, word
from samkr_edge.cli.photos import PhotoWords, chosen_photos
from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted
from training.cli.options import Size, Untrained

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.equalise import Equalised
    from calibration.policy import Assignment, Policy
    from samkr_edge.builder.check.probe import Probe
    from samkr_edge.model_card import ModelCard
    from training.checkpoint import Checkpoint
    from training.models.pose_net import PoseNet


class NumberFormat(str, Enum):
    """Numbers that quantized modules compute in."""

    int8 = "int8"
    fp8 = "fp8"


def quantize(
    checkpoint: Annotated[
        str, typer.Argument(help="FP32 checkpoint, or with --untrained the name of a zoo model.")
    ],
    out: Annotated[Path | None, out_file("Quantized checkpoint to write.")] = None,
    data: Annotated[Path | None, TRAIN_DATA] = None,
    photos: PhotoWords = None,
    size: Size = None,
    policy: PolicyName = "default",
    calibrator: Calibrator = None,
    number_format: Annotated[
        NumberFormat | None,
        typer.Option("--format", help="fp8: for Ada and newer GPUs. [default: the policy's]"),
    ] = None,
    images: Images = 128,
    bits: Bits = None,
    activation_bits: ActivationBits = None,
    seed: Seed = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print the precision of each module, and the rule behind it."),
    ] = False,
    untrained: Untrained = False,
    random_images: Annotated[
        int | None, typer.Option(min=8, help="Calibrate on noise instead of pictures.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate to INT8, or to FP8, by a policy (PTQ).

    Examples:

      samkr-edge quantize fp32/final.pt --data people -o ptq.pt

      samkr-edge quantize fp32/final.pt --photos my_pictures -o ptq.pt

      samkr-edge quantize zoo:dekr_w32_coco --photos my_pictures --size 256x256 -o ptq.pt

      samkr-edge quantize fp32/final.pt --policy trunk_only --dry-run

      samkr-edge quantize fp32/final.pt --data people --format fp8 -o fp8.pt

      samkr-edge quantize samkr_w32 --untrained --random-images 8 -o w32-int8.pt
    """
    from dataclasses import replace

    from calibration.fp8 import check_fp8
    from calibration.inputs import (
        best_device,
        calibration_images,
        float_checkpoint,
        recorded_ap,
        use_threads,
        warn_if_meaningless,
    )
    from calibration.policy import changed_policy, load_policy
    from calibration.ptq import quantize_network
    from samkr_edge.cli.console import emit
    from samkr_edge.input_size import parse_size
    from samkr_edge.progress import progress
    from training.checkpoint import Checkpoint, network_of, save_checkpoint

    use_threads(threads)
    chosen = changed_policy(
        load_policy(policy),
        calibrator=word(calibrator), bits=bits, activation_bits=activation_bits, format=word(number_format),
    )  # fmt: skip
    check_fp8(chosen)
    source = float_checkpoint(checkpoint, untrained=untrained)
    if size is not None:
        source = replace(source, card=replace(source.card, input_size=parse_size(size)))
    network = network_of(source)
    if dry_run:
        _print_plan(chosen, network, source, as_json)
        return
    if out is None:
        raise SamkrError("SE-U44", "no place to write to", fix="run the same command with -o ptq.pt")
    warn_if_meaningless(recorded_ap(source.card.provenance))
    equalised: list[Equalised] = []
    with chosen_photos(photos, data, images, seed=seed) as pictures:
        shown = calibration_images(
            source.card,
            data=data,
            count=images,
            seed=seed,
            noise=random_images,
            photos=pictures,
            network=network,
        )
        facts, coverage = shown.facts, shown.coverage
        network.to(best_device())
        with progress("calibrating", facts["images"], unit="images") as advance:
            quantized, assignments = quantize_network(
                network, chosen, shown.batches, advance=advance, equalised=equalised.append
            )
    quantization = _how(chosen, facts, shown.probe)
    card = _quantized_card(source.card, chosen, facts, equalised)
    state = {name: tensor.detach().cpu().clone() for name, tensor in quantized.state_dict().items()}
    save_checkpoint(out, Checkpoint(card, source.config, state, "quantized", {}, quantization))
    summary = _summary(assignments, chosen.format)
    emit(
        {"checkpoint": str(out), "card": card.to_dict(), "summary": summary, "coverage": coverage},
        _quantize_text(out, chosen.name, chosen.calibrator, summary, coverage, facts, equalised, shown.probe),
        as_json,
    )


def _quantized_card(
    card: ModelCard, policy: Policy, calibration: dict[str, Any], equalised: list[Equalised]
) -> ModelCard:
    """The float network's card, with how it was quantized."""
    from dataclasses import asdict, replace

    return replace(card, precision=policy.format, stage="ptq").with_provenance(
        policy=policy.name,
        policy_sha256=policy.sha256,
        calibrator=policy.calibrator,
        bits=policy.bits,
        activation_bits=policy.activation_bits,
        calibration=calibration,
        **({"equalised": asdict(equalised[0])} if equalised else {}),
    )


def _how(policy: Policy, calibration: dict[str, Any], probe: Probe | None) -> dict[str, Any]:
    """What the checkpoint keeps of how it was made; its modules are rebuilt from the policy."""
    kept = {
        "policy": policy.model_dump(mode="json"),
        "policy_sha256": policy.sha256,
        "calibration": calibration,
    }
    return kept if probe is None else {**kept, "probe": probe.to_text()}


_SHOWN = {"int8": "INT8", "fp8": "FP8", "float": "float"}


def _summary(assignments: list[Assignment], number_format: str) -> dict[str, dict[str, int]]:
    """Operation -> precision -> number of modules."""
    summary: dict[str, dict[str, int]] = {}
    for assignment in assignments:
        counts = summary.setdefault(assignment.op, {number_format: 0, "float": 0})
        counts[assignment.precision] += 1
    return summary


def _quantize_text(
    out: Path,
    policy: str,
    calibrator: str,
    summary: dict[str, dict[str, int]],
    coverage: dict[str, tuple[int, int]],
    facts: dict[str, Any],
    equalised: list[Equalised],
    probe: Probe | None,
) -> str:
    lines = [f"{out}: policy {policy}, calibrator {calibrator}, {counted(facts['images'], 'image')}"]
    lines += [
        f"  {op:<16}" + " ".join(f"{count:>4} {_SHOWN[name]}" for name, count in counts.items())
        for op, counts in summary.items()
    ]
    lines += [
        f"  {done.factors} channel factors equalised: expected error of the maps "
        f"{100 * done.error_before:.1f} % -> {100 * done.error_after:.1f} %"
        for done in equalised
    ]
    if coverage:
        lines.append(
            "  images of each kind: " + "; ".join(f"{n} {t}/{of}" for n, (t, of) in coverage.items())
        )
    elif "noise" in facts:
        lines.append("  calibrated on noise: for measuring speed, never accuracy")
    else:
        lines.append(
            "  photos: folders and videos by turns, whoever they show; `bench --photos` takes others of them"
        )
    if probe is not None:
        lines.append(f"  {probe}, small, travel with it (`export --probe rendered` leaves them out)")
    return "\n".join(lines)


def _print_plan(policy: Policy, network: PoseNet, source: Checkpoint, as_json: bool) -> None:
    """What each module would get, how much each rule decides, and the share of the work that is quantized."""
    from dataclasses import asdict

    from rich.console import Group

    from calibration.channel_ties import trace_ties
    from calibration.policy import assign, quantized_share
    from samkr_edge.cli.console import emit
    from training.models.fold import quantizable
    from training.models.macs import macs_of_quantizable

    folded = quantizable(network)
    assignments = assign(policy, folded)
    factors = trace_ties(folded).factors if policy.equalise else 0
    macs = macs_of_quantizable(source.config)
    share = quantized_share(assignments, macs)
    rules = []
    for index in [*range(len(policy.rules)), -1]:
        decided = [a for a in assignments if a.rule == index]
        if index == -1 and not decided:
            continue
        rule = policy.rules[index] if index >= 0 else None
        rules.append(
            {
                "rule": index + 1,
                "match": rule.match if rule else "no rule",
                "op": rule.op if rule else None,
                "precision": policy.precision_of(rule) if rule else "float",
                "modules": len(decided),
                "macs_share": sum(macs.get(a.module, 0) for a in decided) / sum(macs.values()),
            }
        )
    emit(
        {
            "assignments": [asdict(a) for a in assignments],
            "rules": rules,
            f"{policy.format}_macs_share": share,
            "channel_factors": factors,
        },
        Group(
            _assignment_table(assignments),
            _rule_table(rules),
            f"{policy.name} on {source.card.model}: {100 * share:.1f} % of the multiply-accumulates in "
            f"{_SHOWN[policy.format]}" + (f"; {factors} channel factors to equalise" if factors else ""),
        ),
        as_json,
    )


def _rule_table(rules: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title="how much each rule decides")
    for name in ("rule", "match", "op", "precision"):
        table.add_column(name, overflow="fold")
    for name in ("modules", "MACs"):
        table.add_column(name, justify="right")
    for r in rules:
        cells = (r["rule"] or "-", r["match"], r["op"] or "any", r["precision"], r["modules"])
        table.add_row(*map(str, cells), f"{100 * r['macs_share']:.1f} %")
    return table


def _assignment_table(assignments: list[Assignment]) -> Table:
    from rich.table import Table

    table = Table(title="what each module gets, by the first rule that matches")
    for name in ("module", "op", "precision", "rule", "why"):
        table.add_column(name, overflow="fold")
    for a in assignments:
        table.add_row(a.module, a.op, a.precision, str(a.rule + 1) if a.rule >= 0 else "-", a.why)
    return table
