"""`predict --serve` as a command: what it needs, what it prints, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video
from served_page import Answer, ask

from samkr_edge.cli import run
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.opening import open_video
from samkr_edge.frames.own_speed import OwnSpeed
from samkr_edge.frames.video import VideoSource


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A second of two people who walk towards each other."""
    frames = [dots((20 + 2 * i, 30), (110 - 2 * i, 70)) for i in range(25)]
    return write_video(tmp_path / "walk.mp4", frames)


class Command:
    """A running `predict --serve`: its link, and requests to it."""

    def __init__(self, *words: str | Path, cwd: Path) -> None:
        command = [sys.executable, "-m", "samkr_edge", "predict", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if (found := re.search(r"live page: http://(\S+):(\d+)/(\?token=\S+)?", line)) is not None:
                self.host, self.port, self.token = found[1].strip("[]"), int(found[2]), found[3] or ""
                break
        else:
            raise AssertionError("".join(self.said))
        self._rest = threading.Thread(target=lambda: self.said.extend(self.process.stderr or ()), daemon=True)
        self._rest.start()

    def get(self, path: str, **headers: str) -> Answer:
        return ask(self.host, self.port, path, **headers)

    def pictures(self, after: str = "0") -> list[tuple[int, dict[str, Any], np.ndarray | None]]:
        return self.get(f"/pictures?viewer=viewer01&after={after}").pictures()

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit code and what it printed, after a signal."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        printed = self.process.stdout.read()
        code = self.process.wait(60)
        self._rest.join(10)
        return code, printed


@pytest.fixture
def serve(tmp_path: Path, red_dot_model: Path) -> Iterator[Any]:
    started: list[Command] = []

    def start(*words: str | Path) -> Command:
        started.append(Command(red_dot_model, *words, cwd=tmp_path))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.wait()


def test_a_video_is_a_camera_and_nothing_is_written(serve: Any, walk: Path, tmp_path: Path) -> None:
    command = serve(walk, "--serve", "0", "--loop", "--json")
    before = {path.name for path in tmp_path.iterdir()}
    number, frames = 0, []
    while len(frames) < 3 or frames[-1] < 30:  # past its end: it is played again
        for _, facts, picture in command.pictures(str(number)):
            number = facts["number"]
            frames.append(facts["frame"])
            assert picture is not None
            assert picture.shape == (96, 128, 3)
            assert len(facts["people"]) == 2
            assert picture[..., 1].max() < 60  # red dots, and no people: each viewer draws them
    assert frames == sorted({*frames})
    facts = command.get("/facts").json
    assert facts["streams"] == ["walk.mp4"]
    assert facts["models"][0]["title"].startswith("red_dot")
    code, printed = command.end()
    assert code == 0  # the usual end, as for a camera
    assert json.loads(printed)["streams"][0]["frames"] > 30
    assert "live page" not in printed
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_end_of_the_video_is_told_and_ends_the_command(serve: Any, walk: Path) -> None:
    command = serve(walk, "--serve", "127.0.0.1:0")
    number, states = 0, []
    while "ended" not in states:
        for _, facts, _ in command.pictures(str(number)):
            number = facts["number"]
            states.append(facts["state"])
    assert states[0] == "live"
    code, printed = command.wait()
    assert code == 0
    assert "walk.mp4" in printed


def test_results_are_whole_and_by_the_commands_threshold_whatever_is_watched(
    serve: Any, walk: Path, tmp_path: Path
) -> None:
    command = serve(walk, "--serve", "0", "-o", "out", "--threshold", "2")
    ((_, facts, picture),) = command.pictures()
    assert len(facts["people"]) == 2  # a viewer may still look at them
    assert picture is not None
    assert picture[..., 1].max() < 60  # nor is the line of the overlay in it
    assert command.get("/facts").json["writes"] is True
    command.wait()
    lines = [json.loads(line) for line in (tmp_path / "out" / "walk.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(25))
    assert all(line["people"] == [] for line in lines)


def test_lines_on_stdout_are_whole_too(serve: Any, walk: Path) -> None:
    command = serve(walk, "--serve", "0", "--jsonl", "-", "--every", "2")
    code, printed = command.wait()
    assert code == 0
    assert [json.loads(line)["frame"] for line in printed.splitlines()] == list(range(0, 25, 2))


def test_several_sources_run_at_the_same_time(serve: Any, walk: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", [dots((60, 40))] * 25)
    command = serve(walk, other, "--serve", "0", "--loop")
    after = [0, 0]
    for _ in range(20):
        for stream, facts, _ in command.pictures(",".join(map(str, after))):
            after[stream] = facts["number"]
            assert len(facts["people"]) == 2 - stream
        if min(after) > 2:
            break
    assert min(after) > 2
    assert command.end()[0] == 0


def test_two_models_see_the_same_frames(serve: Any, walk: Path, red_dot_model: Path) -> None:
    command = serve(walk, "--serve", "0", "--loop", "--compare", red_dot_model)
    ((_, facts, _),) = command.pictures()
    assert [person[2] for person in facts["compared"]["people"]] == [person[2] for person in facts["people"]]
    assert len(command.get("/facts").json["models"]) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_viewers_watch(serve: Any, walk: Path, number: int) -> None:
    command = serve(walk, "--serve", "0", "--loop")
    command.pictures()
    with socket.create_connection((command.host, command.port)) as stuck:
        stuck.sendall(b"GET /pictures?viewer=stuckone&after=999999 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        code, _ = command.end(number)
    assert code in (0, 128 + number)
    assert "Traceback" not in "".join(command.said)


def test_another_address_is_given_out_with_a_token(serve: Any, walk: Path) -> None:
    command = serve(walk, "--serve", "0.0.0.0:0", "--loop")
    assert command.token
    command.host = "127.0.0.1"
    assert command.get("/").status == 401
    assert command.get(f"/{command.token}").status == 303
    command.end()
    assert "trust" in "".join(command.said)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--serve", "x"], "SE-U37"),
        (["--serve", "70000"], "SE-U37"),
        (["--serve", ":8080"], "SE-U37"),
        (["--serve", "::1:8080"], "SE-U37"),
        (["--serve", "0.0.0.0"], "SE-U37"),
        (["--serve", "http://localhost:80"], "SE-U37"),
        (["--serve", "192.0.2.1:8080"], "SE-V62"),
        (["--serve", "no.such.host.invalid:8080"], "SE-V62"),
        (["--loop"], "SE-U39"),
        (["--compare", "other.onnx"], "SE-U39"),
        (["--serve", "0", "--loop", "-o", "out"], "SE-U43"),
        (["--serve", "0", "--compare", "missing.onnx"], "SE-A23"),
    ],
)
def test_what_cannot_be_served_is_one_error_and_nothing_is_done(
    words: list[str],
    code: str,
    red_dot_model: Path,
    walk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["predict", str(red_dot_model), str(walk), *words]) != 0
    shown = capsys.readouterr().err
    assert code in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "poses").exists()


def test_a_port_that_is_in_use_is_named(
    red_dot_model: Path, walk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(["predict", str(red_dot_model), str(walk), "--serve", str(port)]) == 7
    shown = capsys.readouterr().err
    assert "SE-V62" in shown
    assert f":{port}" in shown


def test_images_are_not_served(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), dots((30, 40)))
    assert run(["predict", str(red_dot_model), str(tmp_path / "a.png"), "--serve", "0"]) == 2
    assert "SE-U38" in capsys.readouterr().err


def test_without_the_extra_it_is_named(
    red_dot_model: Path, walk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("samkr_edge.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["predict", str(red_dot_model), str(walk), "--serve", "0"]) == 2
    shown = capsys.readouterr().err
    assert "SE-U70" in shown
    assert 'pip install "samkr-edge[serve]"' in shown


def test_without_the_option_nothing_of_the_server_is_imported(red_dot_model: Path, walk: Path) -> None:
    code = (
        "import sys; from samkr_edge.cli import run; "
        f"assert run(['predict', {str(red_dot_model)!r}, {str(walk)!r}, '-o', {str(walk.parent / 'o')!r}]) == 0; "
        "print([name for name in sys.modules if name.startswith(('samkr_edge.serve', 'starlette', 'uvicorn'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def video(path: Path) -> VideoSource:
    frames = open_video(str(path))
    assert isinstance(frames, VideoSource)
    return frames


def test_a_file_keeps_its_own_time(walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = OwnSpeed(video(walk), live=True)
    waits: list[float] = []
    monkeypatch.setattr(source._stopping, "wait", lambda seconds: bool(waits.append(seconds)))
    monkeypatch.setattr("samkr_edge.frames.own_speed.time.perf_counter", lambda: 100.0)
    times = [frame.seconds for frame in source]
    assert len(times) == 25
    # The clock stands still: the n-th frame is due n steps from the first.
    assert waits == pytest.approx([n / 25 for n in range(25)], abs=0.02)


def test_a_file_that_is_played_again_goes_on_in_numbers_and_time(
    walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OwnSpeed(video(walk), live=True, again=lambda: video(walk))
    monkeypatch.setattr(source._stopping, "wait", lambda seconds: False)
    frames = []
    for frame in source:
        frames.append((frame.index, frame.seconds))
        if len(frames) == 60:
            break
    source.close()
    assert [index for index, _ in frames] == list(range(60))
    steps = np.diff([seconds for _, seconds in frames])
    assert steps == pytest.approx(np.full(59, 1 / 25), abs=0.02)


def test_a_video_that_begins_late_begins_at_once(walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part of a file, the first frame has a time and a number of its own."""

    def made() -> VideoSource:
        source = open_video(str(walk), excerpt=Excerpt(start=0.6))
        assert isinstance(source, VideoSource)
        return source

    source = OwnSpeed(made(), live=True, again=made)
    waits: list[float] = []
    monkeypatch.setattr(source._stopping, "wait", lambda seconds: bool(waits.append(seconds)))
    monkeypatch.setattr("samkr_edge.frames.own_speed.time.perf_counter", lambda: 100.0)
    frames = [(frame.index, frame.seconds) for frame, _ in zip(source, range(15), strict=False)]
    assert [index for index, _ in frames] == list(range(15, 30))
    assert frames[0][1] == pytest.approx(15 / 25, abs=0.02)
    assert np.diff([seconds for _, seconds in frames]) == pytest.approx(np.full(14, 1 / 25), abs=0.02)
    assert waits[0] == 0
    assert max(np.diff(waits)) < 0.06


def test_a_file_that_waits_for_its_next_frame_stops_at_once(tmp_path: Path) -> None:
    slow = write_video(tmp_path / "slow.mp4", [dots((30, 40))] * 3)
    source = OwnSpeed(video(slow), live=True)
    assert next(iter(source)).index == 0
    thread = threading.Thread(target=lambda: list(source), daemon=True)
    thread.start()
    time.sleep(0.01)
    source.close()
    thread.join(10)
    assert not thread.is_alive()
