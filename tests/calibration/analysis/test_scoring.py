"""Scores of networks in memory: OKS as pycocotools computes it, differences that are paired."""

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calibration.analysis.scoring import Bench, MapRecorder
from samkr_edge.dataset.keypoint_dataset import open_dataset
from training.checkpoint import Checkpoint, network_of
from training.models.fold import fold_batch_norms
from training.torch_runner import TorchRunner


@pytest.fixture(scope="module")
def bench(people: Path) -> Bench:
    return Bench(open_dataset(people, "val"))


def displaced(bench: Bench, pixels: float, seed: int = 0) -> list[dict[str, Any]]:
    """Every labelled person as a result, its joints moved by so much."""
    random = np.random.default_rng(seed)
    results = []
    for image in bench.images:
        for person in bench.dataset.annotations[image.id]:
            points = np.array(person["keypoints"], float).reshape(-1, 3)
            points[:, :2] += random.normal(0, pixels, points[:, :2].shape)
            keypoints = points.ravel().tolist()
            results.append({"image_id": image.id, "category_id": 1, "keypoints": keypoints, "score": 0.9})
    return results


def test_person_oks_is_pycocotools_best_similarity(bench: Bench) -> None:
    results = displaced(bench, 2.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        annotations = [a for i in bench.images for a in bench.dataset.annotations[i.id]]
        truth.dataset = {
            "images": [{"id": i.id} for i in bench.images],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(bench.dataset.skeleton.sigmas)
        evaluation._prepare()
        expected = []
        for image in bench.images:
            evaluation.params.maxDets = [20]
            expected += list(np.max(evaluation.computeOks(image.id, 1), axis=0))
    found = bench.person_oks(results)
    assert 0.1 < found.mean() < 0.95
    assert found == pytest.approx(np.array(expected), rel=1e-6)


def test_a_person_that_nothing_was_found_for_counts_as_zero(bench: Bench) -> None:
    assert bench.person_oks([]).tolist() == [0.0] * len(bench.person_oks([]))
    results = displaced(bench, 0.0)
    without_first = [r for r in results if r["image_id"] != bench.ids[0]]
    missing = bench.person_oks(without_first) == 0
    assert missing.sum() == len(bench.dataset.annotations[bench.ids[0]])


def test_differences_are_paired_and_know_their_noise(bench: Bench, source: Checkpoint) -> None:
    runner = TorchRunner(fold_batch_norms(network_of(source)), source.card)
    first, again = bench.run(runner), bench.run(runner)
    nothing = bench.compare(first, again)
    assert (nothing.ap.difference, nothing.ap.low, nothing.ap.high) == (0, 0, 0)
    assert (nothing.oks.difference, nothing.oks.low, nothing.oks.high) == (0, 0, 0)
    assert not nothing.worse


def test_maps_are_compared_image_by_image(bench: Bench, source: Checkpoint) -> None:
    runner = TorchRunner(network_of(source), source.card)
    kept = MapRecorder(runner, keep=True)
    bench.run(kept)
    assert len(kept.kept) == len(bench.images)
    same = MapRecorder(runner, kept.kept)
    measured = bench.run(same)
    assert measured.map_errors == same.errors == {"heatmap": 0, "offset": 0}
    other = MapRecorder(runner, [(2 * h, o) for h, o in kept.kept])
    bench.run(other)
    assert other.errors["heatmap"] == pytest.approx(0.5, rel=1e-2)


def test_the_digest_follows_the_images_and_their_labels(bench: Bench, people: Path) -> None:
    assert Bench(open_dataset(people, "val")).digest == bench.digest
    assert Bench(open_dataset(people, "val"), 3).digest != bench.digest
    changed = open_dataset(people, "val")
    changed.annotations[bench.ids[0]][0]["keypoints"][0] += 1
    assert Bench(changed).digest != bench.digest
    changed = open_dataset(people, "val")
    changed.annotations[bench.ids[0]][0]["bbox"][2] += 1  # CrowdPose scores by it
    assert Bench(changed).digest != bench.digest


def test_the_digest_follows_pictures_that_are_changed_in_place(people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data", "val")
    before = Bench(dataset).digest
    picture = dataset.images[0].path
    picture.write_bytes(picture.read_bytes()[::-1])
    assert Bench(dataset).digest != before
