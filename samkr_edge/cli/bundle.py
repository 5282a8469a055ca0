"""`samkr-edge bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.cli.places import file_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from samkr_edge.deploy.bundle import Bundle


def bundle(
    model: Annotated[Path, typer.Argument(help="An ONNX file made by `samkr-edge export`.")],
    out: Annotated[Path | None, out_file("The bundle [default: NAME.samkr next to the source].")] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", metavar="FILE", help="A model built from it, with its passport; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put everything a device needs into one file: ONNX, model card, hashes, built models.

    `predict`, `eval` and `bench` take the bundle as a model. Its first use on a device picks an included model that
    fits, else builds one; later uses load that from the cache.

    Examples:

      samkr-edge bundle qat.onnx -o pose.samkr

      samkr-edge bundle qat.onnx --add qat.cpu.onnx --add qat.engine -o pose.samkr
    """
    from samkr_edge.cli.console import emit
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
    written = write_bundle(model, out, add or [])
    refused = refused_by(read_onnx(model), model)
    lines = [describe_lines(written)]
    lines += [f"  not built    for {runtime}: {reason}" for runtime, reason in refused.items()]
    if len(refused) < 2 or written.manifest.built:
        lines.append(f"  on a device  samkr-edge predict {out.name} photo.jpg")
    emit({**describe(written), "refused": refused}, "\n".join(lines), as_json)


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
