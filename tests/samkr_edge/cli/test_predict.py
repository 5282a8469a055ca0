"""`predict` on everything that is pointed at it: what is good is used and kept, what is bad is named, nothing hangs."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.cli.predict_images import Growing, predict_images
from samkr_edge.cli.predict_options import Options
from samkr_edge.cli.predict_stream import StreamDone, run_stream, stream_names
from samkr_edge.cli.window import Window
from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.many_images import stream as evaluation_stream
from samkr_edge.frames.channel import StageFailed
from samkr_edge.frames.live_source import LiveSource
from samkr_edge.frames.opening import open_video
from samkr_edge.frames.pipeline import Pipeline
from samkr_edge.frames.recording import Recording, _cut_to_whole_lines, _SteadyWriter
from samkr_edge.frames.video import VideoSource
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel, load_model

FRAMES = 24
NO_WINDOW = Window("", enabled=False)


@pytest.fixture(scope="module")
def pose(red_dot_model: Path) -> PoseModel:
    return load_model(red_dot_model)


@pytest.fixture(autouse=True)
def opencv_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlays are as everywhere, at one rate, also where the extra `video` is installed."""
    monkeypatch.setattr("samkr_edge.frames.recording.h264_encoder", lambda: None)


def walk(frames: int = FRAMES) -> list[np.ndarray]:
    """Two people who walk towards each other."""
    return [dots((20 + 2 * i, 30), (110 - 2 * i, 70)) for i in range(frames)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_of(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".part" in path.name]


# Images


def test_images_become_overlays_and_coco_results(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for i, places in enumerate([((30, 40),), ((30, 40), (100, 60)), ()]):
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), dots(*places))
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), str(tmp_path / "in"), "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "predictions.json").read_text())
    assert [entry["image_id"] for entry in results] == [0, 1, 1]
    assert all(len(entry["keypoints"]) == 51 for entry in results)
    assert printed["poses"] == results
    plain, drawn = cv2.imread(str(tmp_path / "in" / "1.png")), cv2.imread(str(out / "1.png"))
    assert max(drawn.shape[:2]) >= 480  # enlarged, so that there is room to draw
    assert np.abs(cv2.resize(drawn, plain.shape[1::-1]).astype(int) - plain).max() > 50
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", "2.png", "predictions.json"}


def test_max_people_and_threshold_choose_the_best(red_dot_model: Path, tmp_path: Path) -> None:
    image = dots((30, 40), (100, 60))
    image[:, :64] //= 2
    cv2.imwrite(str(tmp_path / "a.png"), image)
    counts = []
    for options in ([], ["--max-people", "1"], ["--threshold", "0.6"], ["--threshold", "2"]):
        assert (
            run(["predict", str(red_dot_model), str(tmp_path / "a.png"), "-o", str(tmp_path / "o"), *options])
            == 0
        )
        counts.append(len(json.loads((tmp_path / "o" / "predictions.json").read_text())))
    assert counts == [2, 1, 1, 0]


def test_bad_images_are_named_and_the_odd_ones_are_used(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    whole = cv2.imencode(".jpg", dots((30, 40)))[1].tobytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    good = {
        "one.png": np.full((1, 1, 3), 200, np.uint8),
        "odd.png": dots((30, 40), size=(97, 131)),
        "gray.png": dots((30, 40)).max(axis=2),
        "alpha.png": np.dstack([dots((30, 40)), np.full((96, 128), 128, np.uint8)]),
        "panorama.jpg": np.zeros((40, 20_000, 3), np.uint8),
    }
    for name, image in good.items():
        cv2.imwrite(str(folder / name), image)
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), str(folder), "-o", str(out)]) == 3
    shown = capsys.readouterr().err
    assert "SE-D28" in shown
    assert "3 of 8" in shown
    for name in ("zero.jpg", "text.png", "cut.jpg"):
        assert name in shown
    assert {path.stem for path in out.glob("*.png")} == {Path(name).stem for name in good}
    names = {Path(e["file_name"]).name for e in json.loads((out / "predictions.json").read_text())}
    assert {"odd.png", "alpha.png"} <= names


def test_a_photograph_is_seen_as_its_camera_was_held_and_an_annotated_image_as_it_is_stored(
    pose: PoseModel, tmp_path: Path
) -> None:
    """A quarter turn in the EXIF data: the red dot at the stored image's left is at the top of what people see."""
    path = tmp_path / "phone.jpg"
    data = cv2.imencode(".jpg", dots((20, 48)))[1].tobytes()
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    done = predict_images(pose, [path], Options(tmp_path / "out"), NO_WINDOW)
    x, y = np.mean(np.reshape(done.results[0]["keypoints"], (-1, 3))[:, :2], axis=0)
    np.testing.assert_allclose([x, y], [48, 20], atol=10)
    height, width = cv2.imread(str(tmp_path / "out" / "phone.png")).shape[:2]
    assert height > width
    ((_, poses),) = evaluation_stream(pose, [ImageRecord(1, path, 128, 96)])
    np.testing.assert_allclose(poses.keypoints[0].mean(axis=0), [20, 48], atol=10)


def test_where_no_image_can_be_read_nothing_is_said_to_be_kept(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zero.jpg").write_bytes(b"")
    assert run(["predict", str(red_dot_model), str(tmp_path / "zero.jpg"), "-o", str(tmp_path / "o")]) == 3
    printed = capsys.readouterr()
    assert "the others" not in printed.err
    assert "predictions.json" not in printed.out
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("what", ["empty", "nothing/*.jpg"])
def test_no_images_is_a_data_error(
    red_dot_model: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["predict", str(red_dot_model), str(tmp_path / what), "-o", str(tmp_path / "o")]) == 3
    assert "SE-D29" in capsys.readouterr().err


def test_sources_are_never_overwritten(red_dot_model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), dots((30, 40)))
    write_video(tmp_path / "b.mp4", walk(4))
    before = {name: (tmp_path / name).read_bytes() for name in ("a.png", "b.mp4")}
    sources = [str(tmp_path / name) for name in before]
    assert run(["predict", str(red_dot_model), *sources, "-o", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert (tmp_path / "a-2.png").exists()
    assert (tmp_path / "b-2.mp4").exists()


def test_a_full_disk_keeps_the_results_of_the_images_before(red_dot_model: Path, tmp_path: Path) -> None:
    """A limit on file sizes, as of a full disk, which only the third overlay breaks."""
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    for name, image in {"a": dots((30, 40)), "b": dots((90, 50)), "c": noise}.items():
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), image)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000));"
        "from samkr_edge.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(red_dot_model), str(tmp_path / "in"), "-o", str(out)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 3, done.stderr
    assert "SE-D01" in done.stderr
    assert {path.name for path in out.iterdir()} == {"a.png", "b.png", "predictions.json"}
    assert len(json.loads((out / "predictions.json").read_text())) == 2


# Videos


def test_a_video_becomes_a_video_and_one_line_a_frame(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "walk.mp4", walk())
    out = tmp_path / "out"
    assert (
        run(["predict", str(red_dot_model), str(video), "-o", str(out), "--track", "--smooth", "--json"]) == 0
    )
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert stream["frames"] == FRAMES
    assert set(stream["stage_ms"]) == {"capture", "preprocess", "network", "decode", "write"}
    lines = lines_of(out / "walk.jsonl")
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert lines[1]["seconds"] == pytest.approx(0.04)
    assert frames_of(out / "walk.mp4") == FRAMES
    assert {person["id"] for line in lines for person in line["people"]} == {1, 2}
    # Person 1 of the first frame goes right or left all the way, without a jump.
    xs = [np.mean(p["keypoints"][::3]) for line in lines for p in line["people"] if p["id"] == 1]
    assert len(xs) == FRAMES
    assert np.abs(np.diff(xs)).max() < 12
    assert leftovers(out) == []


def test_keypoints_alone_need_no_video(red_dot_model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4", walk(5))
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), str(video), "-o", str(out), "--no-overlays"]) == 0
    assert [path.name for path in out.iterdir()] == ["walk.jsonl"]
    assert lines_of(out / "walk.jsonl")[0]["people"][0]["id"] is None


def test_a_video_that_was_cut_off_is_refused_or_read_as_far_as_it_goes(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_video(tmp_path / "whole.mp4", walk()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index was at the end
    assert run(["predict", str(red_dot_model), str(tmp_path / "cut.mp4"), "-o", str(tmp_path / "o")]) == 3
    assert "SE-D97" in capsys.readouterr().err
    assert run(["predict", str(red_dot_model), str(tmp_path / "none.mp4"), "-o", str(tmp_path / "o")]) == 4
    assert "SE-A23" in capsys.readouterr().err


class Broken:
    """A capture that cannot give some of its frames, and none at all from ``dead_from`` on."""

    def __init__(self, images: list[np.ndarray], bad: set[int], dead_from: int = 10**9) -> None:
        self.images, self.bad, self.dead_from = images, bad, dead_from
        self.at = -1
        self.released = False

    def read(self, image: Any = None) -> tuple[bool, Any]:
        self.at += 1
        if self.at >= self.dead_from or self.at >= len(self.images):
            return False, None
        if self.at in self.bad:
            raise cv2.error("corrupt")
        return True, self.images[self.at].copy()

    def get(self, property: int) -> float:
        assert property == cv2.CAP_PROP_POS_MSEC
        return 40.0 * self.at

    def release(self) -> None:
        self.released = True


def test_corrupt_frames_are_counted_and_the_others_used(pose: PoseModel, tmp_path: Path) -> None:
    capture = Broken(walk(), bad={5, 6, 11, 12, 13})
    source = VideoSource(capture, "bad.mp4", fps=25, frames=FRAMES)
    done = run_stream(pose, source, "bad", Options(tmp_path), NO_WINDOW)
    assert done.frames == FRAMES - 5
    assert done.problem is not None
    assert done.problem.code == "SE-D96"
    assert "5 of 24" in done.problem.message
    assert len(lines_of(tmp_path / "bad.jsonl")) == FRAMES - 5
    assert frames_of(tmp_path / "bad.mp4") == FRAMES  # the frame after a gap fills it: time is kept
    assert capture.released


def test_a_video_that_ends_early_is_told_about(pose: PoseModel, tmp_path: Path) -> None:
    place = Path("my videos/short.mp4")
    source = VideoSource(Broken(walk(10), bad=set()), place.name, fps=25, frames=FRAMES, place=place)
    done = run_stream(pose, source, "short", Options(tmp_path, overlays=False), NO_WINDOW)
    assert done.frames == 10
    assert done.problem is not None
    assert done.problem.exit_code == 3
    assert done.problem.fix == "ffmpeg -i 'my videos/short.mp4' -c:v libx264 repaired.mp4"


def test_memory_of_a_stream_stands_still_with_everything_drawn_and_written(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole loop: ring of frames, preprocessing, network, tracking, smoothing, drawing, recording."""
    side = (720, 1280)
    frame = dots((300, 400), (900, 400), size=side)
    held: list[int] = []
    peaks: list[int] = []

    class Endless(Broken):
        def read(self, image: Any = None) -> tuple[bool, Any]:
            self.at += 1
            if image is None:
                image = np.empty_like(frame)
            image[:] = frame
            return self.at < 140, image

    write = Recording.write

    def measured(self: Recording, index: int, *rest: Any) -> None:
        write(self, index, *rest)
        held.append(tracemalloc.get_traced_memory()[0])
        if index == 60:
            tracemalloc.reset_peak()
        if index == 139:
            peaks.append(tracemalloc.get_traced_memory()[1])

    monkeypatch.setattr(Recording, "write", measured)
    source = VideoSource(Endless([], set()), "e", fps=25, frames=140, ring=Pipeline.in_flight(3, 2))
    tracemalloc.start()
    try:
        run_stream(pose, source, "e", Options(tmp_path, track=True, smooth=True), NO_WINDOW)
    finally:
        tracemalloc.stop()
    assert len(held) == 140
    # A frame has 2,764,800 bytes: between the frames 60 and 140 nobody held another one, not even for a moment.
    assert peaks[0] - held[60] < 400_000
    # Medians: how many maps wait between the stages when a frame is written is chance, and the peak bounds it.
    assert statistics.median(held[100:]) - statistics.median(held[60:100]) < 100_000


# Cameras


def test_a_camera_that_disappears_ends_the_stream_and_keeps_the_recording(
    pose: PoseModel, tmp_path: Path
) -> None:
    capture = Broken(walk(200), bad={3}, dead_from=12)
    source = LiveSource(capture, "camera0", fps=25, pause=0.001)
    with pytest.raises(SamkrError) as caught:
        run_stream(pose, source, "camera0", Options(tmp_path), NO_WINDOW)
    assert caught.value.code == "SE-V96"
    assert caught.value.exit_code == 7
    lines = lines_of(tmp_path / "camera0.jsonl")
    assert lines
    assert [line["frame"] for line in lines] == sorted({line["frame"] for line in lines})
    assert frames_of(tmp_path / "camera0.mp4") > 0
    assert leftovers(tmp_path) == []
    assert capture.released


def test_a_camera_that_hangs_does_not_hang_the_program(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Hanging(Broken):
        def read(self, image: Any = None) -> tuple[bool, Any]:
            if self.at >= 3:
                released.wait(20)
            return super().read(image)

    monkeypatch.setattr("samkr_edge.frames.pipeline._JOIN_S", 0.2)
    source = LiveSource(Hanging(walk(9), set()), "camera0", fps=25, patience=0.2)
    with pytest.raises(SamkrError) as caught:
        run_stream(pose, source, "camera0", Options(tmp_path), NO_WINDOW)
    released.set()
    assert caught.value.code == "SE-V96"
    assert lines_of(tmp_path / "camera0.jsonl")


def test_a_gray_camera_is_taken(pose: PoseModel, tmp_path: Path) -> None:
    gray = [image.max(axis=2) for image in walk(6)]
    source = VideoSource(Broken(gray, set()), "gray.avi", fps=25, frames=6)
    assert run_stream(pose, source, "gray", Options(tmp_path), NO_WINDOW).frames == 6


def test_the_video_of_a_camera_keeps_the_cameras_time(pose: PoseModel, tmp_path: Path) -> None:
    with Recording(tmp_path, "cam", 25.0) as recording:
        for index, seconds in enumerate((0.0, 0.04, 0.4, 0.44)):  # eight frames were dropped
            recording.write(index, seconds, Poses.empty(17), dots())
    assert frames_of(tmp_path / "cam.mp4") == 12


# Endings


def test_a_full_disk_ends_the_recording_and_keeps_it(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return type("Usage", (), {"free": 10**9 if len(asked) < 2 else 1000})

    monkeypatch.setattr("samkr_edge.frames.recording.shutil.disk_usage", usage)
    source = VideoSource(Broken(walk(60), set()), "walk.mp4", fps=25, frames=60)
    with pytest.raises(SamkrError) as caught:
        run_stream(pose, source, "walk", Options(tmp_path), NO_WINDOW)
    assert caught.value.code == "SE-D98"
    assert "32 frames" in caught.value.message
    assert len(lines_of(tmp_path / "walk.jsonl")) == 32
    assert frames_of(tmp_path / "walk.mp4") == 32


def test_what_was_kept_of_a_stream_that_ends_with_an_error_is_in_the_report(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = iter([10**9, 1000])
    monkeypatch.setattr(
        "samkr_edge.frames.recording.shutil.disk_usage", lambda _: type("Usage", (), {"free": next(free)})
    )
    video = write_video(tmp_path / "walk.mp4", walk(60))
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), str(video), "-o", str(out), "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed["error"]["code"] == "SE-D98"
    (stream,) = printed["streams"]
    assert (stream["frames"], stream["people"], printed["people"]) == (32, 64, 64)
    assert (stream["video"], stream["keypoints"]) == (str(out / "walk.mp4"), str(out / "walk.jsonl"))
    assert len(lines_of(out / "walk.jsonl")) == 32


def test_a_folder_that_is_removed_meanwhile_is_said_to_be(pose: PoseModel, tmp_path: Path) -> None:
    class Removing(Broken):
        def read(self, image: Any = None) -> tuple[bool, Any]:
            if self.at == 40:
                shutil.rmtree(tmp_path / "out")
            return super().read(image)

    source = VideoSource(Removing(walk(90), set()), "walk.mp4", fps=25, frames=90)
    done = StreamDone("walk.mp4")
    with pytest.raises(SamkrError, match=r"was removed, and the recording of (32|64) frames") as caught:
        run_stream(pose, source, "walk", Options(tmp_path / "out"), NO_WINDOW, done)
    assert caught.value.code == "SE-D98"
    assert (done.video, done.keypoints) == (None, None)
    recording = Recording(tmp_path / "out", "a", 25).__enter__()
    recording.write(0, 0.0, Poses.empty(17), dots())
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(SamkrError, match="was removed"):
        recording.__exit__(None, None, None)
    assert recording.kept == set()


def test_a_folder_with_the_name_of_an_output_is_refused_before_the_work(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "walk.mp4", walk(4))
    (tmp_path / "out" / "walk.mp4").mkdir(parents=True)
    command = ["predict", str(red_dot_model), str(video), "-o", str(tmp_path / "out"), "--overwrite"]
    assert run(command) == 3
    assert "so nothing was done" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["walk.mp4"]


@pytest.mark.parametrize("whole", [0, 1, 3000])
def test_only_a_last_line_that_was_cut_off_is_dropped(tmp_path: Path, whole: int) -> None:
    path = tmp_path / "a.jsonl"
    text = b'{"frame": 1}\n' * whole
    for cut in (b"", b'{"fra' * 30_000):
        path.write_bytes(text + cut)
        _cut_to_whole_lines(path)
        assert path.read_bytes() == text


def test_a_frame_whose_writing_is_interrupted_counts_as_it_does_in_the_files(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _SteadyWriter.write

    def interrupted(self: _SteadyWriter, image: np.ndarray, seconds: float) -> None:
        write(self, image, seconds)
        if seconds > 0.27:
            raise KeyboardInterrupt

    monkeypatch.setattr(_SteadyWriter, "write", interrupted)
    source = VideoSource(Broken(walk(), set()), "walk.mp4", fps=25, frames=FRAMES)
    done = run_stream(pose, source, "walk", Options(tmp_path), NO_WINDOW)
    assert done.interrupted
    assert done.frames == len(lines_of(tmp_path / "walk.jsonl")) == frames_of(tmp_path / "walk.mp4") == 8
    assert done.people == 16


def test_json_is_printed_where_loading_is_interrupted(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    video = write_video(tmp_path / "walk.mp4", walk(2))
    keys = []
    for place in ("samkr_edge.cli.predict_sources.open_stream", "samkr_edge.pose_model.load_model"):
        monkeypatch.setattr(place, interrupted)
        assert run(["predict", str(red_dot_model), str(video), "-o", str(tmp_path / "o"), "--json"]) == 130
        printed = json.loads(capsys.readouterr().out)
        assert (printed["interrupted"], printed["error"], printed["streams"]) == (True, None, [])
        keys.append(list(printed))
    assert keys[0] == keys[1]


def test_a_window_that_is_closed_ends_a_video_early_and_that_is_told(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closing(Window):
        shown = 0

        def __init__(self, title: str, *, enabled: bool) -> None:
            super().__init__(title, enabled=False)

        def show(self, image: np.ndarray, *, hold: bool = False, source: str = "") -> None:
            self.shown += 1
            self.closed = self.shown == 5

    monkeypatch.setattr("samkr_edge.cli.window.Window", Closing)
    videos = [str(write_video(tmp_path / f"{name}.mp4", walk())) for name in ("walk", "next")]
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), *videos, "-o", str(out), "--show"]) == 0
    assert "in 5 frames" in (said := capsys.readouterr().out)
    assert "stopped before its end" in said
    assert run(["predict", str(red_dot_model), *videos, "-o", str(out), "--show", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["interrupted"] is True
    assert [stream["interrupted"] for stream in printed["streams"]] == [True]


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while frame 7 is about to be written."""
    write = Recording.write

    def interrupted(self: Recording, index: int, *rest: Any) -> None:
        if index == 7:
            raise KeyboardInterrupt
        write(self, index, *rest)

    monkeypatch.setattr(Recording, "write", interrupted)


def test_ctrl_c_finishes_the_files_says_so_and_begins_no_other(
    red_dot_model: Path, tmp_path: Path, ctrl_c: None, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = [str(write_video(tmp_path / f"{name}.mp4", walk())) for name in ("walk", "next")]
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), *videos, "-o", str(out)]) == 130
    printed = capsys.readouterr()
    assert "in 7 frames" in printed.out
    assert "stopped before its end" in printed.out
    assert "stopped by Ctrl-C" in printed.err
    assert "goes on from there" not in printed.err  # the same command would begin again
    assert {path.name for path in out.iterdir()} == {"walk.mp4", "walk.jsonl"}
    assert len(lines_of(out / "walk.jsonl")) == 7
    assert frames_of(out / "walk.mp4") == 7


def test_ctrl_c_keeps_the_images_before(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from samkr_edge.cli import predict_images

    (tmp_path / "in").mkdir()
    for i in range(9):
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), dots((30, 40)))
    replacing, written = predict_images.replacing, []

    def interrupted(path: Path) -> Any:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        return replacing(path)

    monkeypatch.setattr(predict_images, "replacing", interrupted)
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), str(tmp_path / "in"), "-o", str(out), "--json"]) == 130
    printed = json.loads(capsys.readouterr().out)
    assert (printed["images"], printed["interrupted"]) == (4, True)
    assert len(json.loads((out / "predictions.json").read_text())) == 4
    assert {path.name for path in out.glob("*.png")} == {f"{i}.png" for i in range(4)}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_real_signal_leaves_a_video_that_plays_and_whole_lines(
    red_dot_model: Path, tmp_path: Path, name: str
) -> None:
    """The signal comes at any place; the process ends in time, by itself."""
    video = write_video(tmp_path / "walk.mp4", walk(200) * 6)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "samkr_edge", "predict", str(red_dot_model), str(video), "-o", str(out)]
    number = signal.Signals[name]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            number, signal.SIG_DFL
        ),  # tests under nohup would hand SIGHUP on ignored
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        parts = list(out.glob(".walk.*.part.jsonl")) if out.is_dir() else []
        if parts and parts[0].stat().st_size > 4000:  # more than the first line
            break
        time.sleep(0.01)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "stopped before its end" in printed
    assert f"stopped by {'Ctrl-C' if name == 'SIGINT' else name}" in errors
    lines = lines_of(out / "walk.jsonl")
    assert 0 < len(lines) < 1200
    assert abs(frames_of(out / "walk.mp4") - len(lines)) <= 1
    assert leftovers(out) == []


def test_the_results_of_images_are_on_disk_before_the_last_one_is_seen(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut or SIGKILL leaves; at the pace of a clock that a fifth image comes after two seconds."""
    now = iter(np.arange(0.0, 1e3, 0.5))
    monkeypatch.setattr("samkr_edge.cli.predict_images.time.monotonic", lambda: float(next(now)))
    results = Growing(tmp_path / "predictions.json")
    found: list[dict[str, Any]] = []
    kept = []
    for number in range(12):
        found.append({"image_id": number})
        results.grown(found)
        path = tmp_path / "predictions.json"
        kept.append(len(json.loads(path.read_text())) if path.exists() else 0)
    assert kept[3:5] == [4, 4]
    assert max(kept) < 12  # not written each time


def test_a_network_that_fails_names_the_frame_and_keeps_those_before(
    pose: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    run_network = pose.runner.run

    def failing(batch: np.ndarray) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("out of memory")
        return run_network(batch)

    monkeypatch.setattr(pose.runner, "run", failing)
    source = VideoSource(Broken(walk(), set()), "walk.mp4", fps=25, frames=FRAMES)
    with pytest.raises(StageFailed, match="frame 5, network: RuntimeError: out of memory") as caught:
        run_stream(pose, source, "walk", Options(tmp_path, overlays=False), NO_WINDOW)
    assert isinstance(caught.value.__cause__, RuntimeError)  # which says where in a traceback
    assert len(lines_of(tmp_path / "walk.jsonl")) == 5


# Sources that do not open


def test_a_camera_that_is_not_there_is_a_device_error() -> None:
    with pytest.raises(SamkrError) as caught:
        open_video("97")
    assert caught.value.code == "SE-V97"


@pytest.mark.skipif(
    "GStreamer:                   YES" in cv2.getBuildInformation(), reason="OpenCV has GStreamer"
)
@pytest.mark.parametrize("source", ["csi", "videoconvert ! " * 30 + "appsink"])
def test_a_pipeline_without_gstreamer_says_where_to_get_it(source: str) -> None:
    assert len(stream_names([source], None)[0]) <= 60
    with pytest.raises(SamkrError) as caught:
        open_video(source)
    assert caught.value.code == "SE-V98"
    assert "--system-site-packages" in str(caught.value)


def test_a_password_reaches_no_message_and_no_file_name() -> None:
    source = "rtsp://me:secret@127.0.0.1:1/stream"
    assert stream_names([source], None) == ["rtsp-127-0-0-1-1-stream"]
    with pytest.raises(SamkrError) as caught:
        open_video(source)
    assert caught.value.code == "SE-V97"
    assert "secret" not in str(caught.value)
