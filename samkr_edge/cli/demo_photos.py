"""`samkr-edge demo --photos`: a ready network on people's own pictures, as a sequence of the public commands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samkr_edge.cli.demo_steps import as_word, deployed, measured, step
from samkr_edge.cli.steps import CommandStep
from samkr_edge.ready_name import PREFIX

NETWORK = "dekr_w32_coco"


@dataclass(frozen=True)
class PhotoScale:
    """How much of everything.

    Attributes:
        size: side of the network's input, pixels. Its own, 512 or 640, would take a CPU more than minutes.
        images: to calibrate on, and as many others to judge on.
        bench_seconds: of timing.
    """

    size: int
    images: int
    bench_seconds: float


FULL = PhotoScale(384, 48, 20)
QUICK = PhotoScale(256, 16, 3)


def photo_plan(
    out: Path, network: str, photos: Sequence[str], size: str, scale: PhotoScale, threads: int | None
) -> list[CommandStep]:
    """The steps; pure, so that a test can read them.

    Args:
        out: folder for all artefacts.
        network: a ready network, or the path of a checkpoint.
        photos: what `--photos` names.
        size: of the network's input, HxW.
        scale: how much of everything.
        threads: for calibration; None: all cores.
    """
    words = tuple(photos)
    pictures = " ".join(f"--photos {shlex.quote(word)}" for word in words)
    threading = f"--threads {threads}" if threads else ""
    fp32, ptq, steps = out / "fp32.pt", out / "ptq.pt", []
    if os.path.isfile(network):
        fp32 = Path(network)
    else:
        name = network.removeprefix(PREFIX)
        line = f"zoo get {shlex.quote(name)} -o {as_word(fp32)}"
        steps.append(step(f"Get the network {name}", line, makes=(fp32,)))
    steps.append(
        step(
            f"Calibrate on your pictures and quantize to INT8 (PTQ), at {size} pixels",
            f"quantize {as_word(fp32)} {pictures} --images {scale.images} --size {size} "
            f"-o {as_word(ptq)} {threading}",
            reads=(fp32,), photos=words, makes=(ptq,),
        )
    )  # fmt: skip
    forms = [(fp32, out / "fp32", "FP32", f"--size {size}"), (ptq, out / "ptq", "PTQ INT8", "")]
    steps += [each for form in forms for each in deployed(*form)]
    built = tuple(Path(f"{stem}.cpu.onnx") for _, stem, *_ in forms)
    title = "Compare both on other pictures of yours, and time them, interleaved on one thread"
    return steps + measured(
        title, built, f"{pictures} --limit {scale.images}", scale.bench_seconds, out, photos=words
    )
