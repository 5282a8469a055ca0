"""`samkr-edge build`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from samkr_edge.cli.options import AsJson, device, out_file, word
from samkr_edge.cli.places import file_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.files.one_file import is_same_place, refuse_replacing
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from samkr_edge.machine.tensorrt_module import Flavour


class FlavourName(str, Enum):
    """Which TensorRT to build with."""

    tensorrt = "tensorrt"
    rtx = "rtx"


class Precision(str, Enum):
    """The precision of the network."""

    int8 = "int8"
    fp8 = "fp8"
    fp16 = "fp16"
    fp32 = "fp32"
    best = "best"


class GpuRange(str, Enum):
    """Which other GPUs an engine must run on."""

    same = "same"
    ampere = "ampere+"


def build(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="An ONNX file made by `samkr-edge export`, or a bundle.")],
    target: Annotated[str, typer.Option(help="A name from `samkr-edge targets`; `auto`: this device.")],
    flavour: Annotated[
        FlavourName | None,
        typer.Option(help="rtx: TensorRT for RTX, which builds without a GPU [default: what is installed]."),
    ] = None,
    out: Annotated[Path | None, out_file("Built model [default: next to the source].")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="best: the faster of FP16 and INT8 [default: the graph's].")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per inference.")] = None,
    workspace: Annotated[
        int | None, typer.Option(min=16, help="MiB of scratch memory [default: half of free memory].")
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="Optimisation level; higher takes longer to build [default: 3]."),
    ] = None,
    dla_core: Annotated[
        int | None, typer.Option(min=0, help="Run on this DLA core, the rest on the GPU (experimental).")
    ] = None,
    hardware_compatible: Annotated[
        GpuRange | None,
        typer.Option(help="Runs on other GPUs too: of the same compute capability, or all from Ampere on."),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs with newer TensorRT versions too; slower.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="List of images to calibrate INT8 on without Q/DQ (TensorRT up to 10)."),
    ] = None,
    tensorrt: Annotated[
        str | None,
        typer.Option(
            help="Plan for this version (1.x: TensorRT for RTX), or `jetpack-6.2` [default: what is installed]."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be built, and how.")
    ] = False,
    prepared: Annotated[
        Path | None,
        typer.Option(
            help="Only write the graph as TensorRT gets it, and print trtexec's command for it.",
            callback=file_to_write,
        ),
    ] = None,
    on: Annotated[str | None, device("Build on a device:")] = None,
    as_json: AsJson = False,
) -> None:
    """Build an ONNX file into what a target runs fastest, with a passport next to it.

    Target `cpu`: an ONNX Runtime model; INT8 Q/DQ is turned into the form that is fast on x86. A GeForce RTX: an
    engine by TensorRT for RTX, built on any machine, or by TensorRT on that card. Any other target: a TensorRT engine,
    built on that device.

    Examples:

      samkr-edge build qat.onnx --target cpu -o qat.cpu.onnx

      samkr-edge build qat.onnx --target rtx-4090   # needs no GPU; rtx-any: every GeForce RTX

      samkr-edge build qat.onnx --target auto --precision best

      samkr-edge build qat.onnx --target jetson-orin-nano --tensorrt jetpack-6.2 --dry-run

      samkr-edge build qat.onnx --target auto --on ssh://nvidia@orin
    """
    if on is not None:
        from samkr_edge.deploy.remote import run_there

        if out is None and prepared is None and not dry_run:
            _refuse_to_bring_back(model, target)
        raise typer.Exit(run_there(on, context, inputs=("model",)))
    if model.suffix == ".samkr":
        from samkr_edge.cli.bundle import unpack

        model, out = unpack(model, out, target)
    from samkr_edge.cli.targets import find_target
    from samkr_edge.passport import own_place

    profile = find_target(target)
    _check_suffix(model, out, ".onnx" if profile.family == "cpu" else ".engine", unseen=target == "auto")
    if profile.family != "cpu":
        from samkr_edge.builder.tensorrt.wishes import Wishes
        from samkr_edge.cli.build_tensorrt import build_engine

        build_engine(
            model,
            profile,
            out,
            word(precision),
            Wishes(
                batch=batch,
                workspace_mib=workspace,
                level=level,
                dla_core=dla_core,
                hardware_compatible=word(hardware_compatible),
                version_compatible=version_compatible,
            ),
            flavour=cast("Flavour | None", word(flavour)),
            calibrate=calibrate,
            version=tensorrt,
            dry_run=dry_run,
            prepared=prepared,
            as_json=as_json,
        )
        return
    _refuse_options_of_tensorrt(
        target,
        model,
        {
            "--precision": precision,
            "--batch": batch,
            "--workspace": workspace,
            "--level": level,
            "--dla-core": dla_core,
            "--hardware-compatible": hardware_compatible,
            "--version-compatible": version_compatible or None,
            "--calibrate": calibrate,
            "--tensorrt": tensorrt,
            "--flavour": flavour,
            "--prepared": prepared,
        },
    )
    _build_for_cpu(model, out or own_place(model.with_name(f"{model.stem}.cpu.onnx")), dry_run, as_json)


def _build_for_cpu(model: Path, out: Path, dry_run: bool, as_json: bool) -> None:
    from samkr_edge.builder.cpu.build import build_cpu
    from samkr_edge.builder.cpu.retarget import PASSES
    from samkr_edge.cli.console import emit

    if dry_run:
        emit(
            {"plans": [], "path": str(out)},
            f"cpu: {out}, an ONNX Runtime model in the graph's precision, retargeted for this CPU",
            as_json,
        )
        return
    refuse_replacing(model, out, f"-o {quoted(model.with_suffix('.cpu.onnx'))}")
    built = build_cpu(model, out)
    source_mb, built_mb = (path.stat().st_size / 1e6 for path in (model, out))
    done = built.passport.settings
    made = [f"{done[one.field]} {one.words}" for one in PASSES if done.get(one.field)]
    how = ", ".join(made) or "graph unchanged"
    if done["retargeted"]:
        how = f"retargeted for x86: {', '.join(made) or 'nothing to change'}"
    emit(
        {
            "path": str(out),
            "passport": built.passport.model_dump(mode="json"),
            "agreement": built.agreement.to_dict(),
            "megabytes": built_mb,
        },
        f"{out}: {source_mb:.1f} -> {built_mb:.1f} MB; {how}\n"
        f"  against its source: {built.agreement.sentence()}\n"
        f"  passport {out.name}.json",
        as_json,
    )


def _check_suffix(model: Path, out: Path | None, suffix: str, *, unseen: bool) -> None:
    """``unseen``: the target was detected on this machine."""
    from samkr_edge.passport import CPU_MODEL

    if out is None or out.suffix == suffix:
        return
    if unseen and out.suffix == ".engine":
        raise SamkrError(
            "SE-U07",
            f"{out.name} would be a TensorRT engine, and no GPU is visible here, so nothing was built",
            {"instead": f"for this CPU: -o {quoted(out.with_suffix(CPU_MODEL))}"},
            fix="samkr-edge doctor   # says what a GPU lacks here; or name the card: --target rtx-4090",
        )
    named = out.with_suffix(suffix)
    if is_same_place(named, model):
        named = out.with_suffix(CPU_MODEL)
    raise SamkrError(
        "SE-U07",
        f"{out.name} would not be recognised by its name, so nothing was built",
        {"expected": f"{suffix}, by which every command recognises this kind of model"},
        fix=f"-o {quoted(named)}",
    )


def _refuse_options_of_tensorrt(target: str, model: Path, options: dict[str, object]) -> None:
    asked = [name for name, value in options.items() if value is not None]
    if asked:
        raise SamkrError(
            "SE-U83",
            f"{', '.join(asked)}: only TensorRT has this, and the target is the CPU, so nothing was built",
            {"reason": "no GPU is visible here: samkr-edge doctor"} if target == "auto" else None,
            fix=f"samkr-edge build {quoted(model)} --target cpu",
        )


def _refuse_to_bring_back(model: Path, target: str) -> None:
    """A result that the device names comes back next to the model, as after a build here; SE-D05."""
    from samkr_edge.files.artefact import behind
    from samkr_edge.passport import CPU_MODEL, own_place

    stem = behind(model).stem
    for suffix in {"cpu": [CPU_MODEL], "auto": [CPU_MODEL, ".engine"]}.get(target, [".engine"]):
        own_place(model.with_name(stem + suffix))
