"""The models of a sweep's cells, each quantized, exported and built once by samkr-edge's commands."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sweep.key import Pictures, digest, here
from benchmarks.sweep.suite import AS_IS, Cell, Suite
from samkr_edge import __version__, child_process
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing, sha256_of
from samkr_edge.stopping import taking_along
from samkr_edge.terminal import say

# Random weights that see noise are timed and not scored: what ranges INT8 has does not matter.
_NOISE_IMAGES = 8


def make_models(suite: Suite, cell: Cell, folder: Path, pictures: Pictures) -> list[Path]:
    """The models of a cell, made if missing: built models, or checkpoints for the paper's protocol, which no built
    model can follow.
    """
    entry = cell.entry
    if entry.network is None:
        stems = [path.stem for path in entry.files]
        # Files of the same name from two folders must not overwrite each other's builds.
        return [
            _build(path, cell, folder / str(number) if stems.count(path.stem) > 1 else folder)
            for number, path in enumerate(entry.files)
        ]
    origin = "untrained" if entry.checkpoint is None else sha256_of(entry.checkpoint)
    made = []
    for precision in entry.precisions:
        stem = f"{entry.name}-{precision}"
        source = [entry.network, "--untrained"] if entry.checkpoint is None else [str(entry.checkpoint)]
        measured, quantized = entry.checkpoint, None
        if precision == "int8":
            if entry.data is not None:
                images = ["--data", str(entry.data), "--images", str(suite.calibration_images)]
            else:
                images = ["--random-images", str(_NOISE_IMAGES)]
            quantized = folder / f"{stem}.pt"
            run_command(["quantize", *source, *images], quantized, f"{origin} {pictures.calibrated}")
            measured, source = quantized, [str(quantized)]
        if entry.protocol == "paper" and measured is not None:
            made.append(measured)
            continue
        size = ["--size", cell.size] if cell.size else []
        onnx = folder / f"{stem}{'-' + cell.size if cell.size else ''}.onnx"
        run_command(["export", *source, *size], onnx, sha256_of(quantized) if quantized else origin)
        made.append(_build(onnx, cell, folder))
    return made


def _build(source: Path, cell: Cell, folder: Path) -> Path:
    from samkr_edge.passport import CPU_MODEL, is_built

    if cell.target == AS_IS or source.suffix != ".onnx" or is_built(source):
        return source
    suffix = CPU_MODEL if cell.target == "cpu" else f".{cell.target}.engine"
    built = folder / f"{source.stem}{suffix}"
    run_command(["build", str(source), "--target", cell.target], built, sha256_of(source))
    return built


def run_command(arguments: Sequence[str], output: Path, origin: str) -> None:
    """Run a samkr-edge command in a child process, unless its output exists, made from the same inputs on this machine.

    Raises:
        SamkrError: the command's own; SE-B65 if it failed without one.
    """
    stamp = output.with_name(f".{output.name}.made")
    key = digest(__version__, here(), origin, *arguments)
    made = stamp.read_text(encoding="utf-8") if output.is_file() and stamp.is_file() else None
    if made is not None and made == f"{key} {sha256_of(output)}":
        return
    command = [*arguments, "-o", str(output)]
    shown = f"samkr-edge {shlex.join(command)}"
    say(f"$ {shown}")
    # As JSON, since the sweep continues or stops, and sets its exit code, by the command's error.
    child = subprocess.Popen(child_process.command(*command, "--json"), stdout=subprocess.PIPE)
    with taking_along(child):
        printed, _ = child.communicate()
    if child.returncode != 0 or not output.is_file():
        raise _error_of(printed, shown) or SamkrError(
            "SE-B65",
            f"a model of the sweep could not be made: `samkr-edge {arguments[0]}` "
            f"ended with exit code {child.returncode}",
            {"reason": "its output is above"},
            fix=shown,
        )
    with replacing(stamp) as temporary:
        temporary.write_text(f"{key} {sha256_of(output)}", encoding="utf-8")


def _error_of(printed: bytes, command: str) -> SamkrError | None:
    """The error in a command's ``--json`` output; None if there is none, because it crashed or was killed."""
    try:
        error = json.loads(printed.splitlines()[-1])["error"]
        return SamkrError(error["code"], error["message"], {**error["facts"], "in": command}, error["fix"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None
