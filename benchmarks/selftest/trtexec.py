"""``trtexec``, NVIDIA's benchmark: its path, the options to measure as we do, and its output."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from samkr_edge.errors import SamkrError, words_of
from samkr_edge.fixes import quoted

# Where JetPack's and Debian's packages put it; no pip wheel brings it.
INSTALLED = Path("/usr/src/tensorrt/bin/trtexec")

# Options up to version 10; from 11 on they are the default.
_ALIKE_BEFORE_11 = ("--useSpinWait", "--noDataTransfers")
_VERSION = re.compile(r"\[TensorRT v(\d+(?:\.\d+)*)\]")
# Not "Total GPU Compute Time". Before the summary every line may begin with a time stamp and a level.
_MEDIAN = re.compile(r"(?:^|\] )GPU Compute Time: .*?\bmedian = ([\d.e+-]+) ms", re.MULTILINE)
_NO_GRAPH = re.compile(r"CUDA graph capture on the stream has failed|useCudaGraph flag has been ignored")


@dataclass(frozen=True)
class TrtexecResult:
    """Its output.

    Attributes:
        major: of its TensorRT.
        median_ms: GPU compute time of one inference.
        graph: whether it launched the network as one CUDA graph, as it was asked to.
    """

    major: int
    median_ms: float
    graph: bool


def find_trtexec() -> Path | None:
    """Path from PATH, else from the packages' folders."""
    found = shutil.which("trtexec")
    if found is not None:
        return Path(found)
    return INSTALLED if INSTALLED.is_file() else None


def release_of(printed: str) -> tuple[int, ...]:
    """(major, minor, patch) of the head line; empty without one.

    ``[TensorRT v8602]``, ``[TensorRT v100300]`` or ``[TensorRT v11.1.0.106]``.
    """
    found = _VERSION.search(printed)
    if found is None:
        return ()
    if "." in found[1]:
        return tuple(map(int, found[1].split(".")[:3]))
    number = int(found[1])
    major, rest = divmod(number, 10_000 if number >= 10_000 else 1_000)
    return (major, *divmod(rest, 100))


def release(program: Path) -> tuple[int, ...]:
    """Release of a program; raises SamkrError SE-V64 if it does not start."""
    return release_of(_output(program, ["--help"], 60))


def options(engine: Path, major: int, *, graph: bool, warm_up_s: float, seconds: float) -> list[str]:
    """For GPU times that compare with ``TensorRTRunner.gpu_milliseconds``: no copies, and the graph or none."""
    alike = list(_ALIKE_BEFORE_11) if major < 11 else []
    if graph and major < 11:
        alike.append("--useCudaGraph")
    if not graph and major >= 11:
        alike.append("--noCudaGraph")
    return [
        f"--loadEngine={engine}",
        f"--warmUp={1e3 * warm_up_s:.0f}",
        f"--duration={seconds:g}",
        *alike,
    ]


def measure(program: Path, engine: Path, *, graph: bool, warm_up_s: float, seconds: float) -> TrtexecResult:
    """Run it on an engine.

    Raises:
        SamkrError: SE-V64 it fails, hangs, or prints no median.
    """
    major = (release(program) or (0,))[0]
    printed = _output(
        program,
        options(engine, major, graph=graph, warm_up_s=warm_up_s, seconds=seconds),
        300 + warm_up_s + seconds,
    )
    found = _MEDIAN.search(printed)
    if found is None:
        raise _failed(program, {"printed": [line.strip()[:150] for line in printed.splitlines()[-3:]]})
    return TrtexecResult(major, float(found[1]), graph and _NO_GRAPH.search(printed) is None)


def _output(program: Path, arguments: list[str], limit_s: float) -> str:
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(program, {"reason": words_of(error)}) from error
    if done.returncode != 0 and arguments != ["--help"]:
        errors = [line for line in done.stdout.splitlines() if "[E]" in line] or done.stdout.splitlines()
        raise _failed(
            program,
            {"exit code": done.returncode, "printed": [line.strip()[:150] for line in errors[-3:]]},
        )
    return done.stdout


def _failed(program: Path, facts: dict[str, object]) -> SamkrError:
    return SamkrError(
        "SE-V64",
        "trtexec did not measure the engine",
        {"program": program, **facts},
        fix=f"{quoted(program)} --help   # it must come with the TensorRT that built the engine",
    )
