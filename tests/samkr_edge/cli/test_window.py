"""`--show`: Ctrl-C and the close button end it, and where no window can be it is said before anything runs."""

import _thread
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samkr_edge import child_process
from samkr_edge.cli import run
from samkr_edge.cli.window import Window
from samkr_edge.errors import SamkrError

IMAGE = np.zeros((8, 8, 3), np.uint8)
CALLS = ("namedWindow", "imshow", "waitKey", "getWindowProperty", "destroyAllWindows")


class Screen:
    """OpenCV's window functions; ``answers`` are the properties that this window system knows."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.there, self.waits = answers, False, 0
        self.keys: list[int] = []
        self.closes_after = 10**9

    def namedWindow(self, title: str, flags: int) -> None:
        self.there = True

    def imshow(self, title: str, image: np.ndarray) -> None:
        self.there = True

    def waitKey(self, milliseconds: int) -> int:
        assert 0 < milliseconds <= 100  # 0 waits for ever, deaf to signals
        self.waits += 1
        if self.waits > self.closes_after:
            self.there = False
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, title: str, name: int) -> float:
        return 1.0 if self.there and name in self.answers else -1.0

    def destroyAllWindows(self) -> None:
        self.there = False


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the process that opens a window first does."""
    monkeypatch.setenv("DISPLAY", ":97")

    code = child_process.code

    def set_to(text: str) -> None:
        command = code(text)
        monkeypatch.setattr("samkr_edge.cli.window.child_process.code", lambda _: command)

    set_to("")
    return set_to


@pytest.fixture(params=[(cv2.WND_PROP_VISIBLE, cv2.WND_PROP_AUTOSIZE), (cv2.WND_PROP_AUTOSIZE,)])
def screen(request: pytest.FixtureRequest, trial: Any, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """As Qt answers, and as GTK, which does not say whether a window is visible."""
    fake = Screen(*request.param)
    for name in CALLS:
        monkeypatch.setattr(cv2, name, getattr(fake, name))
    return fake


def test_the_close_button_ends_it_and_no_new_window_is_opened(screen: Screen) -> None:
    screen.closes_after = 3
    with Window("t", enabled=True) as window:
        window.show(IMAGE, hold=True)
        assert window.closed
        window.show(IMAGE, hold=True)
        assert not screen.there


def test_a_key_goes_on_and_q_ends(screen: Screen) -> None:
    screen.keys = [-1, -1, ord("n"), -1, ord("q")]
    with Window("t", enabled=True) as window:
        window.show(IMAGE, hold=True)
        assert not window.closed
        window.show(IMAGE, hold=True)
        assert window.closed


def test_ctrl_c_ends_the_wait_for_a_key(screen: Screen) -> None:
    with Window("t", enabled=True) as window:
        threading.Timer(0.05, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            window.show(IMAGE, hold=True)


def test_where_there_are_no_properties_the_window_stays(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Screen()
    for name in CALLS:
        monkeypatch.setattr(cv2, name, getattr(fake, name))
    with Window("t", enabled=True) as window:
        window.show(IMAGE)
        window.show(IMAGE)
        assert not window.closed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os; os.abort()", "no window opens on DISPLAY=:97: exit code -6"),
        ("import sys; sys.exit('could not connect to display')", "could not connect to display"),
        ("raise RuntimeError('The function is not implemented')", "without windows (headless)"),
        ("import time; time.sleep(9)", "did not answer"),
    ],
)
def test_a_screen_without_windows_is_told_before_anything_runs(
    trial: Any, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setattr("samkr_edge.cli.window._TRIAL_S", 1)
    trial(text)
    with pytest.raises(SamkrError) as caught, Window("t", enabled=True):
        pass
    assert caught.value.code == "SE-V06"
    assert told in caught.value.facts["reason"]


def test_without_a_screen_show_is_refused_before_anything_runs(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    assert run(["predict", str(red_dot_model), str(tmp_path / "a.png"), "--show"]) == 7
    assert "SE-V06" in capsys.readouterr().err


def test_predict_ends_with_its_window(
    red_dot_model: Path, tmp_path: Path, screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), IMAGE)
    screen.keys, screen.closes_after = [-1, ord("n")], 4
    assert run(["predict", str(red_dot_model), str(tmp_path), "--show"]) == 0
    assert "in 2 images" in capsys.readouterr().out
    assert not screen.there
