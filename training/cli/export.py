"""`samkr-edge export`."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, data_dir, out_file
from samkr_edge.cli.protocol import Anyway
from samkr_edge.cli.unused_options import refuse_unused
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import meant, quoted
from training.cli.options import Size, Untrained

if TYPE_CHECKING:
    from samkr_edge.builder.check.probe import Probe
    from samkr_edge.model_card import ModelCard
    from training.models.pose_net import PoseNet


class DecodeIn(str, Enum):
    """Where maps become candidates."""

    host = "host"
    graph = "graph"


class ProbeFrom(str, Enum):
    """Which images the file carries."""

    checkpoint = "checkpoint"
    rendered = "rendered"


class OptionalPart(str, Enum):
    """What an export may leave out."""

    attention = "attention"


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint, or with --untrained the name of a zoo model.")
    ],
    out: Annotated[Path, out_file("ONNX file to write.")],
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help="Static batch size.")] = 1,
    opset: Annotated[
        int | None,
        typer.Option(
            help="16 to 19 [default: 17, for every TensorRT from 8.5 on; 19 for INT8 next to FP16 and for FP8]."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of what is not quantized: fp32, or fp16 for strongly typed TensorRT (10 and later)."
        ),
    ] = "fp32",
    decode: Annotated[
        DecodeIn,
        typer.Option(help="graph: peaks and joints are found inside the ONNX, no maps leave the device."),
    ] = DecodeIn.host,
    probe: Annotated[
        ProbeFrom,
        typer.Option(
            help="Small pictures in the ONNX that builds are judged on: some that the checkpoint was "
            "calibrated on, or rendered people."
        ),
    ] = ProbeFrom.checkpoint,
    without: Annotated[
        OptionalPart | None,
        typer.Option(
            help="Leave this out of the network if that costs nothing: judged by AP with --data, else by joints "
            "on the pictures in the file."
        ),
    ] = None,
    data: Annotated[Path | None, data_dir(" that --without is judged on")] = None,
    split: Annotated[str | None, typer.Option(help="Split of --data [default: val].")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images of --data.")] = None,
    anyway: Anyway = False,
    max_drop: Annotated[
        float | None, typer.Option(min=0.0, help="AP points that --without may cost [default: 0.1].")
    ] = None,
    max_moved: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Input pixels that --without may move a joint, without --data [default: 0.25]."
        ),
    ] = None,
    untrained: Untrained = False,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint as ONNX and check it against torch.

    A quantized checkpoint becomes explicit Q/DQ: one file for every target.

    Examples:

      samkr-edge export fp32/final.pt -o model.onnx

      samkr-edge export qat.pt -o qat.onnx --size 256x256 --decode graph

      samkr-edge export qat.pt -o qat.fp16.onnx --precision fp16

      samkr-edge export qat.pt -o qat.onnx --without attention --data people

      samkr-edge export samkr_w32 --untrained -o w32.onnx
    """
    from samkr_edge.builder.check.probe import parse_probe
    from samkr_edge.cli.console import emit
    from samkr_edge.input_size import parse_size
    from training.checkpoint import load_checkpoint, network_of, untrained_checkpoint
    from training.data.rendered.probe import rendered_probe
    from training.export import check_request, export_onnx

    judging = {"--split": split, "--limit": limit, "--anyway": anyway or None, "--max-drop": max_drop}
    refuse_unused("--without attention", without, {"--data": data, **judging, "--max-moved": max_moved})
    refuse_unused("--data DIR", data, judging)
    if data is not None and max_moved is not None:
        raise SamkrError(
            "SE-U77",
            "--max-moved is for judging without labels, so nothing was exported",
            {"with --data": "AP decides"},
            fix="run the same command with --max-drop 0.1 instead",
        )
    wanted = parse_size(size) if size else None
    half = precision == "fp16"
    loaded = untrained_checkpoint(checkpoint) if untrained else load_checkpoint(checkpoint)
    if precision not in ("fp32", "fp16"):
        raise _not_a_precision(precision, checkpoint, loaded.kind == "float", untrained)
    network, card = network_of(loaded), loaded.card
    opset = opset or _opset(card, half)
    check_request(wanted or card.input_size, opset, batch, card.precision)
    kept = loaded.quantization.get("probe") if probe is ProbeFrom.checkpoint else None
    pictures = parse_probe(kept) if kept is not None else rendered_probe()
    if without is OptionalPart.attention:
        limits = {"limit": limit, "max_drop": max_drop, "max_moved": max_moved, "anyway": anyway or None}
        network, card = _without_attention(
            network,
            replace(card, input_size=wanted or card.input_size),
            pictures,
            data,
            split or "val",
            {name: value for name, value in limits.items() if value is not None},
        )
    card, agreement = export_onnx(
        network,
        card,
        out,
        opset=opset,
        batch=batch,
        size=wanted,
        half=half,
        decode=decode.value,
        probe=pictures,
    )
    megabytes = out.stat().st_size / 1e6
    left_out = [f"\n  without its {part}: {judged}" for part, judged in card.left_out.items()]
    emit(
        {"path": str(out), "card": card.to_dict(), "check": agreement.to_dict(), "megabytes": megabytes},
        f"{out}: {card.model} {card.precision}{' + fp16' if half and card.quantized else ''} "
        f"{card.input_size[0]}x{card.input_size[1]}, opset {card.provenance['opset']}, "
        f"decode: {card.decode_in}, {megabytes:.1f} MB; {agreement.probe} travel with it\n"
        f"  against torch: {agreement.sentence()}{''.join(left_out)}",
        as_json,
    )


def _without_attention(
    network: PoseNet, card: ModelCard, probe: Probe, data: Path | None, split: str, limits: dict[str, Any]
) -> tuple[PoseNet, ModelCard]:
    """The network without its attention, if allowed, and the card with the reason."""
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.usable import remarks
    from samkr_edge.progress import progress
    from samkr_edge.terminal import say
    from training.attention_worth import judge_by_ap, judge_by_joints
    from training.without_attention import without_attention

    left = without_attention(network)
    if card.provenance.get("untrained") and data is None and not limits:
        facts: dict[str, Any] = {"judged": "not judged, its weights are random"}
    elif data is None:
        facts = judge_by_joints(network, left, card, probe, **limits)
    else:
        dataset = open_dataset(data, split)
        records = dataset.images[: limits.get("limit")]
        for line in remarks(dataset, records):
            say(line)
        with progress("with and without attention", 2 * len(records), unit="images") as advance:
            facts = judge_by_ap(network, left, card, dataset, advance=advance, **limits)
    return left, card.with_provenance(without={"attention": facts})


def _not_a_precision(precision: str, checkpoint: str, is_float: bool, untrained: bool) -> SamkrError:
    fix = "leave --precision out"
    if is_float and precision in ("int8", "fp8"):
        images = "--untrained --random-images 8" if untrained else "--data DIR"
        fix = f"samkr-edge quantize {quoted(checkpoint)} {images} --format {precision} -o ptq.pt"
    return SamkrError(
        "SE-U84",
        f"{precision!r} is not a precision to export in",
        {
            "known": "fp32, fp16",
            **meant(precision, ("fp32", "fp16")),
            "INT8, FP8": "come from a quantized checkpoint, and stay what they are",
        },
        fix=fix,
    )


def _opset(card: ModelCard, half: bool) -> int:
    """The oldest opset with the requested types: FP8 and FP16 scales need 19."""
    return 19 if card.precision == "fp8" or (half and card.quantized) else 17
