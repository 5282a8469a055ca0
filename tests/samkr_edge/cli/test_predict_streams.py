"""`predict` on several cameras, on parts of videos, and with a line for every frame while it happens."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.frames.recording import Recording
from samkr_edge.pose.poses import Poses


@pytest.fixture(autouse=True)
def opencv_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlays are as everywhere, at one rate, also where the extra `video` is installed."""
    monkeypatch.setattr("samkr_edge.frames.recording.h264_encoder", lambda: None)


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    return write_video(tmp_path / "walk.mp4", [dots((20 + 2 * i, 30)) for i in range(40)])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sizes_of(path: Path) -> list[tuple[int, ...]]:
    capture, sizes = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        sizes.append(read[1].shape[:2])
    return sizes


# Parts of videos


def test_the_overlay_of_a_part_begins_with_it_and_keeps_the_time_of_left_out_frames(
    red_dot_model: Path, walk: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(red_dot_model), str(walk), "-o", str(out)]
    assert run([*words, "--from", "0:00.4", "--to", "1.2", "--every", "5"]) == 0
    lines = lines_of(out / "walk.jsonl")
    assert [line["frame"] for line in lines] == [10, 15, 20, 25]
    assert [line["seconds"] for line in lines] == [0.4, 0.6, 0.8, 1.0]
    capture = cv2.VideoCapture(str(out / "walk.mp4"))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (5, 4)


@pytest.mark.parametrize("words", [["--every", "2"], ["--from", "3"], ["--to", "3"]])
def test_a_camera_has_no_parts(
    red_dot_model: Path, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(["predict", str(red_dot_model), "rtsp://me:secret@cam/1", *words, "-o", str(out)]) == 2
    printed = capsys.readouterr().err
    assert "SE-U11" in printed
    assert "secret" not in printed
    assert not out.exists()


@pytest.mark.parametrize("words", [["--from", "soon"], ["--from", "5", "--to", "4"], ["--every", "0"]])
def test_times_that_are_none_are_refused(red_dot_model: Path, walk: Path, words: list[str]) -> None:
    assert run(["predict", str(red_dot_model), str(walk), *words]) == 2


# A line a frame


def test_stdout_has_a_line_for_every_image_and_frame_and_nothing_else(
    red_dot_model: Path,
    walk: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", dots((30, 40), (90, 40)))
    assert run(["predict", str(red_dot_model), "a.png", "walk.mp4", "--jsonl", "-", "--track"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [(line["source"], line["frame"]) for line in lines] == [
        ("a.png", 0),
        *(("walk.mp4", number) for number in range(40)),
    ]
    assert (lines[0]["seconds"], lines[2]["seconds"]) == (None, 0.04)
    assert len(lines[0]["people"]) == 2
    assert {person["id"] for line in lines[1:] for person in line["people"]} == {1}
    assert "walk.mp4: 40 people in 40 frames" in printed.err
    assert not Path("poses").exists()


def test_lines_go_to_a_file_beside_the_usual_results(red_dot_model: Path, walk: Path, tmp_path: Path) -> None:
    words = ["--jsonl", str(tmp_path / "new" / "all.jsonl"), "-o", str(tmp_path / "out"), "--no-overlays"]
    assert run(["predict", str(red_dot_model), str(walk), *words]) == 0
    named = [{"source": str(walk), **line} for line in lines_of(tmp_path / "out" / "walk.jsonl")]
    assert lines_of(tmp_path / "new" / "all.jsonl") == named


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_lines_go_into_a_pipe_whose_reader_may_leave(red_dot_model: Path, walk: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def reader() -> None:
        with pipe.open() as lines:
            read.append(json.loads(lines.readline())["frame"])

    reading = threading.Thread(target=reader)
    reading.start()
    assert run(["predict", str(red_dot_model), str(walk), "--jsonl", str(pipe)]) == 0
    reading.join(10)
    assert read == [0]
    assert pipe.is_fifo()


def test_two_things_on_stdout_are_refused(red_dot_model: Path, walk: Path) -> None:
    assert run(["predict", str(red_dot_model), str(walk), "--jsonl", "-", "--json"]) == 2


def test_a_reader_who_has_seen_enough_ends_it_quietly(red_dot_model: Path, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", [dots((20 + i % 80, 30)) for i in range(3000)])
    command = [sys.executable, "-m", "samkr_edge", "predict", str(red_dot_model), str(long), "--jsonl", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["frame"] == 0  # while it runs
        running.stdout.close()
        told = running.stderr.read()
        assert running.wait(30) == 0
    assert "stopped before its end" in told
    assert "error" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("place", ["walk.mp4", "./walk.mp4", "photo.png", "link.onnx", "other.onnx"])
def test_lines_are_not_written_over_what_they_are_made_from(
    red_dot_model: Path, walk: Path, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", dots((20, 30)))
    Path("other.onnx").write_bytes(red_dot_model.read_bytes())
    Path("link.onnx").symlink_to(red_dot_model)
    before = Path(place).read_bytes()
    words = ["photo.png", "walk.mp4"]
    if place == "other.onnx":
        words = ["walk.mp4", "--serve", "0", "--compare", place]
    assert run(["predict", str(red_dot_model), *words, "--jsonl", place]) == 2
    assert Path(place).read_bytes() == before


# Cameras


class MotionJpeg(BaseHTTPRequestHandler):
    """A network camera: pictures without end, or as many as ``lives`` says of each connection; then it hangs up.

    A connection of no pictures is refused. The picture's width is 128, and 160 from the second connection on.
    """

    lives: list[int]

    def do_GET(self) -> None:
        pictures = self.lives.pop(0) if self.lives else 10**9
        if not pictures:
            return self.send_error(503)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        type(self).opened += 1  # type: ignore[attr-defined]
        wide = 128 if self.opened == 1 else 160  # type: ignore[attr-defined]
        data = cv2.imencode(".jpg", dots((30, 40), size=(96, wide)))[1].tobytes()
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
        for _ in range(pictures):
            try:
                self.wfile.write(head + data + b"\r\n")
            except OSError:
                return None
            time.sleep(0.01)
        return None

    def log_message(self, *_: object) -> None: ...


@contextmanager
def network_camera(*lives: int) -> Iterator[str]:
    """The address of a camera; see ``MotionJpeg``."""
    handler = type("Camera", (MotionJpeg,), {"lives": list(lives), "opened": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        serving.daemon_threads = True
        threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/cam"
        finally:
            serving.shutdown()


@contextmanager
def predicting(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "samkr_edge", "predict", *words, "--jsonl", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def ended_by_ctrl_c(running: subprocess.Popen[str]) -> str:
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 0, told
    return told


def test_a_camera_that_drops_is_opened_again_and_the_recording_goes_on(
    red_dot_model: Path, tmp_path: Path
) -> None:
    with (
        network_camera(12, 0) as address,
        predicting(str(red_dot_model), address, "-o", str(tmp_path)) as running,
    ):
        assert running.stdout is not None
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["frame"] < 20:
            seen.append(json.loads(running.stdout.readline()))
        told = ended_by_ctrl_c(running)
    assert told.count("stopped giving frames; trying to open it again") == 1
    assert told.count("is back after") == 1
    assert all(len(line["people"]) == 1 for line in seen)
    [lines], [video] = tmp_path.glob("*.jsonl"), tmp_path.glob("*.mp4")
    assert lines_of(lines)[-1]["frame"] > 12  # those after it came back too
    assert set(sizes_of(video)) == {(96, 128)}  # also of the frames that were wider


def test_ctrl_c_ends_the_wait_for_a_camera_that_does_not_come_back(red_dot_model: Path) -> None:
    with network_camera(5, *[0] * 99) as address, predicting(str(red_dot_model), address) as running:
        assert running.stderr is not None
        assert any("trying to open it again" in line for line in iter(running.stderr.readline, ""))
        assert f"{address}: " in ended_by_ctrl_c(running)


def test_without_reconnect_a_camera_that_drops_ends_with_an_error(red_dot_model: Path) -> None:
    with network_camera(5) as address, predicting(str(red_dot_model), address, "--no-reconnect") as running:
        printed, told = running.communicate(timeout=30)
    assert running.returncode == 7
    assert "SE-V96" in told
    assert 0 < len(printed.splitlines()) <= 5


def test_several_cameras_run_at_once_and_have_their_own_results(red_dot_model: Path, tmp_path: Path) -> None:
    with (
        network_camera() as first,
        network_camera() as second,
        predicting(str(red_dot_model), first, second, "-o", str(tmp_path), "--track") as running,
    ):
        assert running.stdout is not None
        seen = {first: 0, second: 0}
        while min(seen.values()) < 5:
            seen[json.loads(running.stdout.readline())["source"]] += 1
        told = ended_by_ctrl_c(running)
    for address in (first, second):
        assert f"{address}: " in told
    lines = sorted(tmp_path.glob("*.jsonl"))
    assert len(lines) == len(list(tmp_path.glob("*.mp4"))) == 2
    for path in lines:
        assert {person["id"] for line in lines_of(path) for person in line["people"]} == {1}


def test_a_camera_that_is_not_there_is_left_out_beside_others(red_dot_model: Path, tmp_path: Path) -> None:
    with (
        network_camera() as address,
        predicting(str(red_dot_model), "98", address, "-o", str(tmp_path)) as running,
    ):
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["source"] == address
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 7
    assert "camera98 does not open, so it was skipped" in told


def test_a_recording_keeps_its_size_when_the_cameras_changes(tmp_path: Path) -> None:
    tall = np.full((96, 32, 3), 255, np.uint8)
    with Recording(tmp_path, "cam", 25.0) as recording:
        for index, image in enumerate((dots(), tall, dots())):
            recording.write(index, 0.04 * index, Poses.empty(17), image)
    capture = cv2.VideoCapture(str(tmp_path / "cam.mp4"))
    capture.read()
    _, fitted = capture.read()
    bright = np.flatnonzero(fitted[48, :, 0] > 128)
    assert fitted.shape == (96, 128, 3)
    assert abs(bright.min() - 48) <= 2
    assert abs(bright.max() - 79) <= 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_lines_that_cannot_be_written_end_it_with_the_reason(tmp_path: Path) -> None:
    from samkr_edge.cli.json_lines import JsonLines

    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(SamkrError) as caught, JsonLines(tmp_path / "full") as lines:
        lines.write("camera0", 0, 0.0, Poses.empty(17))
    assert caught.value.code == "SE-D98"
