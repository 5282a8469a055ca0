"""One logger for a module, as long as the process lives; whoever listens hears what is said meanwhile."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_tensorrt import FakeTensorRT

from samkr_edge.runtime.tensorrt_log import Messages, listen

Install = Callable[[str], FakeTensorRT]


@pytest.fixture
def trt(install: Install) -> FakeTensorRT:
    return install("10.3.0")


def say(trt: FakeTensorRT, messages: Messages, severity: str, text: str) -> None:
    messages.logger.log(trt.ILogger.Severity[severity], text)


def test_the_logger_outlives_whoever_listened_and_is_the_same_for_all(trt: FakeTensorRT) -> None:
    first = listen(trt)
    trt.Runtime(first.logger)
    del first
    gc.collect()
    second = listen(trt)
    trt.Runtime(second.logger)  # fails where the first was freed: the registry still points to it
    assert second.logger is listen(trt).logger


def test_a_module_has_its_own(install: Install) -> None:
    first, second = listen(install("10.3.0")), listen(install("rtx 1.7.1.116"))
    assert first.logger is not second.logger
    say(install("10.3.0"), first, "ERROR", "mine")
    assert (first.texts(), second.texts()) == (["mine"], [])


def test_each_hears_what_was_said_since_it_listened(trt: FakeTensorRT) -> None:
    first = listen(trt)
    say(trt, first, "ERROR", "of the first build")
    second = listen(trt)
    say(trt, first, "WARNING", "of the second")
    assert second.texts() == ["of the second"]
    assert first.texts() == ["of the first build", "of the second"]
    assert (first.errors(), second.errors()) == (["of the first build"], [])
    assert second.reasons() == ["of the second"]


def test_the_last_messages_are_kept_and_nothing_of_who_has_gone(trt: FakeTensorRT) -> None:
    kept = listen(trt, most=3)
    listen(trt)
    for number in range(5):
        say(trt, kept, "ERROR", str(number))
        say(trt, kept, "INFO", "chatter")
    assert kept.texts() == ["2", "3", "4"]
    gc.collect()
    assert list(kept.logger._listeners) == [kept]


def test_a_listing_is_kept_where_it_is_asked_for_and_what_a_build_without_a_gpu_always_says_is_not(
    trt: FakeTensorRT,
) -> None:
    plain, listing = listen(trt), listen(trt, keep_listing=True)
    say(trt, plain, "VERBOSE", "Name: a, LayerType: kgen")
    say(trt, plain, "ERROR", "Error Code 1: Cuda Runtime (cudaError 35)")
    assert (plain.listing, listing.listing) == (None, "Name: a, LayerType: kgen\n")
    assert (len(plain.errors()), listing.errors()) == (1, [])


def test_threads_talk_and_listen_at_once_and_nothing_is_lost(trt: FakeTensorRT) -> None:
    heard, begin = listen(trt, most=10_000), threading.Barrier(8)
    loggers: list[Any] = []

    def talk(number: int) -> None:
        begin.wait()
        for index in range(200):
            say(trt, listen(trt), "ERROR", f"{number} {index}")
        loggers.append(listen(trt).logger)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(heard.texts())) == 1600
    assert {id(logger) for logger in loggers} == {id(heard.logger)}


def test_two_threads_that_are_first_get_one_logger(install: Install) -> None:
    for _ in range(20):
        trt, begin = install("10.3.0"), threading.Barrier(4)
        found: list[Any] = []

        def first(
            trt: FakeTensorRT = trt, begin: threading.Barrier = begin, found: list[Any] = found
        ) -> None:
            begin.wait()
            found.append(listen(trt))

        threads = [threading.Thread(target=first) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(one.logger) for one in found}) == 1
