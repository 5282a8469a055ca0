"""The schema of ``results.json``: one file per run, with everything needed to trust or repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.protocol import in_words
from samkr_edge.files.artefact import json_in, read_json, write_json
from samkr_edge.printable import counted

SCHEMA_VERSION = 1
FILE_NAME = "results.json"
AGAINST_FP32 = "AP against FP32"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spread(_Strict):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class LatencyStats(_Strict):
    """Milliseconds from image in memory to poses, one frame at a time."""

    frames: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    cv: float = Field(description="coefficient of variation of the total time")
    throughput_fps: float = Field(description="frames per second of a single stream: 1000 / mean_ms")


class SplitMs(_Strict):
    """Where the time goes: means over the frames between p10 and p90 of the total, so the parts add up."""

    preprocess: float
    copy_in: float = Field(0.0, description="host to device, where the runtime has a device of its own")
    network: float
    copy_out: float = 0.0
    decode: float
    other: float = Field(description="time between the stages")

    @property
    def total(self) -> float:
        return self.preprocess + self.copy_in + self.network + self.copy_out + self.decode + self.other


class MemoryMb(_Strict):
    """Memory of a separate process per model, MB of 2^20 bytes."""

    peak: float = Field(
        description="highest resident memory, from opening the file to the third frame, Python included"
    )
    before_opening: float = Field(description="highest before the model was opened")
    gpu: float | None = Field(
        None, description="peak increase of GPU memory in use, of the whole machine; None without a GPU"
    )
    gpu_source: str | None = Field(
        None,
        description="cuMemGetInfo: without the CUDA context; NvMapMemUsed or MemAvailable: with it",
    )
    shared: bool = Field(False, description="both are one memory, so the sum is what the model needs")


class Energy(_Strict):
    """Energy of one frame, above idle."""

    millijoules_per_frame: float
    watts: float = Field(description="mean while the model ran, idle included")
    frames: int
    samples: int = Field(description="readings of the meter")


class PowerFacts(_Strict):
    """The meter."""

    source: str
    rail: str
    sampling_hz: float
    idle_watts: float = Field(description="subtracted from every model's watts")


class LayerAgainstBound(_Strict):
    """A module of the network, or a kind of operation that belongs to none: its time and its lower bound."""

    module: str
    ms: float
    bound_ms: float
    by: str = Field(description="compute or bandwidth; empty without a bound")


class LowerBound(_Strict):
    """The least time of the network by what this device or core can do at most. Not a measurement of the model."""

    ms: float = Field(description="of one image; the network alone, without decoding")
    share: float = Field(description="bound / measured time of the network, 0..1")
    by: str = Field(description="compute or bandwidth: what bounds most of it")
    bandwidth_share: float = Field(description="of the bound, 0..1, in layers that the bandwidth bounds")
    peaks: str = Field(description="what it was computed from")
    layers: list[LayerAgainstBound] = Field([], description="those that lose most, of one inference")


class PaperResult(_Strict):
    """The paper's figure for this network. Not measured here."""

    ap: float
    where: str
    latency_ms: float | None = None


class AgainstFp32(_Strict):
    """How a model's people on photographs differ from the FP32 model's, see
    ``samkr_edge.evaluation.against_reference.AgainstReference``."""

    ap: Spread = Field(description="AP against FP32, 0..100: the FP32 model's people stand for labels")
    kept: int = Field(description="people whom both show")
    lost: int = Field(description="people whom only FP32 shows")
    new: int = Field(description="people whom only this model shows")
    moved_px: float | None = Field(
        description="pixels within which half of FP32's joints are found, those of people lost at no distance"
    )
    moved_px_p95: float | None = Field(description="the same of 95 % of the joints")
    oks: float = Field(description="median OKS of FP32's people, 0..1; that of people lost is 0")
    oks_p5: float = Field(description="its 5th percentile")


class ModelResult(_Strict):
    """One row of the table."""

    name: str
    file: str = Field(description="file name without its folder")
    sha256: str
    size_mb: float
    network: str = Field(description="zoo name")
    kind: str = Field(description="checkpoint, onnx or engine")
    precision: str
    stage: str
    input_size: tuple[int, int] = Field(description="(height, width)")
    is_baseline: bool
    latency: LatencyStats
    split_ms: SplitMs
    speed_up: Spread | None = Field(
        None, description="median over rounds of baseline / model; None for the baseline"
    )
    accuracy: dict[str, float] | None = Field(None, description="ap, ap50, ... in 0..100")
    difference: Spread | None = Field(
        None, description="AP minus the baseline's, paired bootstrap over images"
    )
    accuracy_reused: bool = False
    against_fp32: AgainstFp32 | None = Field(
        default=None, description="in place of accuracy and difference, where photographs have no labels"
    )
    trained_on: bool = Field(
        default=False, description="the network was trained on these images: train-fit AP"
    )
    memory_mb: MemoryMb | None = None
    int8_share: float | None = None  # of the multiply-accumulates, 0..1
    energy: Energy | None = None
    bound: LowerBound | None = None
    paper: PaperResult | None = None
    stable: bool
    reasons: list[str] = []

    @property
    def metric(self) -> str:
        """What ``ap`` is called wherever it is shown."""
        return AGAINST_FP32 if self.against_fp32 else "train-fit AP" if self.trained_on else "AP"

    @property
    def ap(self) -> float | None:
        """By labels, or against FP32: ``metric`` says which."""
        if self.against_fp32:
            return self.against_fp32.ap.value
        return self.accuracy["ap"] if self.accuracy else None

    @property
    def change(self) -> Spread | None:
        """``ap`` minus the baseline's, with its 95 % interval; None for the baseline."""
        if self.against_fp32 is None or self.is_baseline:
            return self.difference
        ap = self.against_fp32.ap
        return Spread(value=ap.value - 100, low=ap.low - 100, high=ap.high - 100)

    @property
    def simulated(self) -> bool:
        """A quantized checkpoint: torch computes its INT8 in floats, so its time says nothing about INT8."""
        return self.kind == "checkpoint" and self.precision in ("int8", "fp8")


class DatasetFacts(_Strict):
    """What was evaluated on."""

    name: str
    split: str
    kind: str
    skeleton: str
    annotations_sha256: str = Field(description="of the annotation file, or of the model that stands for it")
    labelled_by: str = Field(default="", description="the precision whose people stand for labels: FP32")
    images: int = Field(description="images evaluated")
    images_in_split: int
    people: int = Field(description="people with labelled joints in the evaluated images, or whom FP32 shows")
    images_digest: str = Field(description="sha256 over id, name and bytes of every evaluated image")

    @property
    def labelled_images(self) -> str:
        """Equal for two runs that were scored on the same images with the same labels."""
        return f"{self.annotations_sha256} {self.images_digest} {self.images}"


class ProtocolFacts(_Strict):
    """The AP protocol. Times are always of one pass, as deployed."""

    name: Literal["deployment", "paper"] = "deployment"
    flip: bool = Field(default=False, description="averaged with the mirrored image")
    resize: Literal["fit", "paper"] = "fit"
    scales: tuple[float, ...] = (1.0,)
    match: bool = Field(default=False, description="joints moved to the peaks of their heatmaps")
    rescoring_sha256: str | None = Field(default=None, description="of the rescoring network's file")

    @property
    def label(self) -> str:
        """``deployment``, or ``flip + paper resize, scales 0.5 1 2, rescored``."""
        return in_words(
            flip=self.flip,
            paper_resize=self.resize == "paper",
            scales=self.scales,
            match=self.match,
            rescored=self.rescoring_sha256 is not None,
        )


class Machine(_Strict):
    """Clocks, temperature and power mode around the measurement; None if unreadable."""

    family: str = "cpu"
    power_mode_before: str | None = None
    power_mode_after: str | None = None

    mhz_before: float | None = None
    mhz_after: float | None = None
    mhz_min: float | None = None
    mhz_max: float | None = None
    celsius_before: float | None = None
    celsius_after: float | None = None
    celsius_max: float | None = None
    gpu_mhz_before: float | None = None
    gpu_mhz_after: float | None = None
    gpu_mhz_min: float | None = None
    gpu_mhz_max: float | None = None
    gpu_celsius_before: float | None = None
    gpu_celsius_after: float | None = None
    throttled: list[str] = Field([], description="reasons seen during the run")


class Settings(_Strict):
    """How it was measured."""

    mode: Literal["single-stream", "offline"] = "single-stream"
    batch: int = Field(1, description="images per call; in offline mode all times are per image")
    threads: int
    cuda_graph: bool = Field(False, description="requested; a note names the models that run without")
    rounds: int
    seconds: float
    warmup_rounds: int
    warmup_settled: bool
    images: int = Field(description="images that the timing rotated over")
    random_image: bool


class Results(_Strict):
    """One run of ``bench``."""

    schema_version: Literal[1] = 1
    kind: Literal["samkr-edge bench"] = "samkr-edge bench"
    label: str | None = None  # of a cell of a sweep
    time: str = Field(description="UTC, ISO 8601")
    command: str
    version: str
    environment: dict[str, Any]
    settings: Settings
    machine: Machine
    stable: bool
    reasons: list[str] = []
    stability_fix: str | None = None
    dataset: DatasetFacts | None = None
    protocol: ProtocolFacts = ProtocolFacts()  # older runs did not record it and were deployment
    verdict: str
    notes: list[str] = []
    recommended: str | None = None
    models: list[ModelResult]
    power: PowerFacts | None = None
    power_reason: str | None = Field(None, description="why there is no energy, if it was requested")
    samples: str | None = Field(None, description="folder of sample predictions, relative to this file")

    @model_validator(mode="after")
    def _one_baseline(self) -> Results:
        if sum(model.is_baseline for model in self.models) != 1:
            raise ValueError("exactly one row must be the baseline")
        return self

    def baseline(self) -> ModelResult:
        return next(model for model in self.models if model.is_baseline)

    @property
    def ap_label(self) -> str:
        """Split and protocol of this run's AP: ``val, deployment``, or ``photos, against FP32``; empty if none was
        measured."""
        train_fit = ", train-fit" if any(model.trained_on for model in self.models) else ""
        if self.dataset is None:
            return ""
        by = f"against {self.dataset.labelled_by}" if self.dataset.labelled_by else self.protocol.label
        return f"{self.dataset.split}, {by}{train_fit}"

    @property
    def metric(self) -> str:
        """What a column of this run's AP is headed: ``AP``, or ``AP against FP32``."""
        return AGAINST_FP32 if self.dataset and self.dataset.labelled_by else "AP"

    @property
    def scored_on(self) -> str:
        """``400 images of people/val, deployment``, or ``60 photos``; empty if accuracy was not measured."""
        if self.dataset is None:
            return ""
        if self.dataset.labelled_by:
            return counted(self.dataset.images, "photo")
        return f"{counted(self.dataset.images, 'image')} of {self.dataset.name}/{self.ap_label}"

    @property
    def ap_basis(self) -> str:
        """Images, labels (or the FP32 model that stands for them) and protocol: AP of two runs can be compared if these
        are equal.
        """
        return f"{self.dataset.labelled_images} {self.protocol.model_dump_json()}" if self.dataset else ""


def common_ap_label(runs: Sequence[Results]) -> str:
    """The common label of the AP of these runs; empty if they differ, so that each needs its own."""
    labels = {results.ap_label for results in runs if results.dataset is not None}
    return labels.pop() if len(labels) == 1 else ""


def all_reasons(results: Results) -> list[str]:
    """Why the times cannot be trusted: reasons of the run, then of single models."""
    return [
        *results.reasons,
        *(f"{model.name}: {reason}" for model in results.models for reason in model.reasons),
    ]


def write_results(path: Path, results: Results) -> None:
    """Write ``results.json`` atomically."""
    write_json(path, results.model_dump(mode="json"))


def is_results(path: Path) -> bool:
    """Whether a file is a results file of any version."""
    payload = json_in(path)
    return isinstance(payload, dict) and payload.keys() >= {"schema_version", "models"}


def read_results(path: Path) -> Results:
    """Read a results file; a folder stands for the ``results.json`` in it.

    Raises:
        SamkrError: SE-A23 missing, SE-D03 not JSON; SE-A60 not a results file; SE-A61 another schema
            version; SE-A62 damaged.
    """
    if path.is_dir():
        path = path / FILE_NAME
    content = read_json(path, "results file")
    if not isinstance(content, dict) or "schema_version" not in content or "models" not in content:
        raise SamkrError(
            "SE-A60",
            f"{path} is not a results file of `samkr-edge bench`",
            {"expected": "an object with schema_version and models"},
            fix="samkr-edge bench MODEL... --out results",
        )
    if content["schema_version"] != SCHEMA_VERSION:
        raise SamkrError(
            "SE-A61",
            f"{path} was written by another version of samkr-edge, so it was not read",
            {
                "schema": f"{content['schema_version']!r}, this version reads {SCHEMA_VERSION}",
                "written by": f"samkr-edge {content.get('version', 'unknown')}",
            },
            fix="measure again with this version: samkr-edge bench MODEL... --out results",
        )
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise SamkrError(
            "SE-A62",
            f"{path} is damaged or was edited by hand, so it was not read",
            {
                "at": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
                "problems": error.error_count(),
            },
            fix="measure again: samkr-edge bench MODEL... --out results",
        ) from error
