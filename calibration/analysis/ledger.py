"""Where was accuracy lost? The same images through every form of a network, from checkpoint to built model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calibration.analysis.scoring import (
    Bench,
    Difference,
    Followed,
    MapRecorder,
    Maps,
    Measured,
    error_fields,
)
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.passport import is_built
from samkr_edge.pose_model import PoseModel
from training.torch_runner import TorchRunner
from training.without_attention import without_attention


@dataclass(frozen=True)
class LedgerStage:
    """One form of the network.

    Attributes:
        name: the file's; ``final.pt, in memory`` if the network was changed after reading.
        sha256: of its bytes.
        form: ``torch FP32``, ``torch PTQ``, ``ONNX QAT``, ``built PTQ without attention``, ...
        input_size: (height, width).
        ap, oks: AP in 0..100, mean OKS in 0..1.
        parent: name of the stage it is compared with; None for the first.
        difference: to the parent.
        total: to the first stage.
        map_errors: relative L2 error of each map against the parent's; None where the input sizes differ.
        followed: how it follows the people of the FP32 network; None on labelled images.
        beside: True for a variant of the parent's file, changed in memory: no step towards the built model.
    """

    name: str
    sha256: str
    form: str
    input_size: tuple[int, int]
    ap: float
    oks: float
    parent: str | None
    difference: Difference | None
    total: Difference | None
    map_errors: dict[str, float | None]
    beside: bool = False
    followed: Followed | None = None

    def to_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name == "map_errors":
                facts |= error_fields(value)
            elif name in ("difference", "total"):
                facts[name] = value.to_dict() if value else None
            else:
                facts[name] = value
        return {**facts, "followed": asdict(self.followed) if self.followed else None}


def parents(models: Sequence[PoseModel]) -> list[int | None]:
    """Index of the stage that each stage is compared with.

    A form is compared with the previous one of the same numbers (FP32, PTQ or QAT) that leaves out the same parts:
    ONNX FP32 with torch FP32, a built INT8 model with its Q/DQ ONNX. The first form that leaves a part out is compared
    with the whole network of its numbers, and the first form of its numbers with the first of all.
    """
    found: list[int | None] = []
    latest: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for index, card in enumerate(model.card for model in models):
        whole = (card.precision, card.stage, ())
        kind = (card.precision, card.stage, tuple(card.left_out))
        found.append(latest.get(kind, latest.get(whole, 0)) if index else None)
        latest[kind] = index
    return found


def form_of(model: PoseModel) -> str:
    """``torch FP32``, ``ONNX PTQ``, ``built QAT``, ``engine PTQ without attention``."""
    numbers = model.card.stage.upper() if model.card.quantized else model.card.precision.upper()
    if model.card.precision == "fp8":
        numbers += " FP8"
    made = {"checkpoint": "torch", "onnx": "ONNX"}.get(model.kind, model.kind)
    if model.kind == "onnx" and is_built(model.path):
        made = "built"
    return " ".join([made, numbers, *(f"without {part}" for part in model.card.left_out)])


def without_its_attention(model: PoseModel) -> PoseModel | None:
    """A checkpoint's network in memory, without its attention; None if it has none or is no checkpoint."""
    if not isinstance(model.runner, TorchRunner):
        return None
    network = model.runner.network
    if not network.config.groups:
        return None
    card = model.card.with_provenance(without={"attention": {"judged": "in this ledger"}})
    return PoseModel(TorchRunner(without_attention(network), card), model.path)


def follow(
    models: Sequence[PoseModel], bench: Bench, *, advance: Callable[..., None] | None = None
) -> list[LedgerStage]:
    """Measure every model on the bench, in order.

    Raises:
        SamkrError: SE-A81 the models are not forms of one network, SE-D26 they have different keypoints.
    """
    _check_same_network(models)
    stages: list[LedgerStage] = []
    measured: list[Measured] = []
    maps: list[Maps] = []
    found = parents(models)
    names: list[str] = []
    for index, (model, parent) in enumerate(zip(models, found, strict=True)):
        in_memory = parent is not None and models[parent].path == model.path
        names.append(f"{model.path.name}, in memory" if in_memory else model.path.name)
        comparable = parent is not None and models[parent].card.input_size == model.card.input_size
        reference = maps[parent] if comparable and parent is not None else None
        recorder = MapRecorder(model.runner, reference, keep=index in found)
        now = bench.run(recorder, advance=advance)
        measured.append(now)
        maps.append(recorder.kept)
        stages.append(
            LedgerStage(
                names[index],
                sha256_of(model.path),
                form_of(model),
                model.card.input_size,
                now.ap,
                now.oks,
                None if parent is None else names[parent],
                None if parent is None else bench.compare(measured[parent], now),
                None if parent is None else bench.compare(measured[0], now),
                {name: error if comparable else None for name, error in recorder.errors.items()},
                in_memory and index not in found,
                now.followed,
            )
        )
    return stages


def verdict(stages: Sequence[LedgerStage], metric: str = "AP") -> str:
    """The step that lost accuracy, if the images can tell; ``metric`` is what AP is called."""
    losses = [
        (stage.difference.ap.difference, stage)
        for stage in stages
        if stage.difference is not None and stage.difference.worse and not stage.beside
    ]
    if not losses:
        return "no step lost accuracy beyond the noise of these images"
    _, worst = min(losses, key=lambda item: item[0])
    assert worst.difference is not None
    ap, oks = worst.difference.ap, worst.difference.oks
    return (
        f"accuracy was lost between {worst.parent} and {worst.name} ({worst.form}): {ap.text()} {metric}, "
        f"{oks.text(100)} OKS x 100"
    )


def _check_same_network(models: Sequence[PoseModel]) -> None:
    first, *others = models
    for model in others:
        if model.card.model != first.card.model:
            raise SamkrError(
                "SE-A81",
                "these models are not forms of one network, so there is nothing to compare step by step",
                {str(first.path): first.card.model, str(model.path): model.card.model},
                fix="samkr-edge bench MODEL... --data DIR   # compares any models",
            )
        fix = "name a checkpoint, and what was quantized, exported and built from it"
        first.card.skeleton.require_same(model.card.skeleton, str(first.path), str(model.path), fix)
