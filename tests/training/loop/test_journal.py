"""The record of a run holds every step once, and a disk that refuses it is named."""

import errno
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from samkr_edge.errors import SamkrError
from training.loop.journal import LOG, Journal


def test_it_forgets_steps_that_are_repeated_and_lines_that_are_cut_off_or_damaged(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_bytes(b'{"step": 20}\n{"step": \xff}\n{}\n{"step": 40}\n{"step": 60}\n{"ste')
    with Journal(tmp_path, 40) as journal:
        journal.write(60, {"loss": 0.5})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"step": 20}, {"step": 40}, {"step": 60, "loss": 0.5},
    ]  # fmt: skip


def test_a_full_disk_is_an_error_with_the_folder(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Journal(tmp_path, 0) as journal:
        journal._file.close()
        journal._file = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        with pytest.raises(SamkrError) as caught:
            journal.write(1, {"loss": 0.5})
        journal._file = open(tmp_path / LOG, "a", encoding="utf-8")  # noqa: SIM115
    assert caught.value.code == "SE-D72"
    assert str(tmp_path) in caught.value.message


class SummaryWriter:
    """Stands in for torch's: takes what that takes, and says what it was given."""

    def __init__(self, log_dir: str, *, purge_step: int) -> None:
        self.given: list[tuple[Any, ...]] = [(log_dir, purge_step)]
        self.full = False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self._write(tag, scalar_value, global_step)

    def close(self) -> None:
        self._write("closed")

    def _write(self, *what: Any) -> None:
        if self.full:  # its thread could not write; it says so at the next call
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.given.append(what)


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_gets_the_numbers_where_it_is_installed(tmp_path: Path) -> None:
    with Journal(tmp_path, 7) as journal:
        journal.write(8, {"ap": 12.5, "note": "not a number"})
    # What was logged of later steps, before the run was stopped, is not shown beside their repetition.
    assert journal._board.given == [(str(tmp_path / "tensorboard"), 8), ("ap", 12.5, 8), ("closed",)]


@pytest.mark.usefixtures("tensorboard")
def test_a_disk_that_fills_up_under_tensorboard_is_the_same_error(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        journal.write(1, {"loss": 0.5})
        journal._board.full = True
        with pytest.raises(SamkrError) as caught:
            journal.write(2, {"loss": 0.4})
        # Closing it fails as well: no second error, since the log has every number.
    assert caught.value.code == "SE-D72"
    assert "No space left" in caught.value.facts["reason"]


def test_it_is_never_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    with Journal(tmp_path, 0) as journal:
        journal.write(1, {"loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()
