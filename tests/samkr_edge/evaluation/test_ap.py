"""AP is what pycocotools and an evaluator of our own in plain Python say; predictions can be read by both."""

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import crowdpose_oracle
import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation import ap as evaluate_module
from samkr_edge.evaluation.ap import paired_bootstrap, predict_dataset, score
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered people in both layouts, and a network for each that finds something everywhere."""
    pytest.importorskip("torch")
    from training.checkpoint import save_checkpoint, untrained_checkpoint
    from training.data.rendered.dataset import SynthSettings, write_dataset
    from training.data.rendered.scene import SceneSettings

    scene = SceneSettings(size=96, people=(1, 5), person_height=(0.4, 0.9))
    root = tmp_path_factory.mktemp("eval")
    for name, keypoints, count in (("coco", "coco", 17), ("crowdpose", "crowdpose", 14)):
        settings = SynthSettings(train=1, val=12, keypoints=keypoints, scene=scene)
        write_dataset(root / name, settings, processes=1)
        checkpoint = untrained_checkpoint("samkr_tiny", count)
        checkpoint.card = replace(
            checkpoint.card, input_size=(64, 64), decode=DecodeSettings(center_threshold=-1e9, max_people=3)
        )
        save_checkpoint(root / f"{name}.pt", checkpoint)
    return root


def crowds(folder: Path) -> KeypointDataset:
    """The CrowdPose split with every level of crowding."""
    dataset = open_dataset(folder / "crowdpose")
    levels = (0.0, 0.1, 0.2, 0.5, 0.79, 0.8, 0.95)
    return replace(
        dataset,
        images=tuple(
            replace(image, crowd_index=levels[i % len(levels)]) for i, image in enumerate(dataset.images)
        ),
    )


def truth_as_results(dataset: KeypointDataset) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": 1, "keypoints": list(a["keypoints"]), "score": 0.9}
        for image_id, people in dataset.annotations.items()
        for a in people
    ]


def noisy(dataset: KeypointDataset, seed: int = 0) -> list[dict[str, Any]]:
    """Ground truth, moved by up to a fifth of the person; some missed, some doubled, some invented."""
    random = np.random.default_rng(seed)
    results = []
    for result in truth_as_results(dataset):
        joints = np.array(result["keypoints"], float).reshape(-1, 3)
        for _ in range(int(random.choice([0, 1, 1, 1, 2]))):
            moved = joints.copy()
            moved[:, :2] += random.normal(0, random.uniform(0.2, 6), moved[:, :2].shape)
            results.append({**result, "keypoints": moved.ravel().tolist(), "score": float(random.random())})
        if random.random() < 0.3:
            moved[:, :2] += random.uniform(-60, 60, 2)
            results.append({**result, "keypoints": moved.ravel().tolist(), "score": float(random.random())})
    return results


@pytest.mark.parametrize("seed", [0, 1])
def test_crowdpose_scores_are_the_oracles(folder: Path, seed: int) -> None:
    dataset = crowds(folder)
    results = noisy(dataset, seed)
    scores = score(dataset, results).to_dict()
    expected = crowdpose_oracle.evaluate(
        [a for people in dataset.annotations.values() for a in people],
        results,
        [{"id": image.id, "crowdIndex": image.crowd_index} for image in dataset.images],
    )
    assert 5 < expected["ap"] < 95
    assert len({round(expected[name], 3) for name in ("ap", "easy", "medium", "hard")}) == 4
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["coco", "crowdpose"])
def test_ground_truth_as_prediction_scores_100(folder: Path, kind: str) -> None:
    dataset = open_dataset(folder / "coco") if kind == "coco" else crowds(folder)
    scores = score(dataset, truth_as_results(dataset)).to_dict()
    # Not the ranges of area: a perfect pose of a person outside the range may take a neighbour inside it.
    names = ["ap", "ap50", "ap75", "ar", "ar50", "ar75"]
    names += ["easy", "medium", "hard"] if kind == "crowdpose" else []
    assert [scores[name] for name in names] == pytest.approx([100.0] * len(names))


def test_coco_scores_are_pycocotools_own_summary(folder: Path) -> None:
    dataset = open_dataset(folder / "coco")
    results = noisy(dataset)
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(dataset.annotation_path))
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl")
    scores = score(dataset, results).to_dict()
    for name, value in zip(names, evaluation.stats, strict=True):
        assert scores.get(name, -100.0) == pytest.approx(100 * value, abs=1e-9), name


def test_scoring_leaves_the_predictions_as_they_were(folder: Path) -> None:
    dataset = open_dataset(folder / "coco")
    results = noisy(dataset)
    before = json.dumps(results)
    score(dataset, results)
    assert json.dumps(results) == before


def test_an_annotation_with_id_0_counts_as_any_other(folder: Path) -> None:
    dataset = open_dataset(folder / "coco")
    one = {i: [{**a, "id": 0} for a in people] for i, people in dataset.annotations.items()}
    assert score(replace(dataset, annotations=one), truth_as_results(dataset)).ap == pytest.approx(100)


@pytest.mark.parametrize("kind", ["coco", "crowdpose"])
def test_eval_writes_predictions_that_pycocotools_reads(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / "predictions.json"
    command = ["eval", str(folder / f"{kind}.pt"), "--data", str(folder / kind), "--limit", "4"]
    assert run([*command, "--predictions", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = {"ap", "ap50", "ap75", "ar"}
    assert expected <= set(printed["scores"])
    dataset = open_dataset(folder / kind)
    with redirect_stdout(io.StringIO()):
        loaded = COCO(str(dataset.annotation_path)).loadRes(str(out))
    assert len(loaded.anns) == len(json.loads(out.read_text())) > 0
    assert {a["image_id"] for a in loaded.anns.values()} <= {image.id for image in dataset.images[:4]}


def test_eval_tells_what_it_does_not_count(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "coco", tmp_path / "coco")
    path = open_dataset(tmp_path / "coco").annotation_path
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 9
    path.write_text(json.dumps(content))
    command = ["eval", str(folder / "coco.pt"), "--data", str(tmp_path / "coco"), "--limit", "1", "--json"]
    assert run(command) == 0
    shown = capsys.readouterr()
    (note,) = json.loads(shown.out)["notes"]
    assert note.startswith(
        "data: annotations of a category that the file does not describe, skipped (1): annotation "
    )
    assert note[:60] in shown.err


def test_eval_names_images_that_decoders_complain_about(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "coco", tmp_path / "coco")
    first = open_dataset(tmp_path / "coco").images[0]
    data = cv2.imencode(".jpg", np.full((first.height, first.width, 3), 90, np.uint8))[1].tobytes()
    first.path.write_bytes(data[:-2] + bytes(range(1, 16)) + data[-2:])
    assert (
        run(["eval", str(folder / "coco.pt"), "--data", str(tmp_path / "coco"), "--limit", "2", "--json"])
        == 0
    )
    shown = capfd.readouterr()
    assert f"1 image is partly damaged, and read as far as possible: {first.path} (Corrupt JPEG" in shown.err
    assert json.loads(shown.out)["notes"][-1] in shown.err
    assert shown.err.count("Corrupt JPEG") == 1


def test_every_option_of_the_papers_protocol_runs_on_a_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", str(folder / "coco.pt"), "--data", str(folder / "coco"), "--limit", "2"]
    assert run([*command, "--flip", "--scales", "0.5,1,2", "--resize", "paper", "--match", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["flip"], printed["scales"], printed["resize"]) == (True, [0.5, 1.0, 2.0], "paper")
    assert run([*command, "--scales", "2"]) == 2
    assert "SE-U81" in capsys.readouterr().err


def test_the_flip_changes_what_is_found(folder: Path) -> None:
    model, dataset = load_model(folder / "coco.pt"), open_dataset(folder / "coco")
    plain = predict_dataset(model, dataset, limit=1)
    flipped = predict_dataset(model, dataset, limit=1, protocol=Protocol(flip=True))
    assert list(plain) != list(flipped)


def test_a_model_of_other_keypoints_is_refused(folder: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        predict_dataset(load_model(folder / "coco.pt"), open_dataset(folder / "crowdpose"))
    assert caught.value.code == "SE-D26"
    assert "14 keypoints" in caught.value.sentence()


def test_keypoints_that_only_names_or_order_tell_apart_are_named() -> None:
    swapped = replace(
        COCO17, keypoints=(*COCO17.keypoints[:3], *COCO17.keypoints[4:2:-1], *COCO17.keypoints[5:])
    )
    ends = (SimpleNamespace(card=SimpleNamespace(skeleton=swapped)), SimpleNamespace(skeleton=COCO17))
    with pytest.raises(SamkrError) as caught:
        predict_dataset(*ends)  # type: ignore[arg-type]
    assert caught.value.facts["differ"] == ("2; the first is number 4: model right_ear, data left_ear")


def test_results_carry_the_category_of_the_file(folder: Path, tmp_path: Path) -> None:
    content = json.loads(open_dataset(folder / "coco").annotation_path.read_text())
    content["categories"][0]["id"] = 7
    for annotation in content["annotations"]:
        annotation["category_id"] = 7
    file = tmp_path / "own.json"
    file.write_text(json.dumps(content))
    dataset = open_dataset(folder / "coco", annotations=file)
    results = predict_dataset(load_model(folder / "coco.pt"), dataset, limit=2)
    assert {result["category_id"] for result in results} == {7}
    truth = [{**result, "category_id": 7} for result in truth_as_results(dataset)]
    assert score(dataset, truth).ap == pytest.approx(100)


@pytest.mark.parametrize("name", ["coco", "crowdpose"])
def test_matching_a_few_images_at_a_time_changes_no_number(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = crowds(folder) if name == "crowdpose" else open_dataset(folder / name)
    results, ids = noisy(dataset), [image.id for image in reversed(dataset.images)]
    moved = [{**result, "score": 0.5} for result in results]  # equal scores: their order counts
    whole = [score(dataset, found, ids) for found in (results, moved)]
    interval = paired_bootstrap(dataset, moved, results, image_ids=ids, rounds=50)
    monkeypatch.setattr(evaluate_module, "_AT_ONCE", 5)
    assert [score(dataset, found, ids) for found in (results, moved)] == whole
    assert paired_bootstrap(dataset, moved, results, image_ids=ids, rounds=50) == interval


def test_a_split_without_labelled_people_has_no_ap(folder: Path) -> None:
    dataset = open_dataset(folder / "coco")
    nobody = replace(dataset, annotations={image.id: [] for image in dataset.images})
    with pytest.raises(SamkrError) as caught:
        score(nobody, [])
    assert caught.value.code == "SE-D27"
