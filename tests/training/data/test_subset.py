"""A data set cut out of another: the same layout, the same annotations, the same choice for the same seed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings
from training.data.subset import write_split, write_subset


@pytest.fixture(scope="module", params=["coco", "crowdpose"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KeypointDataset:
    root = tmp_path_factory.mktemp("subset") / request.param
    write_dataset(root, SynthSettings(train=8, val=2, keypoints=request.param, scene=SceneSettings(size=64)))
    return open_dataset(root, "train")


def test_a_subset_opens_like_its_source_and_has_its_people(source: KeypointDataset, tmp_path: Path) -> None:
    written = write_subset(source, tmp_path, 3)
    found = open_dataset(tmp_path, "train")
    assert (len(found), written.images) == (3, 3)
    assert (found.kind, found.skeleton) == (source.kind, source.skeleton)
    originals = {image.id: image for image in source.images}
    for image in found.images:
        assert found.annotations[image.id] == source.annotations[image.id]
        assert (read_image(image.path) == read_image(originals[image.id].path)).all()


def test_the_choice_depends_on_the_seed_alone(source: KeypointDataset, tmp_path: Path) -> None:
    def chosen(folder: str, seed: int) -> list[int]:
        write_subset(source, tmp_path / folder, 4, seed)
        return [image.id for image in open_dataset(tmp_path / folder, "train").images]

    assert chosen("a", 1) == chosen("b", 1)
    assert chosen("a", 1) != chosen("c", 2)


def test_every_image_is_in_one_of_two_splits(source: KeypointDataset, tmp_path: Path) -> None:
    parts = write_split(source, tmp_path, 0.3, seed=1)
    assert [parts[split].images for split in ("train", "val")] == [6, 2]
    found = [image.id for split in parts for image in open_dataset(tmp_path, split).images]
    assert sorted(found) == sorted(image.id for image in source.images)
    with pytest.raises(SamkrError) as caught:
        write_split(replace(source, images=source.images[:1]), tmp_path / "one", 0.3)
    assert caught.value.code == "SE-D47"


def test_too_few_images_and_the_source_itself_are_refused(source: KeypointDataset, tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        write_subset(source, tmp_path, 9)
    assert caught.value.code == "SE-D47"
    shown = sum(any(a["num_keypoints"] for a in people) for people in source.annotations.values())
    assert caught.value.facts == {
        "asked": 9,
        "found": f"{shown} that show a labelled person, of 8 images",
    }
    assert caught.value.fix == (
        f"samkr-edge data subset {source.root} {tmp_path} --split train --images {shown}"
    )
    assert not any(tmp_path.iterdir())
    with pytest.raises(SamkrError) as caught:
        write_subset(source, source.root, 3)
    assert caught.value.code == "SE-D48"


def test_the_command_prints_what_it_wrote(
    source: KeypointDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "few"
    assert run(["data", "subset", str(source.root), str(out), "--images", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["images"] == len(open_dataset(out, "train")) == 2


def test_only_an_earlier_subset_is_replaced(source: KeypointDataset, tmp_path: Path) -> None:
    write_subset(source, tmp_path / "few", 3)
    again = write_subset(source, tmp_path / "few", 4)
    assert again.images == 4
    photo = next(image.path for image in source.images if source.annotations[image.id])
    for name in (source.annotation_path.relative_to(source.root), photo.relative_to(source.root)):
        mine = tmp_path / name.name / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        people = sum(any(a["num_keypoints"] for a in found) for found in source.annotations.values())
        with pytest.raises(SamkrError) as caught:
            write_subset(source, tmp_path / name.name, people)
        assert caught.value.code == "SE-D05"
        assert [path.read_text() for path in (tmp_path / name.name).rglob("*") if path.is_file()] == ["mine"]


@pytest.mark.parametrize(
    "name", ["../../../outside.png", "{outside}", "../train2017/a.png", "cam1/b.png", "cam1\\b.png"]
)
def test_a_file_name_never_leads_out_of_the_subset(
    source: KeypointDataset, tmp_path: Path, name: str
) -> None:
    root, out = tmp_path / "a" / "source", tmp_path / "a" / "b" / "out"
    shutil.copytree(source.root, root)
    content = json.loads((root / source.annotation_path.relative_to(source.root)).read_text())
    folder = root / source.images[0].path.parent.relative_to(source.root)
    outside = folder / "../../../outside.png"
    for path in (outside, folder / "../train2017/a.png", folder / "cam1" / "b.png"):
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.images[0].path, path.resolve())
    for image in content["images"]:
        image["file_name"] = name.format(outside=outside.resolve())  # one file for all: every name is taken
    (root / source.annotation_path.relative_to(source.root)).write_text(json.dumps(content))
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    write_subset(open_dataset(root, "train"), out, 3)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} - before <= {out, out.parent}
    found = open_dataset(out, "train")
    assert len({image.path for image in found.images}) == 3
    for image in found.images:
        assert (read_image(image.path) == read_image(source.images[0].path)).all()
        assert out.resolve() in image.path.resolve().parents


def test_an_image_that_is_not_there_is_named(source: KeypointDataset, tmp_path: Path) -> None:
    root = tmp_path / "source"
    shutil.copytree(source.root, root)
    moved = open_dataset(root, "train")
    for image in moved.images:
        image.path.unlink()
    with pytest.raises(SamkrError) as caught:
        write_subset(moved, tmp_path / "out", 3)
    assert caught.value.code == "SE-D49"
    assert str(caught.value.fix).startswith("samkr-edge data check")
