"""A camera that drops is opened again, told once, and nothing waits for it without end."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from broken_cameras import Camera, Hanging
from red_dot import dots

from samkr_edge.errors import SamkrError
from samkr_edge.frames.live_source import LiveSource
from samkr_edge.frames.video import Capture

IMAGE = dots((30, 40))


def source_of(capture: Capture, reopen: Callable[[], Capture | None] | None, told: list[str]) -> LiveSource:
    """Its patience is the usual one: on a busy machine a thread that waits for its turn is no lost camera."""
    return LiveSource(capture, "camera0", reopen=reopen, pause=0.001, delays=(0.001, 0.002), tell=told.append)


def test_a_camera_that_comes_back_goes_on_with_its_numbers_and_its_time_and_is_told_once() -> None:
    opened: Iterator[Camera | None] = iter([None, None, Camera(IMAGE, lives=0), Camera(IMAGE)])
    told: list[str] = []
    first = Camera(IMAGE, lives=3)
    source = source_of(first, lambda: next(opened), told)
    frames = list(islice(source, 6))
    source.close()
    assert [frame.index for frame in frames] == list(range(6))
    assert sorted(frame.seconds for frame in frames) == [frame.seconds for frame in frames]
    assert first.released
    assert [text.partition(";")[0] for text in told] == [
        "camera0 stopped giving frames",
        "camera0 is back after 0 s",
    ]


def test_a_camera_that_fails_to_open_with_an_error_is_tried_again() -> None:
    tries = []

    def reopen() -> Camera:
        tries.append(1)
        if len(tries) < 3:
            raise SamkrError("SE-V98", "no", {}, fix="no")
        return Camera(IMAGE)

    source = source_of(Camera(IMAGE, lives=1), reopen, [])
    assert len(list(islice(source, 3))) == 3
    source.close()


def test_without_reconnect_a_lost_camera_is_an_error() -> None:
    source = source_of(Camera(IMAGE, lives=3), None, [])
    with pytest.raises(SamkrError) as caught:
        list(source)
    assert (caught.value.code, source.read) == ("SE-V96", 3)


def test_a_hanging_driver_is_given_up_and_not_opened_a_second_time() -> None:
    hanging, opened = Hanging(IMAGE, lives=2), []

    def reopen() -> Camera:
        assert hanging.released
        opened.append(Camera(IMAGE))
        return opened[-1]

    def freed_a_while_after(_: str) -> None:
        threading.Timer(0.1, hanging.free.set).start()

    source = LiveSource(
        hanging,
        "camera0",
        reopen=reopen,
        pause=0.001,
        patience=0.5,
        delays=(0.001,),
        tell=freed_a_while_after,
    )
    assert [frame.index for frame in islice(source, 3)] == [0, 1, 2]
    assert len(opened) == 1
    source.close()


def test_without_reconnect_a_hanging_driver_is_an_error() -> None:
    hanging = Hanging(IMAGE, lives=2)
    with pytest.raises(SamkrError):
        list(LiveSource(hanging, "camera0", pause=0.001, patience=0.2))
    hanging.free.set()


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_stopping_ends_the_wait_for_a_camera_at_once(delay: float) -> None:
    source = LiveSource(
        Camera(IMAGE, lives=1), "camera0", reopen=lambda: None, pause=0.001, delays=(60,), tell=lambda _: None
    )
    seen: list[int] = []
    reading = threading.Thread(target=lambda: seen.extend(frame.index for frame in source))
    reading.start()
    time.sleep(delay)
    source.stop()
    reading.join(5)
    assert not reading.is_alive()
    assert seen in ([], [0])


def test_an_error_of_another_kind_is_no_loss() -> None:
    class Odd(Camera):
        def read(self, image: object = None) -> tuple[bool, object]:
            raise MemoryError("no")

    with pytest.raises(MemoryError):
        list(source_of(Odd(IMAGE), lambda: Camera(IMAGE), []))


def test_a_camera_that_was_never_read_is_released() -> None:
    camera = Camera(IMAGE)
    source_of(camera, None, []).close()
    assert camera.released
