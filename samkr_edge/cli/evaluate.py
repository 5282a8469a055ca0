"""`samkr-edge eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, CudaGraph, Data, Limit, Model, Rescore, Threads, out_file
from samkr_edge.cli.protocol import Anyway, ByProtocol, Flip, Match, ResizedBy, Scales, protocol_of
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from rich.table import Table

    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.evaluation.predictions import Predictions

LABELS = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "apm": "AP medium", "apl": "AP large", "ar": "AR", "ar50": "AR50",
    "ar75": "AR75", "arm": "AR medium", "arl": "AR large", "easy": "AP easy", "medium": "AP crowded", "hard": "AP hard",
}  # fmt: skip


def evaluate(
    model: Model,
    data: Data,
    split: Annotated[
        str,
        typer.Option(
            help="train, val, trainval or test; test-dev: COCO's images that only its server scores."
        ),
    ] = "val",
    limit: Limit = None,
    protocol: ByProtocol = None,
    flip: Flip = False,
    scales: Scales = "1",
    resize: ResizedBy = None,
    match: Match = False,
    rescore: Rescore = None,
    anyway: Anyway = False,
    threads: Threads = 1,
    cuda_graph: CudaGraph = False,
    predictions: Annotated[
        Path | None,
        out_file(
            "COCO results to write (JSON); for test-dev the server's file and its zip, by default written here.",
            "--predictions",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """AP of any model on a COCO or CrowdPose split, by pycocotools.

    By default this is deployment AP: one pass over the image fitted into the model's input. The papers report AP
    by --protocol paper and, where they say so, with --rescore and --scales 0.5,1,2.

    COCO's test-dev has no public labels: for that split the file for COCO's evaluation server is written instead.

    Examples:

      samkr-edge eval fp32/final.pt --data people

      samkr-edge eval qat.cpu.onnx --data /data/coco --limit 500 -o results.json

      samkr-edge eval dekr.pt --data /data/crowdpose --split test --protocol paper --rescore rescore.npz

      samkr-edge eval dekr.pt --data /data/coco --split test-dev --protocol paper --rescore rescore.npz
    """
    from rich.console import Group
    from rich.text import Text

    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.decoder_messages import ListeningReader
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.trained_on import require_unseen, trainings_of
    from samkr_edge.evaluation.ap import predict_dataset, score
    from samkr_edge.evaluation.coco_server import results_name
    from samkr_edge.evaluation.protocol import notes_of, require_able
    from samkr_edge.evaluation.rescoring import with_rescoring
    from samkr_edge.pose_model import load_model
    from samkr_edge.progress import progress
    from samkr_edge.terminal import say

    by = protocol_of(protocol, scales=scales, rescore=rescore, flip=flip, resize=resize, match=match)
    dataset = open_dataset(data, split)
    images = dataset.images[:limit]
    notes = _remarks_on(dataset, images)
    opened = load_model(model, threads=threads, cuda_graph=cuda_graph)
    require_able(opened, by)
    by = with_rescoring(by, rescore, opened.card.skeleton)
    learned = {model.name: trainings_of(opened.card)}
    if by.rescoring is not None and rescore is not None:
        learned |= {rescore.name: by.rescoring.trainings}
        notes += by.rescoring.doubts(by)
    seen = require_unseen(learned, dataset, images, anyway=anyway)
    notes += [*seen.notes, *notes_of(opened.card, by)]
    if not dataset.labelled:
        # Results of a part get a name of their own: they must not replace the results of all.
        part = f"first {len(images)}" if len(images) < len(dataset) else ""
        name = results_name(dataset.split, opened.card.model, model.stem, by.label, part)
        predictions = predictions or Path(name)
        notes += _doubts_of_server(predictions, len(images), len(dataset))
    for note in (*notes, *opened.notes):
        say(note)
    reader = ListeningReader()
    with progress(f"evaluating {model.name}", len(images), unit="images") as advance:
        results = predict_dataset(
            opened, dataset, limit=limit, protocol=by, advance=advance, read=reader.read
        )
    if (damaged := reader.note()) is not None:
        say(damaged)
        notes.append(damaged)
    heading = f"{model.name} on {counted(len(images), 'image')} of {data.name}/{dataset.split}, {by.label}"
    facts = {
        "model": str(model),
        "data": str(data),
        "split": dataset.split,
        "images": len(images),
        **by.to_dict(),
        "rescore": str(rescore) if rescore else None,
        "trained_on": bool(seen.models),
    }
    if predictions and not dataset.labelled:
        _for_server(results, predictions, heading, {**facts, "scores": None}, notes, as_json)
        return
    scores = score(dataset, results, [image.id for image in images])
    if predictions:
        results.write(predictions)
    heading += ": train-fit AP" if seen.models else ""
    numbers = scores.to_dict()
    # Not the table's title: that would be wrapped to the table's width.
    shown = Group(Text(heading, "italic"), _table(numbers))
    emit({**facts, "scores": numbers, "notes": notes}, shown, as_json)


def _remarks_on(dataset: KeypointDataset, images: Sequence[ImageRecord]) -> list[str]:
    """Remarks on these images; refuses images that cannot be evaluated."""
    from samkr_edge.dataset.usable import remarks, require_images, require_usable

    if not dataset.labelled:
        require_images(dataset, images)
        return []
    require_usable(dataset, "eval", images)
    return remarks(dataset, images)


def _doubts_of_server(predictions: Path, images: int, of: int) -> list[str]:
    """Doubts whether COCO's server takes this file; refuses a path that cannot be written."""
    from samkr_edge.evaluation.coco_server import doubts, places_of
    from samkr_edge.files.artefact import require_writable

    for place in places_of(predictions):
        require_writable(place)
    return doubts(places_of(predictions)[0], images, of)


def _for_server(
    results: Predictions, place: Path, heading: str, facts: dict[str, Any], notes: list[str], as_json: bool
) -> None:
    """Write what COCO's server takes, and print that in place of AP."""
    from samkr_edge.cli.console import emit
    from samkr_edge.evaluation.coco_server import places_of, write_results
    from samkr_edge.terminal import say

    written = [str(path) for path in places_of(place)]
    people = write_results(results, place)
    if not people:
        say(nobody := "server: nobody was found, and it refuses an empty list")
        notes = [*notes, nobody]
    emit(
        {**facts, "people": people, "written": written, "notes": notes},
        f"{heading}\npeople found: {people}; no AP, because only the server has the labels\n"
        f"wrote {written[0]}\nwrote {written[1]}, for the server",
        as_json,
    )


def _table(numbers: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table()
    shown = [name for name in LABELS if name in numbers]
    for name in shown:
        table.add_column(LABELS[name], justify="right")
    table.add_row(*(f"{numbers[name]:.1f}" for name in shown))
    return table
