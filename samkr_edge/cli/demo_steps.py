"""Steps that the demos have in common."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

from samkr_edge.cli.steps import CommandStep
from samkr_edge.doctor.opencv_install import pip_line
from samkr_edge.packages import not_installed


def step(
    title: str,
    line: str,
    *,
    reads: tuple[Path, ...] = (),
    makes: tuple[Path, ...] = (),
    splits: tuple[tuple[Path, str], ...] = (),
    photos: tuple[str, ...] = (),
    workspace: Path | None = None,
) -> CommandStep:
    """A step from its command line after ``samkr-edge``, as a shell would read it."""
    return CommandStep(title, tuple(shlex.split(line)), reads, makes, workspace, splits, photos)


def deployed(checkpoint: Path, stem: Path, label: str, options: str = "") -> list[CommandStep]:
    """A checkpoint as ONNX, with these options of `export`, and as a model of this CPU."""
    onnx, built = Path(f"{stem}.onnx"), Path(f"{stem}.cpu.onnx")
    return [
        step(
            f"Export {label} to ONNX and check it against torch",
            f"export {as_word(checkpoint)} {options} -o {as_word(onnx)}",
            reads=(checkpoint,), makes=(onnx,),
        ),
        step(
            f"Build {label} for this CPU",
            f"build {as_word(onnx)} --target cpu -o {as_word(built)}",
            reads=(onnx,), makes=(built, Path(f"{built}.json")),
        ),
    ]  # fmt: skip


def measured(
    title: str,
    built: tuple[Path, ...],
    images: str,
    seconds: float,
    out: Path,
    *,
    splits: tuple[tuple[Path, str], ...] = (),
    photos: tuple[str, ...] = (),
) -> list[CommandStep]:
    """Models compared on images, as options of `bench` name them, and timed for so many seconds; and the report."""
    results, report = out / "results" / "results.json", out / "report.html"
    return [
        step(
            title,
            f"bench {' '.join(map(as_word, built))} {images} --seconds {seconds:g} --out {as_word(results.parent)}",
            reads=built, splits=splits, photos=photos, makes=(results,),
        ),
        step(
            "Write the report", f"report {as_word(results)} -o {as_word(report)}", reads=(results,), makes=(report,)
        ),
    ]  # fmt: skip


def require_installed() -> None:
    """Refuse before the first step, and all at once, what later ones would: SE-U70, a package is missing."""
    for package in ("torch", "onnx", "modelopt", "jinja2"):
        if find_spec(package) is None:
            raise not_installed("`demo`", package, pip_line("quantize,report", find_spec("cv2") is None))


def as_word(path: Path) -> str:
    """A path as a shell needs it."""
    return shlex.quote(str(path))
