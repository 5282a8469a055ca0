"""`samkr-edge bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.cli.places import file_to_write, folder_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from samkr_edge.deploy.bundle import Bundle


def bundle(
    model: Annotated[
        Path,
        typer.Argument(
            help="An ONNX file made by `samkr-edge export`; for --triton a built model or a bundle, too."
        ),
    ],
    out: Annotated[Path | None, out_file("The bundle [default: NAME.samkr next to the source].")] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", metavar="FILE", help="A model built from it, with its passport; repeatable."),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead, or with -o as well: a model repository for Triton Inference Server.",
            callback=folder_to_write,
        ),
    ] = None,
    deepstream: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The same for DeepStream: nvinfer's configuration, the network with the input that it fills, and a "
            "table for a probe.",
            callback=folder_to_write,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another model of that name in --triton and --deepstream.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put everything a device needs into one file: ONNX, model card, hashes, built models.

    `predict`, `eval` and `bench` take the bundle as a model. Its first use on a device picks an included model that
    fits, else builds one; later uses load that from the cache.

    What --triton and --deepstream write follows the specifications of both and has not run there yet.

    Examples:

      samkr-edge bundle qat.onnx -o pose.samkr

      samkr-edge bundle qat.onnx --add qat.cpu.onnx --add qat.engine -o pose.samkr

      samkr-edge bundle pose.engine --triton models

      samkr-edge bundle model.onnx --deepstream pose
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.cli.unused_options import refuse_unused

    payload: dict[str, Any] = {}
    lines: list[str] = []
    place = triton or deepstream
    refuse_unused("--triton DIR or --deepstream DIR", place, {"--force": force or None})
    if place is not None:
        refuse_unused("-o BUNDLE.samkr", out, {"--add": add or None})
        payload, lines = _served(model, triton, deepstream, force)
    if out is not None or not lines:
        written, refused = _bundled(model, out, add or [])
        payload |= {**describe(written), "refused": refused}
        lines.append(describe_lines(written))
        lines += [f"  not built    for {runtime}: {reason}" for runtime, reason in refused.items()]
        if len(refused) < 2 or written.manifest.built:
            lines.append(f"  on a device  samkr-edge predict {written.path.name} photo.jpg")
    emit(payload, "\n".join(lines), as_json)


def _bundled(model: Path, out: Path | None, add: list[Path]) -> tuple[Bundle, dict[Any, str]]:
    """The bundle written, and the runtimes whose build would refuse its ONNX."""
    from samkr_edge.deploy.bundle import SUFFIX, is_bundle, write_bundle
    from samkr_edge.files.own_files import refuse_foreign
    from samkr_edge.onnx_graph.foreign import refused_by
    from samkr_edge.onnx_graph.onnx_reading import read_onnx

    if out is None:
        out = model.with_suffix(SUFFIX)
        refuse_foreign([out], made=is_bundle)
        file_to_write(out)
    if out.suffix != SUFFIX:
        raise SamkrError(
            "SE-U94",
            f"a bundle is named NAME{SUFFIX}, found {out.name}",
            fix=f"-o {quoted(out.with_suffix(SUFFIX))}",
        )
    return write_bundle(model, out, add), {**refused_by(read_onnx(model), model)}


def _served(
    model: Path, triton: Path | None, deepstream: Path | None, force: bool
) -> tuple[dict[str, Any], list[str]]:
    """Write what servers of others' take, after both have been checked; as JSON and as lines."""
    from samkr_edge.deploy.bundle import is_bundle
    from samkr_edge.deploy.bundle_cache import source_model
    from samkr_edge.deploy.deepstream import deepstream_files, describe_deepstream
    from samkr_edge.deploy.served_model import read_served, write_files
    from samkr_edge.deploy.triton import describe_triton, triton_files

    served = read_served(source_model(model) if is_bundle(model) else model)
    found: dict[str, dict[Path, bytes]] = {}
    lines: list[str] = []
    if triton is not None:
        found["triton"] = triton_files(served, triton, force=force)
        lines.append(describe_triton(served, triton))
    if deepstream is not None:
        found["deepstream"] = deepstream_files(served, deepstream, force=force)
        lines.append(describe_deepstream(served, deepstream))
    for files in found.values():
        write_files(files)
    written = {server: [str(path) for path in files] for server, files in found.items()}
    return {"name": served.name, "runs_on": served.runs_on, **written}, lines


def unpack(bundle: Path, out: Path | None, target: str) -> tuple[Path, Path]:
    """The exported ONNX of a bundle, and where `build` writes what it makes of it: beside the bundle by default."""
    from samkr_edge.cli.targets import find_target
    from samkr_edge.deploy.bundle_cache import source_model
    from samkr_edge.passport import CPU_MODEL, own_place

    suffix = CPU_MODEL if find_target(target).family == "cpu" else ".engine"
    return source_model(bundle), out or own_place(bundle.with_suffix(suffix))


def describe(bundle: Bundle) -> dict[str, Any]:
    """A bundle as plain JSON."""
    return {
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "key": bundle.key,
        "manifest": bundle.manifest.model_dump(mode="json"),
        "passports": {name: bundle.passport(name).model_dump(mode="json") for name in bundle.manifest.built},
    }


def describe_lines(bundle: Bundle) -> str:
    """A bundle for people."""
    card, manifest = bundle.card, bundle.manifest
    lines = [
        f"{bundle.path}: {bundle.path.stat().st_size / 1e6:.1f} MB; {card.title}",
        *(f"  without      its {part}: {judged}" for part, judged in card.left_out.items()),
        f"  source       {manifest.source}  {manifest.entries[manifest.source].sha256[:16]}",
    ]
    for name in manifest.built:
        passport = bundle.passport(name)
        lines.append(f"  built        {name}  target {passport.target}, {passport.runs_on}")
    return "\n".join(lines)
