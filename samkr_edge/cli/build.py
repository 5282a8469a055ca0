"""`samkr-edge build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.errors import SamkrError


def build(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="An ONNX file made by `samkr-edge export`, or a bundle.")],
    target: Annotated[str, typer.Option(help="A name from `samkr-edge targets`.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Built model [default: beside the source].")
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Build on a device: ssh://user@host[:port].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn an ONNX into what a target runs fastest, with a passport beside it.

    Target `cpu`: an ONNX Runtime model; INT8 Q/DQ is turned into the form that is fast on x86.

    Examples:

      samkr-edge build qat.onnx --target cpu -o qat.cpu.onnx

      samkr-edge build qat.onnx --target jetson-orin-nano

      samkr-edge build qat.onnx --target cpu --on ssh://nvidia@orin
    """
    if on is not None:
        from samkr_edge.remote import run_there

        raise typer.Exit(run_there(on, context, inputs=("model",)))
    if model.suffix == ".samkr":
        from samkr_edge.cli.bundle import unpack

        model, out = unpack(model, out, target)
    from samkr_edge.build.onnx_runtime import build_cpu, card_of, load_onnx
    from samkr_edge.cli.console import emit
    from samkr_edge.cli.targets import find_target

    profile = find_target(target)
    if profile.family != "cpu":
        card = card_of(load_onnx(model), model)
        limit = profile.refusal("int8") if card.precision == "int8" else None
        if limit is not None:
            raise SamkrError(
                "SE-B54",
                f"{profile.title} cannot run INT8, so nothing was built",
                [f"reason     {limit.why}", f"instead    {limit.instead}"],
            )
        raise SamkrError(
            "SE-V50",
            f"an engine for {profile.title} must be built on that device, and this version builds for `cpu` only",
            [
                f"model      {model.name}, {card.model} {card.precision} {card.input_size[0]}x{card.input_size[1]}",
                f"device     SM {profile.compute_capability}, TensorRT {' to '.join(profile.tensorrt or ('?',))}",
                "the ONNX   is what TensorRT takes: explicit Q/DQ, opset 17, static shapes",
            ],
            fix=_trtexec(model, profile.tensorrt, card.precision),
        )
    out = out or model.with_name(f"{model.stem}.cpu.onnx")
    if out.resolve() == model.resolve():
        raise SamkrError(
            "SE-U51", "the built model would replace its source", fix=f"-o {model.stem}.cpu.onnx"
        )
    built = build_cpu(model, out)
    source_mb, built_mb = (path.stat().st_size / 1e6 for path in (model, out))
    done = built.passport.settings
    how = "graph unchanged"
    if done["retargeted"]:
        passes = {
            "deform_convolutions": "samplings as DeformConv",
            "merged_quantizers": "quantizers merged",
            "absorbed_relus": "ReLUs absorbed",
            "quantized_sums": "partial sums in INT8",
            "folded_weights": "weights stored as INT8",
        }
        made = [f"{done[name]} {words}" for name, words in passes.items() if done[name]]
        how = f"retargeted for x86: {', '.join(made) or 'nothing to change'}"
    emit(
        {
            "path": str(out),
            "passport": built.passport.model_dump(mode="json"),
            "cosine": {"heatmap": built.heatmap_cosine, "offset": built.offset_cosine},
            "megabytes": built_mb,
        },
        f"{out}: {source_mb:.1f} -> {built_mb:.1f} MB; {how}\n"
        f"  against its source: cosine heatmap {built.heatmap_cosine:.5f}, offset {built.offset_cosine:.5f}; "
        f"passport {out.name}.json",
        as_json,
    )


def _trtexec(model: Path, versions: tuple[str, str] | None, precision: str) -> str:
    """What to run on the device: flags exist up to TensorRT 10, and are gone in 11."""
    flags = " --fp16" + (" --int8" if precision == "int8" else "")
    old = versions is None or int(versions[0].split(".")[0]) < 11
    return (
        f"on the device: trtexec --onnx={model.name} --saveEngine={model.stem}.engine{flags if old else ''}"
    )
