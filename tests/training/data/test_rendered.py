from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14
from training.cli.data import app
from training.data.rendered import dataset as rendered_dataset
from training.data.rendered.dataset import SynthSettings, scene_of, write_dataset
from training.data.rendered.figure import sample_figure
from training.data.rendered.scene import Person, SceneSettings, crowd_index, render_scene

SMALL = SynthSettings(train=6, val=3, scene=SceneSettings(size=64))


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    first, again = (scene_of(SMALL, "train", 2) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, scene_of(SMALL, "val", 2).image)
    assert not np.array_equal(first.image, scene_of(SMALL, "train", 3).image)


@pytest.mark.parametrize(("aspect", "width"), [(1.0, 96), (1.5, 144)])
def test_visibility_is_two_where_seen_one_where_hidden_zero_outside(aspect: float, width: int) -> None:
    settings = SceneSettings(size=96, aspect=aspect, people=(3, 4), crowded=1.0, truncated=0.6)
    people = [
        person for seed in range(40) for person in render_scene(np.random.default_rng(seed), settings).people
    ]
    keypoints = np.stack([person.keypoints for person in people])
    visibility = keypoints[:, :, 2]
    assert set(np.unique(visibility)) == {0.0, 1.0, 2.0}
    assert not keypoints[visibility == 0].any()
    inside = keypoints[visibility > 0][:, :2]
    assert inside.min() >= 0
    assert (inside.max(axis=0) < (width, 96)).all()
    assert inside[:, 0].max() > width - 5
    assert 0.05 < (visibility == 1).mean() < 0.5


def test_a_visible_joint_lies_in_the_persons_outline() -> None:
    import cv2

    inside = total = 0
    for seed in range(20):
        for person in render_scene(np.random.default_rng(seed), SceneSettings(size=128)).people:
            mask = np.zeros((128, 128), np.uint8)
            for polygon in person.polygons:
                cv2.fillPoly(mask, [np.array(polygon, np.int32).reshape(-1, 2)], 1)
            mask = cv2.dilate(mask, np.ones((5, 5), np.uint8))
            # Limbs; a face in profile may overhang the head's outline.
            for x, y, v in person.keypoints[5:]:
                if v == 2:
                    total += 1
                    inside += int(mask[round(y), round(x)])
            x, y, width, height = person.box
            assert person.area <= width * height
    assert total > 200
    assert inside / total > 0.97


def test_left_is_on_the_right_of_the_image_for_who_faces_the_viewer() -> None:
    agree = 0
    figures = [sample_figure(np.random.default_rng(seed)) for seed in range(200)]
    turned = [figure for figure in figures if abs(figure.facing) > 0.8]
    for figure in turned:
        left_shoulder, right_shoulder = figure.points[9, 0], figure.points[10, 0]
        agree += int((left_shoulder > right_shoulder) == (figure.facing > 0))
    assert agree == len(turned) > 100


def test_bones_have_human_lengths() -> None:
    for seed in range(50):
        points = sample_figure(np.random.default_rng(seed)).points
        thigh = np.linalg.norm(points[15] - points[17])
        upper_arm = np.linalg.norm(points[9] - points[11])
        assert 0.22 < thigh < 0.27
        assert 0.15 < upper_arm < 0.19


def test_crowd_index_is_other_keypoints_in_the_box_over_own_ones() -> None:
    def person(points: list[tuple[float, float]], box: tuple[float, float, float, float]) -> Person:
        return Person(np.array([(x, y, 2.0) for x, y in points]), box, 1.0, [])

    first = person([(1, 1), (2, 2)], (0, 0, 10, 10))
    second = person([(5, 5), (30, 30)], (20, 20, 20, 20))
    assert crowd_index([first, second]) == pytest.approx((1 / 2 + 0 / 1) / 2)
    assert crowd_index([first]) == 0


def test_the_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendered_dataset, "_CHUNK", 2)
    alone = write_dataset(tmp_path / "one", SMALL, processes=1)
    shared = write_dataset(tmp_path / "two", SMALL, processes=2)
    assert alone.content_hash == shared.content_hash


@pytest.mark.parametrize(
    ("keypoints", "skeleton", "aspect"), [("coco", COCO17, 1.0), ("crowdpose", CROWDPOSE14, 1.5)]
)
def test_the_data_set_reads_back_in_its_layout(
    tmp_path: Path, keypoints: str, skeleton: object, aspect: float
) -> None:
    scene = SceneSettings(size=64, aspect=aspect)
    settings = SynthSettings(train=4, val=2, keypoints=keypoints, scene=scene)
    assert ("aspect" in settings.to_dict()["scene"]) == (aspect != 1)
    write_dataset(tmp_path / "d", settings)
    ids = []
    for split, count in (("train", 4), ("val", 2)):
        dataset = open_dataset(tmp_path / "d", split)
        assert (dataset.kind, dataset.skeleton, len(dataset)) == (keypoints, skeleton, count)
        first = dataset.images[0]
        assert read_image(first.path).shape == (first.height, first.width, 3) == (64, round(64 * aspect), 3)
        assert (dataset.images[0].crowd_index is not None) == (keypoints == "crowdpose")
        ids += [image.id for image in dataset.images]
    assert len(set(ids)) == 6


def test_pycocotools_reads_the_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    write_dataset(tmp_path / "d", SMALL)
    truth = COCO(str(tmp_path / "d" / "annotations" / "person_keypoints_train2017.json"))
    for annotation in truth.loadAnns(truth.getAnnIds()):
        assert truth.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.5, abs=40)


def test_a_complete_data_set_is_reused_and_a_damaged_one_made_again(tmp_path: Path) -> None:
    out = tmp_path / "d"
    first = write_dataset(out, SMALL)
    again = write_dataset(out, SMALL)
    assert (again.reused, again.content_hash) == (True, first.content_hash)
    picture = next((out / "images" / "train2017").iterdir())
    picture.unlink()
    repaired = write_dataset(out, SMALL)
    assert (repaired.reused, repaired.content_hash) == (False, first.content_hash)
    picture.write_bytes(bytes(picture.stat().st_size))  # as large as it was
    repaired = write_dataset(out, SMALL)
    assert (repaired.reused, repaired.content_hash) == (False, first.content_hash)


def test_other_settings_need_force_and_foreign_folders_are_never_touched(tmp_path: Path) -> None:
    out, other = tmp_path / "d", SynthSettings(train=2, val=1, seed=5, scene=SceneSettings(size=64))
    write_dataset(out, SMALL)
    with pytest.raises(SamkrError) as caught:
        write_dataset(out, other)
    assert caught.value.code == "SE-D17"
    assert "seed" in caught.value.facts
    assert write_dataset(out, other, force=True).people["val"] >= 1
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("all of it")
    with pytest.raises(SamkrError):
        write_dataset(foreign, SMALL, force=True)
    assert (foreign / "thesis.txt").read_text() == "all of it"


def test_an_interrupt_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "d"
    write_dataset(out, SMALL)
    before = (out / "synth.json").read_text()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    other = SynthSettings(train=5, val=1, scene=SceneSettings(size=64))
    with pytest.raises(KeyboardInterrupt):
        write_dataset(out, other, force=True, advance=interrupt)
    assert (out / "synth.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_synth_command_prints_one_json_object_and_refuses_nonsense(tmp_path: Path) -> None:
    arguments = ["synth", str(tmp_path / "d"), "--train", "2", "--val", "1", "--size", "64", "--json"]
    result = CliRunner().invoke(app, arguments)
    payload = json.loads(result.stdout.splitlines()[-1])
    assert payload["settings"]["train"] == 2
    assert payload["reused"] is False
    shutil.rmtree(tmp_path / "d")
    for wrong in (
        ["--people", "many"],
        ["--people", "3-1"],
        ["--val", "0"],
        ["--size", "4"],
    ):
        refused = CliRunner().invoke(app, [*arguments, *wrong])
        assert isinstance(refused.exception, SamkrError)
        assert refused.exception.code == "SE-U10"
        assert not (tmp_path / "d").exists()
    assert CliRunner().invoke(app, [*arguments, "--keypoints", "hand"]).exit_code == 2
    assert not (tmp_path / "d").exists()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SamkrError) as caught:
        write_dataset(tmp_path / "file" / "people", SMALL)
    assert caught.value.code == "SE-D01"


def test_what_a_kill_left_of_this_folder_is_removed_and_of_no_other(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above every process id
    mine, others = tmp_path / f".a[b].{dead}.part", tmp_path / f".ab.{dead}.part"
    for folder in (mine, others):
        folder.mkdir()
    with rendered_dataset._replacing_folder(tmp_path / "a[b]"):
        assert not mine.exists()
        assert others.exists()
