"""What one run measures; models and images are opened and checked before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.rows import row_names
from benchmarks.schema import DatasetFacts, ProtocolFacts, Results
from samkr_edge.dataset.trained_on import Seen, require_unseen, trainings_of
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.files.one_file import digests_of, refuse_twice

if TYPE_CHECKING:
    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.evaluation.against_reference import ReferencePeople
    from samkr_edge.pose_model import PoseModel

Progress = Callable[..., AbstractContextManager[Callable[..., Any]]]

# Photographs that are looked at where no number is given.
DEFAULT_PHOTOS = 100


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        models: model files; names in the table are made from their cards.
        baseline: the model file that the others are compared with.
        data, split, limit: where accuracy and images come from; without it and ``photos`` only latency is measured.
        photos: folders, globs and videos of pictures without labels, in place of ``data``: the others are compared with
            the baseline, an FP32 model.
        protocol: of the AP, without its rescoring network, which is read from the file ``rescore``.
        rounds, seconds: budget of the timing; one of the two.
        threads: threads of each model.
        cuda_graph: launch the network of each TensorRT engine as one CUDA graph.
        mode, batch: one image after the other, or ``offline`` in batches of this size.
        power: measure energy too, if there is a meter.
        memory: measure peak memory too, in a separate process for each model.
        bound: compare each network with the lower bound of its time here.
        samples: images with predictions to save.
        max_drop: AP budget of the verdict.
        anyway: measure train-fit AP if a model was trained on these images.
        reuse: take the AP of unchanged models from the results that are already in the output folder.
        command: the command line, for the record.
    """

    models: Sequence[Path]
    baseline: Path
    data: Path | None = None
    photos: Sequence[str] = ()
    split: str = "val"
    limit: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    rescore: Path | None = None
    rounds: int | None = None
    seconds: float | None = None
    threads: int = 1
    cuda_graph: bool = False
    mode: Literal["single-stream", "offline"] = "single-stream"
    batch: int = 1
    power: bool = False
    memory: bool = True
    bound: bool = False
    samples: int = 6
    max_drop: float | None = None
    anyway: bool = False
    reuse: Results | None = None
    command: str = ""


@dataclass(frozen=True)
class Opened:
    """Models and images of a run, opened and checked before anything is measured.

    Attributes:
        models, files, hashes: by the names of the rows.
        dataset, facts, records: what AP is measured on; None without data.
        protocol, measured_by: the AP protocol, and its record.
        seen: models trained on these images.
        reference: what the baseline, an FP32 model, finds on photographs; ``dataset`` is made of it. None without
            photographs.
    """

    models: dict[str, PoseModel]
    files: dict[str, Path]
    hashes: dict[str, str]
    baseline: str
    dataset: KeypointDataset | None
    facts: DatasetFacts | None
    records: tuple[ImageRecord, ...]
    protocol: Protocol
    measured_by: ProtocolFacts
    seen: Seen
    reference: ReferencePeople | None = None

    @property
    def on_gpu(self) -> bool:
        return any(model.kind == "engine" for model in self.models.values())


@contextmanager
def open_plan(plan: Plan, progress: Progress) -> Iterator[Opened]:
    """Open data and models; refuse combinations that do not fit. Copies of photographs are deleted at the end.

    Raises:
        SamkrError: those of opening a model or the data; SE-D27 and SE-D26 data that does not fit; SE-U75 a model
            that cannot follow the protocol; SE-U62 the same model twice; SE-D45 a model was trained on these images;
            with photographs also SE-D57 none is left, SE-U09 and SE-D58 the baseline cannot stand for labels.
    """
    # The data first: opening it is quick, and a mistake in it should not cost the loading of the models.
    dataset, facts, records = _open_data(plan)
    digests = digests_of(plan.models)
    models, files = _open_models(plan)
    baseline = next(name for name, path in files.items() if path == plan.baseline)
    with _reference(plan, models, baseline, progress) as reference:
        if reference is not None:
            from benchmarks.measure.accuracy import dataset_facts

            dataset, records = reference.dataset, reference.dataset.images
            facts = dataset_facts(dataset, None)
        protocol, measured_by, seen = plan.protocol, ProtocolFacts(), Seen()
        if dataset is not None:
            protocol, measured_by, seen = _judged_by(plan, models, dataset, records)
        yield Opened(
            models=models,
            files=files,
            hashes={name: digests[path] for name, path in files.items()},
            baseline=baseline,
            dataset=dataset,
            facts=facts,
            records=records,
            protocol=protocol,
            measured_by=measured_by,
            seen=seen,
            reference=reference,
        )


@contextmanager
def _reference(
    plan: Plan, models: Mapping[str, PoseModel], baseline: str, progress: Progress
) -> Iterator[ReferencePeople | None]:
    """The people of the baseline on the photographs; None without photographs."""
    if not plan.photos:
        yield None
        return
    from samkr_edge.dataset.photos import KnownPictures
    from samkr_edge.evaluation.against_reference import reference_people, require_fp32
    from samkr_edge.frames.photo_set import photo_set

    model = models[baseline]
    require_fp32(model.card, model.path)
    for name, other in models.items():
        other.card.skeleton.require_same(
            model.card.skeleton,
            f"model {name}",
            f"baseline {baseline}",
            fix="give models with the same keypoints, one pair a run",
        )
    known = KnownPictures.calibrating(each.card for each in models.values())
    with photo_set(plan.photos, plan.limit or DEFAULT_PHOTOS, leave_out=known) as photos:
        with progress("people that FP32 finds", len(photos), unit="photos") as advance:
            reference = reference_people(model, photos.records, advance=advance)
        yield reference


def _open_data(
    plan: Plan,
) -> tuple[KeypointDataset | None, DatasetFacts | None, tuple[ImageRecord, ...]]:
    if plan.data is None:
        return None, None, ()
    from benchmarks.measure.accuracy import dataset_facts, evaluated_images
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.usable import remarks
    from samkr_edge.terminal import say

    dataset = open_dataset(plan.data, plan.split)
    facts, records = dataset_facts(dataset, plan.limit), evaluated_images(dataset, plan.limit)
    for line in remarks(dataset, records):
        say(line)
    return dataset, facts, records


def _open_models(plan: Plan) -> tuple[dict[str, PoseModel], dict[str, Path]]:
    from samkr_edge.pose_model import load_model

    paths = list(plan.models)
    refuse_twice(paths, "measured")
    loaded = [load_model(path, threads=plan.threads, cuda_graph=plan.cuda_graph) for path in paths]
    names = row_names(loaded)
    return dict(zip(names, loaded, strict=True)), dict(zip(names, paths, strict=True))


def _judged_by(
    plan: Plan, models: Mapping[str, PoseModel], dataset: KeypointDataset, records: Sequence[ImageRecord]
) -> tuple[Protocol, ProtocolFacts, Seen]:
    """The AP protocol, its record, and the models trained on these images; determined before the work."""
    from benchmarks.measure.accuracy import check_skeletons, open_protocol

    check_skeletons(models, dataset)
    protocol, measured_by = open_protocol(plan.protocol, plan.rescore, models, dataset.skeleton)
    trainings = {name: trainings_of(model.card) for name, model in models.items()}
    if plan.rescore is not None and protocol.rescoring is not None:
        trainings |= {str(plan.rescore): protocol.rescoring.trainings}
    seen = require_unseen(trainings, dataset, records, anyway=plan.anyway)
    return protocol, measured_by, seen
