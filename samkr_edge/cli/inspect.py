"""`samkr-edge inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import AsJson
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from samkr_edge.builder.inspect.finding import Finding


def inspect(
    model: Annotated[Path, typer.Argument(help="An exported ONNX, a built model, an engine or a bundle.")],
    profile: Annotated[
        bool,
        typer.Option(
            "--profile", help="Time every layer here, beside its lower bound on this device or CPU."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 6 if anything was found.")] = False,
    as_json: AsJson = False,
) -> None:
    """What is inside a model, how much of it is INT8, and what keeps it from being fast.

    Every finding names the line of a quantization policy that would fix it. With --profile, also how close the network
    comes to the lower bound of its time here, by what the device or core can do at most, and the layers that lose most.

    Examples:

      samkr-edge inspect qat.onnx

      samkr-edge inspect qat.onnx --strict   # in CI

      samkr-edge inspect qat.cpu.onnx --json

      samkr-edge inspect pose.engine --profile   # share of time in INT8, and in conversions

      samkr-edge inspect qat.cpu.onnx --profile   # the layers that lose most against their bound
    """
    if profile and model.suffix == ".samkr":
        raise SamkrError(
            "SE-U04",
            f"{model.name} is a bundle, so it has no layers to time one by one",
            fix=f"samkr-edge bench {quoted(model)}",
        )
    found: tuple[Finding, ...] = ()
    if model.suffix == ".engine":
        from samkr_edge.cli.inspect_engine import inspect_engine

        found = inspect_engine(model, profile, as_json)
    elif model.suffix == ".samkr":
        from samkr_edge.cli.inspect_engine import inspect_bundle

        inspect_bundle(model, as_json)
    else:
        from samkr_edge.cli.inspect_onnx import inspect_onnx

        found = inspect_onnx(model, profile, as_json)
    if strict and found:
        _fail(model, found, as_json)


def _fail(model: Path, found: tuple[Finding, ...], as_json: bool) -> None:
    """End with exit code 6, naming the kinds of findings and the first one."""
    from samkr_edge.terminal import say

    first = ": ".join((*found[0].modules[:1], found[0].what))
    error = SamkrError(
        "SE-Q84",
        f"{model.name} has {counted(len(found), 'finding')}",
        {**dict(Counter(one.kind for one in found).most_common(3)), "first": first},
        fix=f"samkr-edge inspect {quoted(model)}   # lists them, and policy lines that fix them",
    )
    if not as_json:
        raise error
    say(str(error))  # the printed object holds them; the root would print another
    raise typer.Exit(error.exit_code)
