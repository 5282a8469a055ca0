"""What a sweep measures, as data: a suite file and its cells."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.evaluation.protocol import PAPER, Protocol
from samkr_edge.files.named import missing_file
from samkr_edge.files.yaml_file import own_or_shipped, read_yaml

AS_IS = "as-is"
SUITES = Path(__file__).parent / "suites"


ALL_MODES = "all"


class _SuitePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_SuitePart):
    """Models that belong together: they are timed interleaved, the first is the baseline.

    Either ``files`` (made elsewhere), or ``network`` (exported, quantized and built here by samkr-edge's commands).
    With neither, the files are those of ``--model``.

    Attributes:
        name: used in the table and in file names.
        files: ONNX files or built models; an ONNX is built for each target, a built model runs as it is.
        network: zoo name.
        checkpoint: its weights; None for random ones, which measure speed and not accuracy.
        precisions: ``fp32`` and ``int8`` (PTQ by the default policy).
        sizes: inputs as ``HxW``; empty for the network's own.
        data: COCO or CrowdPose directory; None for latency only.
        split: of the data; None takes the suite's.
        protocol: of the AP. ``paper`` (flip, the paper's resize) needs inputs of any size, so checkpoints
            are measured as they are: the FP32 one and the quantized one, unbuilt.
        scales, rescore: of the protocol ``paper``: sizes of the input, and the file of a rescoring network.
    """

    name: str
    files: tuple[Path, ...] = ()
    network: str | None = None
    checkpoint: Path | None = None
    precisions: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
    sizes: tuple[str, ...] = ()
    data: Path | None = None
    split: str | None = None
    protocol: Literal["deployment", "paper"] = "deployment"
    scales: tuple[float, ...] = (1.0,)
    rescore: Path | None = None

    @model_validator(mode="after")
    def _can_follow_its_protocol(self) -> Entry:
        if self.protocol == "deployment":
            if self.scales != (1.0,) or self.rescore is not None:
                raise ValueError(f"{self.name}: scales and rescore need protocol: paper")
        elif self.network and not self.checkpoint:
            raise ValueError(f"{self.name}: random weights have no AP, so protocol: paper needs a checkpoint")
        elif self.sizes:
            raise ValueError(
                f"{self.name}: protocol: paper resizes to the checkpoint's own size, so it takes no sizes"
            )
        try:
            self.measured_by()
        except SamkrError as error:
            raise ValueError(f"{self.name}: {error.message}") from error
        return self

    @property
    def calibrates(self) -> bool:
        """Whether a model is quantized for it here, on the training split of its data."""
        return self.network is not None and "int8" in self.precisions

    def measured_by(self) -> Protocol:
        """The protocol, its rescoring network not yet read."""
        return Protocol() if self.protocol == "deployment" else replace(PAPER, scales=self.scales)

    @model_validator(mode="after")
    def _one_origin(self) -> Entry:
        if self.files and self.network:
            raise ValueError(f"{self.name}: files and network are mutually exclusive")
        if self.checkpoint and not self.network:
            raise ValueError(f"{self.name}: a checkpoint needs its network's name")
        return self


class Suite(_SuitePart):
    """A sweep: every entry at every size, target, batch, thread count and power mode.

    Attributes:
        why: what the suite answers; printed.
        targets: profile names, ``auto``, or ``as-is`` for ONNX files to run unbuilt.
        batches: 1 is single stream, more is offline in batches of this size.
        power_modes: nvpmodel names, or ``all`` that the board has. A cell of another mode than the current one waits.
        seconds: timing of one cell with all its models.
        split, limit: images that are scored; ``limit=None`` for all.
        anyway: also score models on images they were trained on: train-fit AP.
        calibration_images: from the training split; networks without data see a few of noise.
    """

    schema_version: Literal[1] = 1
    name: str
    why: str
    models: tuple[Entry, ...] = Field(min_length=1)
    targets: tuple[str, ...] = ("cpu",)
    batches: tuple[PositiveInt, ...] = (1,)
    threads: tuple[PositiveInt, ...] = (1,)
    power_modes: tuple[str | None, ...] = (None,)
    split: str = "val"
    limit: PositiveInt | None = None
    anyway: bool = False
    seconds: float = Field(20.0, gt=0)
    calibration_images: int = Field(64, ge=8)
    power: bool = False
    memory: bool = True


@dataclass(frozen=True)
class Cell:
    """One measurement of a sweep: the precisions of one entry, interleaved."""

    entry: Entry
    split: str  # the entry's, else the suite's
    size: str | None
    target: str
    batch: int
    threads: int
    power_mode: str | None

    @property
    def label(self) -> str:
        """``samkr_tiny 128x128, cpu, 2 threads``, and split and protocol of the AP unless it is deployment on val."""
        parts = [" ".join(filter(None, (self.entry.name, self.size))), self.target]
        parts += [f"batch {self.batch}"] if self.batch > 1 else []
        parts += [f"{self.threads} threads"] if self.threads > 1 else []
        parts += [self.power_mode] if self.power_mode else []
        return ", ".join([*parts, *self._unusual])

    @property
    def _unusual(self) -> list[str]:
        entry = self.entry
        words = [self.split] if entry.data and self.split != "val" else []
        if entry.protocol != "deployment":
            words += [entry.measured_by().label, *(["rescored"] if entry.rescore else [])]
        return words

    @property
    def slug(self) -> str:
        """For file names."""
        words = (
            self.entry.name,
            self.size,
            self.target,
            f"b{self.batch}",
            f"t{self.threads}",
            self.power_mode,
            *self._unusual,
        )
        return "-".join(
            "".join(c if c.isalnum() or c in "._" else "_" for c in word) for word in words if word
        )

    def axes(self) -> dict[str, Any]:
        """The cell's settings without its models, for the key."""
        names = ("split", "size", "target", "batch", "threads", "power_mode")
        of_entry = {name: getattr(self.entry, name) for name in ("protocol", "scales")}
        return {**{name: getattr(self, name) for name in names}, **of_entry}


def cells_of(suite: Suite) -> list[Cell]:
    """All cells. Power modes change slowest: a change may need a reboot."""
    return [
        Cell(entry, entry.split or suite.split, size, target, batch, threads, mode)
        for mode, entry in product(suite.power_modes, suite.models)
        for size in entry.sizes or (None,)
        for target, batch, threads in product(
            suite.targets if entry.protocol == "deployment" else (AS_IS,), suite.batches, suite.threads
        )
    ]


def read_suite(name: str) -> Suite:
    """A suite file, or a shipped suite by its name.

    Raises:
        SamkrError: SE-A23 no such file, SE-U68 no suite of this name, SE-A66 not a suite.
    """
    path = Path(name) if Path(name).is_file() else own_or_shipped(name, SUITES)
    if not path.is_file():
        if path == Path(name):
            raise missing_file(name, "suite")
        names = sorted(file.stem for file in SUITES.glob("*.yaml"))
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        raise SamkrError(
            "SE-U68",
            f"there is no suite {name}, neither a file nor a shipped one",
            {"ours": ", ".join(names)},
            fix=f"samkr-edge sweep {near[0] if near else names[0]}",
        )
    try:
        return Suite.model_validate(read_yaml(path))
    except ValueError as error:
        reason = reason_of(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise SamkrError(
            "SE-A66",
            f"{path.name} is not a suite that this version can read",
            {"reason": reason[:160]},
            fix="compare it with a shipped one: samkr-edge sweep quick --dry-run",
        ) from error
