"""A run survives what machines do to it: a kill at any moment, a disk that is full."""

import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from small_run import same, train

import training.loop.fit as fit_module
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.checkpoint import load_checkpoint
from training.loop.run import FINAL, LAST

LONG: dict[str, Any] = {"schedule": {"steps": 24}}
# Processes start from a server that has imported what is slow to import, once.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["training.loop.fit"])


def run_and_kill(people: KeypointDataset, out: Path, after: float) -> None:
    """Start or resume the run in a process of its own, which saves after every step; kill it so many seconds after
    its first save.
    """
    last = out / LAST
    before = last.stat().st_mtime_ns if last.is_file() else 0
    child = SERVER.Process(
        target=train, args=(out, people), kwargs={"resume": True, "save_seconds": 1e-9, **LONG}
    )
    child.start()
    try:
        while not (last.is_file() and last.stat().st_mtime_ns != before):
            assert child.is_alive(), f"the run ended by itself: {child.exitcode}"
            time.sleep(0.002)
        time.sleep(after)
    finally:
        child.kill()
        child.join()


def test_a_run_that_is_killed_twice_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, people: KeypointDataset
) -> None:
    whole = train(tmp_path / "whole", people, **LONG)
    moment = random.Random()
    for _ in range(2):
        run_and_kill(people, tmp_path / "killed", moment.uniform(0, 0.15))
        assert not (tmp_path / "killed" / FINAL).exists()
        load_checkpoint(tmp_path / "killed" / LAST)  # whole, whenever the kill came
    (tmp_path / "killed" / f".last.{os.getpid()}.part.pt").write_bytes(b"what a kill while saving leaves")
    resumed = train(tmp_path / "killed", people, resume=True, **LONG)
    assert same(whole.state, resumed.state)
    assert not list((tmp_path / "killed").glob(".*"))


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", people)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rate_factor = fit_module.rate_factor

    def fill_the_disk(schedule: Any, done: float, step: int) -> float:
        if step == 3:  # no file may grow beyond this; a checkpoint is larger
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        return rate_factor(schedule, done, step)

    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # Python's default: a write fails with an error
    monkeypatch.setattr(fit_module, "rate_factor", fill_the_disk)
    try:
        with pytest.raises(SamkrError) as caught:
            train(tmp_path / "full", people, save_seconds=1e-9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert caught.value.code == "SE-D01"
    assert load_checkpoint(tmp_path / "full" / LAST).training["step"] == 3
    assert not list((tmp_path / "full").glob(".*"))
    assert same(whole.state, train(tmp_path / "full", people, resume=True, save_seconds=1e-9).state)
