"""`samkr-edge export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.places import file_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from samkr_edge.model_card import ModelCard


class DecodeIn(str, Enum):
    """Where maps become candidates."""

    host = "host"
    graph = "graph"


class ProbeFrom(str, Enum):
    """Which pictures travel with the file."""

    checkpoint = "checkpoint"
    rendered = "rendered"


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint, or with --untrained the name of a zoo model.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.", callback=file_to_write)],
    size: Annotated[
        str | None, typer.Option(help="Input HxW, multiples of 32 [default: the checkpoint's].")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Static batch size.")] = 1,
    opset: Annotated[
        int | None,
        typer.Option(
            help="16 to 19 [default: 17, for every TensorRT from 8.5 on; 19 for INT8 beside FP16 and for FP8]."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Of what is not quantized: fp32, or fp16 for strongly typed TensorRT (10 and later)."
        ),
    ] = "fp32",
    decode: Annotated[
        DecodeIn,
        typer.Option(help="graph: peaks and joints are found inside the ONNX, no maps leave the device."),
    ] = DecodeIn.host,
    probe: Annotated[
        ProbeFrom,
        typer.Option(
            help="Small pictures in the ONNX that builds are judged on: those that the checkpoint was "
            "calibrated on, where it has some, or rendered people."
        ),
    ] = ProbeFrom.checkpoint,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights: for speed, not accuracy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a checkpoint as ONNX and check it against torch.

    A quantized checkpoint becomes explicit Q/DQ: one file for every target.

    Examples:

      samkr-edge export fp32/final.pt -o model.onnx

      samkr-edge export qat.pt -o qat.onnx --size 256x256 --decode graph

      samkr-edge export qat.pt -o qat.fp16.onnx --precision fp16

      samkr-edge export samkr_w32 --untrained -o w32.onnx
    """
    from samkr_edge.build.probe import parse_probe
    from samkr_edge.cli.console import emit
    from training.checkpoint import load_checkpoint, network_of, untrained_checkpoint
    from training.export import export_onnx
    from training.input_size import parse_size

    wanted = parse_size(size) if size else None
    half = precision == "fp16"
    loaded = untrained_checkpoint(checkpoint) if untrained else load_checkpoint(checkpoint)
    if precision not in ("fp32", "fp16"):
        fix = "leave --precision out"
        if loaded.kind == "float" and precision in ("int8", "fp8"):
            images = "--untrained --random-images 8" if untrained else "--data DIR"
            fix = f"samkr-edge quantize {quoted(checkpoint)} {images} --format {precision} -o ptq.pt"
        raise SamkrError(
            "SE-U84",
            f"{precision!r} is no precision to export in",
            ["known      fp32, fp16", "INT8, FP8  come from a quantized checkpoint, and stay what they are"],
            fix=fix,
        )
    kept = loaded.quantization.get("probe") if probe is ProbeFrom.checkpoint else None
    card, agreement = export_onnx(
        network_of(loaded),
        loaded.card,
        out,
        opset=opset or _opset(loaded.card, half),
        batch=batch,
        size=wanted,
        half=half,
        decode=decode.value,
        probe=parse_probe(kept) if kept is not None else None,
    )
    megabytes = out.stat().st_size / 1e6
    emit(
        {"path": str(out), "card": card.to_dict(), "check": agreement.to_dict(), "megabytes": megabytes},
        f"{out}: {card.model} {card.precision}{' + fp16' if half and card.quantized else ''} "
        f"{card.input_size[0]}x{card.input_size[1]}, opset {card.provenance['opset']}, "
        f"decode: {card.decode_in}, {megabytes:.1f} MB; {agreement.probe} travel with it\n"
        f"  against torch: {agreement.sentence()}",
        as_json,
    )


def _opset(card: ModelCard, half: bool) -> int:
    """The oldest opset that has what is asked: FP8, and FP16 scales, begin at 19."""
    return 19 if card.precision == "fp8" or (half and card.quantized) else 17
