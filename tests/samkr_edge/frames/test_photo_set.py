"""Photographs of one's own: the same choice everywhere, nothing twice, and what cannot be used is told."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.dataset.exif import orientation_of
from samkr_edge.dataset.photos import ALIKE, KnownPictures, Photos, bits_between, look_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.files.own_files import marked_png
from samkr_edge.frames.photo_set import photo_set
from samkr_edge.images import read_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from training.data.rendered.scene import SceneSettings, render_scene

SCENES = SceneSettings(size=96)


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Rendered people, uint8 (H, W, 3) RGB."""
    return [render_scene(np.random.default_rng(seed), SCENES).image for seed in range(24)]


def write(path: Path, image: np.ndarray, quality: int = 95) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def album(folder: Path, scenes: list[np.ndarray]) -> Path:
    for number, image in enumerate(scenes):
        write(folder / f"IMG_{number}.jpg", image)
    return folder


def chosen(*words: Path, count: int = 8, seed: int = 0, leave_out: KnownPictures | None = None) -> Photos:
    with photo_set(words, count, seed=seed, leave_out=leave_out) as photos:
        return photos


def turned(path: Path, image: np.ndarray) -> Path:
    """A JPEG that EXIF turns by a quarter clockwise."""
    data = write(path, image).read_bytes()
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(
        data[:2] + b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff + data[2:]
    )
    assert orientation_of(path) == 6
    return path


# The same everywhere


def test_the_choice_depends_on_the_seed_and_the_files_not_on_where_they_lie_or_in_which_order_they_were_made(
    tmp_path: Path, scenes: list[np.ndarray]
) -> None:
    one = album(tmp_path / "one", scenes)
    (other := tmp_path / "far" / "away").mkdir(parents=True)
    for path in sorted(one.iterdir(), reverse=True):
        shutil.copy(path, other)
    first, again = chosen(one), chosen(other)
    assert first.facts == again.facts
    assert [photo.name for photo in first.chosen] != [photo.name for photo in chosen(one, seed=1).chosen]
    assert first.facts["sha256"] == [sha256_of(photo.path) for photo in first.chosen]
    assert len(first) == 8


def test_more_pictures_begin_with_the_fewer(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    folder = album(tmp_path / "album", scenes)
    assert chosen(folder, count=12).chosen[:5] == chosen(folder, count=5).chosen


def test_folders_below_and_videos_give_by_turns(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    album(tmp_path / "all" / "day", scenes[:12])
    album(tmp_path / "all" / ".hidden", scenes[12:])
    for number, image in enumerate(scenes[12:15]):
        write(tmp_path / "all" / "night" / "late" / f"N{number}.png", image)
    write_video(tmp_path / "all" / "walk.avi", [image[..., ::-1] for image in scenes[15:]], "MJPG")
    (tmp_path / "all" / "again").symlink_to("day")
    photos = chosen(tmp_path / "all", count=99)
    assert len([photo for photo in photos.chosen if photo.frame is None]) + photos.alike == 15 + 0
    names = [photo.name for photo in chosen(tmp_path / "all", count=9).chosen]
    assert sorted(name[0] for name in names) == ["I", "I", "I", "N", "N", "N", "w", "w", "w"]


# Nothing twice


def test_looks_tell_copies_from_other_pictures() -> None:
    settings = SceneSettings(size=256)
    scenes = [render_scene(np.random.default_rng(seed), settings).image for seed in range(24)]
    looks = [look_of(image) for image in scenes]
    apart = [bits_between(one, other) for n, one in enumerate(looks) for other in looks[:n]]
    assert min(apart) > 3 * ALIKE
    noise = np.random.default_rng(0)
    for image, look in zip(scenes, looks, strict=True):
        saved = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
        grainy = np.clip(image + noise.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        brighter = np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8)
        smaller = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        copies = {"saved": saved, "grainy": grainy, "brighter": brighter, "smaller": smaller}
        assert {
            name: d for name, copy in copies.items() if (d := bits_between(look, look_of(copy))) > ALIKE
        } == {}


def test_noise_turns_no_bit_of_a_plain_wall() -> None:
    wall = np.full((480, 640, 3), 120.0)
    noise = np.random.default_rng(0)
    one, other = (
        look_of(np.clip(wall + noise.normal(0, 8, wall.shape), 0, 255).astype(np.uint8)) for _ in "12"
    )
    assert bits_between(one, other) == 0


def test_copies_of_a_picture_are_left_out_and_told(
    tmp_path: Path, scenes: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = album(tmp_path / "album", scenes[:6])
    for number, image in enumerate(scenes[:6]):
        write(folder / f"sent-{number}.jpg", cv2.resize(image, (72, 72), interpolation=cv2.INTER_AREA), 60)
    photos = chosen(folder, count=20)
    assert (len(photos), photos.alike) == (6, 6)
    told = " ".join(capsys.readouterr().err.split())
    assert "photos: 6 pictures of 20 asked for; left out: 6 that look like a chosen one" in told


def test_frames_are_spread_over_a_video_and_a_still_one_gives_one(
    tmp_path: Path, scenes: list[np.ndarray]
) -> None:
    still = write_video(tmp_path / "still.avi", [scenes[0][..., ::-1]] * 40, "MJPG")
    assert len(chosen(still)) == 1
    parts = [image[..., ::-1] for image in scenes[:4] for _ in range(10)]
    film = chosen(write_video(tmp_path / "film.avi", parts, "MJPG"), count=4)
    assert sorted(photo.frame // 10 for photo in film.chosen if photo.frame is not None) == [0, 1, 2, 3]


def test_a_video_that_cannot_be_searched_gives_frames_of_all_of_it(
    tmp_path: Path, scenes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_video(tmp_path / "film.avi", [image[..., ::-1] for image in scenes], "MJPG")
    monkeypatch.setattr("samkr_edge.frames.spread_frames._can_be_searched", lambda capture: False)
    frames = sorted(photo.frame for photo in chosen(film, count=2).chosen if photo.frame is not None)
    assert frames[0] < 12 <= frames[1]
    assert all(frame % 2 == 0 for frame in frames)  # half of them were thinned out on the way


def test_pictures_of_a_calibration_and_their_likes_are_left_out(
    tmp_path: Path, scenes: list[np.ndarray]
) -> None:
    folder = album(tmp_path / "album", scenes[:10])
    calibration = chosen(folder, count=6)
    card = ModelCard("samkr_tiny", COCO17, (64, 64), provenance={"qat": {"calibration": calibration.facts}})
    known = KnownPictures.calibrating([card])
    rest = chosen(folder, count=6, leave_out=known)
    assert (len(rest), rest.known) == (4, 6)
    assert not {photo.look for photo in calibration.chosen} & {photo.look for photo in rest.chosen}
    for photo in calibration.chosen:
        write(folder / photo.name, read_image(photo.path), 70)  # other bytes, the same picture
    assert chosen(folder, count=6, leave_out=known).known == 6
    with pytest.raises(SamkrError, match="no photo is left") as caught:
        chosen(calibration.chosen[0].path, leave_out=known)
    assert caught.value.code == "SE-D57"


# Files that every reader reads alike


def test_a_turned_photograph_and_a_frame_are_upright_files_until_the_end(
    tmp_path: Path, scenes: list[np.ndarray]
) -> None:
    wide = np.concatenate([scenes[0], scenes[1]], axis=1)
    turned(tmp_path / "phone.jpg", wide)
    film = write_video(tmp_path / "film.avi", [image[..., ::-1] for image in scenes[2:8]], "MJPG")
    with photo_set([tmp_path], 3) as photos:
        for record, photo in zip(photos.records, photos.chosen, strict=True):
            assert read_image(record.path).shape[:2] == (record.height, record.width)
            assert photo.path.parent != tmp_path
        phone = next(photo for photo in photos.chosen if photo.name == "phone.jpg")
        assert (phone.width, phone.height) == (96, 192)
        assert phone.sha256 == sha256_of(tmp_path / "phone.jpg")
        assert np.abs(read_image(phone.path) - np.rot90(wide, -1).astype(float)).mean() < 6
        assert film.is_file()
    assert not any(photo.path.exists() for photo in photos.chosen)


# What cannot be used


def test_damaged_pictures_and_our_own_overlays_are_left_out_and_told(
    tmp_path: Path, scenes: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = album(tmp_path / "album", scenes[:3])
    (folder / "cut.jpg").write_bytes((folder / "IMG_0.jpg").read_bytes()[:-400])
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(50))
    (folder / "drawn.png").write_bytes(marked_png(cv2.imencode(".png", dots((30, 40)))[1].tobytes()))
    (folder / "notes.txt").write_text("not a picture")
    photos = chosen(folder)
    assert len(photos) == 3
    assert sorted(name.partition(" ")[0].rpartition("/")[2] for name in photos.unread) == [
        "broken.mp4", "cut.jpg", "drawn.png",
    ]  # fmt: skip
    assert "cut off before its end" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("word", "code"), [("empty", "SE-D29"), ("nowhere", "SE-A23"), ("rtsp://host/x", "SE-D56")]
)
def test_what_holds_no_picture_is_an_error(tmp_path: Path, word: str, code: str) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    with pytest.raises(SamkrError) as caught, photo_set([word if "//" in word else tmp_path / word], 4):
        pass
    assert caught.value.code == code
