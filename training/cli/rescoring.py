"""`samkr-edge rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.cli.options import AsJson, Data, Limit, Threads, out_file
from samkr_edge.cli.places import model_named
from samkr_edge.cli.protocol import ByProtocol, Flip, Match, ResizedBy, Scales, protocol_of
from samkr_edge.printable import counted


def rescore(
    model: Annotated[
        Path, typer.Argument(help="Any model whose poses are to be rescored.", callback=model_named)
    ],
    data: Data,
    out: Annotated[Path, out_file("Rescoring network to write, .npz.")],
    split: Annotated[
        str, typer.Option(help="Split to learn from; never the one that is evaluated.")
    ] = "train",
    limit: Limit = None,
    protocol: ByProtocol = None,
    flip: Flip = False,
    scales: Scales = "1",
    resize: ResizedBy = None,
    match: Match = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the poses.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and order.")] = 0,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Train a network that predicts how good a pose is (DEKR), for `eval --rescore`.

    The model predicts the split; a small MLP learns each pose's OKS from its shape and joint scores. At evaluation it
    runs without torch. Use the protocol that `eval` will use: its poses are the ones to rescore.

    Examples:

      samkr-edge rescore fp32/final.pt --data people -o rescore.npz

      samkr-edge rescore dekr.pt --data /data/coco --limit 20000 --protocol paper -o rescore.npz
    """
    from dataclasses import asdict, replace

    import torch

    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.trained_on import TrainedOn
    from samkr_edge.dataset.usable import require_usable
    from samkr_edge.evaluation.ap import predict_dataset
    from samkr_edge.evaluation.protocol import require_able
    from samkr_edge.evaluation.rescoring import Lesson, PoseFeatures, save_rescoring
    from samkr_edge.pose_model import load_model
    from samkr_edge.progress import progress
    from training.rescoring import labelled_poses, train_rescoring

    by = protocol_of(protocol, scales=scales, flip=flip, resize=resize, match=match)
    dataset = open_dataset(data, split)
    opened = load_model(model, threads=threads)
    require_able(opened, by)
    features = PoseFeatures.of(opened.card.skeleton)
    images = dataset.images[:limit]
    require_usable(dataset, "eval", images)
    lesson = Lesson(by, TrainedOn.of(dataset, images))
    with progress(f"predicting {split}", len(images), unit="images") as advance:
        results = predict_dataset(opened, dataset, limit=limit, protocol=by, advance=advance)
    inputs, labels, ids = labelled_poses(dataset, results, features)
    torch.set_num_threads(threads)
    network, report = train_rescoring(features, inputs, labels, ids, epochs=epochs, seed=seed)
    save_rescoring(out, replace(network, lesson=lesson))
    verdict = "" if report.error < report.error_of_mean else "; it learned nothing, so do not use it"
    emit(
        {"rescoring": str(out), "model": str(model), "split": split, **by.to_dict(), **asdict(report)},
        f"{out}: {counted(report.poses, 'pose')} of {counted(report.images, 'image')}; "
        f"squared error of predicted OKS {report.error:.4f}, "
        f"of its mean {report.error_of_mean:.4f}{verdict}",
        as_json,
    )
