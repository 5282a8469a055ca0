"""The pipeline keeps the order, bounds what is in flight, tells of failures once, and never hangs."""

import threading
import time
from collections.abc import Iterator

import pytest

from samkr_edge.frames.channel import Channel, Ended, StageFailed
from samkr_edge.frames.pipeline import Pipeline


def threads_of_pipelines() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in {"capture", "first", "second"}]


def test_results_come_in_order_though_stages_take_different_times() -> None:
    def first(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n

    with Pipeline(range(40), [("first", first), ("second", lambda n: n * 10)]) as pipeline:
        assert list(pipeline) == [n * 10 for n in range(40)]
    assert threads_of_pipelines() == []


def test_stages_work_at_the_same_time() -> None:
    """Frame 1 is in the first stage while frame 0 is in the second: both wait for each other."""
    meeting = threading.Barrier(2, timeout=5)

    def first(n: int) -> int:
        if n == 1:
            meeting.wait()
        return n

    def second(n: int) -> int:
        if n == 0:
            meeting.wait()
        return n

    with Pipeline(range(3), [("first", first), ("second", second)]) as pipeline:
        assert list(pipeline) == [0, 1, 2]


def test_a_slow_reader_holds_the_source_back() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for n in range(200):
            made.append(n)
            yield n

    seen = 0
    most = 0
    with Pipeline(source(), [("first", lambda n: n), ("second", lambda n: n)]) as pipeline:
        for n in pipeline:
            time.sleep(0.001)
            most = max(most, len(made) - seen)
            seen += 1
            assert n == seen - 1
    assert seen == 200
    assert most <= Pipeline.in_flight(2)


def test_newest_mode_drops_what_waits_and_keeps_the_last() -> None:
    ready = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        ready.wait(5)  # the first stage holds frame 0
        yield from range(1, 100)

    release = threading.Event()

    def first(n: int) -> int:
        if n == 0:
            ready.set()
            release.wait(5)
        return n

    with Pipeline(source(), [("first", first)], newest=True) as pipeline:
        while pipeline.dropped < 98:
            time.sleep(0.001)
        release.set()
        assert list(pipeline) == [0, 99]


def test_a_failure_arrives_once_with_its_frame_behind_the_frames_before_it() -> None:
    def second(n: int) -> int:
        if n == 7:
            raise RuntimeError("boom")
        return n

    seen = []
    with Pipeline(range(100), [("first", lambda n: n), ("second", second)]) as pipeline:
        with pytest.raises(StageFailed) as caught:
            seen.extend(pipeline)
        assert (caught.value.stage, caught.value.frame) == ("second", 7)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "frame 7, second: RuntimeError: boom" in str(caught.value)
    assert threads_of_pipelines() == []


def test_what_came_before_a_failure_is_delivered() -> None:
    def second(n: int) -> int:
        if n == 7:
            raise RuntimeError("boom")
        return n

    with Pipeline(range(100), [("first", lambda n: n), ("second", second)]) as pipeline:
        results = iter(pipeline)
        seen = [next(results) for _ in range(7)]
        with pytest.raises(StageFailed):
            next(results)
    assert seen == list(range(7))


def test_a_source_that_breaks_names_the_frame_it_could_not_give() -> None:
    def source() -> Iterator[int]:
        yield from range(3)
        raise OSError("unplugged")

    with Pipeline(source(), [("first", lambda n: n)]) as pipeline, pytest.raises(StageFailed) as caught:
        list(pipeline)
    assert (caught.value.stage, caught.value.frame) == ("capture", 3)


def test_leaving_early_stops_every_thread() -> None:
    with Pipeline(iter(int, 1), [("first", lambda n: n), ("second", lambda n: n)]) as pipeline:
        for number, _ in enumerate(pipeline):
            if number == 5:
                break
    assert pipeline.stopped
    assert threads_of_pipelines() == []


def test_a_source_that_says_nothing_is_a_timeout_not_a_hang() -> None:
    silence = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        silence.wait(10)

    with Pipeline(source(), [("first", lambda n: n)], patience=0.05) as pipeline:
        with pytest.raises(TimeoutError):
            list(pipeline)
        silence.set()
    assert pipeline.stopped


def test_an_ended_channel_gives_what_it_holds_and_a_closed_one_nothing() -> None:
    channel = Channel(3)
    assert channel.put(1)
    channel.end()
    assert channel.get() == 1
    with pytest.raises(Ended):
        channel.get()
    channel = Channel(3)
    channel.put(1)
    channel.close()
    assert not channel.put(2)
    with pytest.raises(Ended):
        channel.get()
