"""The record of a run holds every step once, and a disk that refuses it is named."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from samkr_edge.errors import SamkrError
from training.journal import LOG, Journal


def test_it_forgets_steps_that_are_repeated_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text('{"step": 20}\n{"step": 40}\n{"step": 60}\n{"ste')
    with Journal(tmp_path, 40) as journal:
        journal.write(60, {"loss": 0.5})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"step": 20}, {"step": 40}, {"step": 60, "loss": 0.5},
    ]  # fmt: skip


def test_a_full_disk_is_an_error_with_the_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Journal(tmp_path, 0) as journal:
        journal._file.close()
        journal._file = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        with pytest.raises(SamkrError) as caught:
            journal.write(1, {"loss": 0.5})
        journal._file = open(tmp_path / LOG, "a", encoding="utf-8")  # noqa: SIM115
    assert caught.value.code == "SE-D72"
    assert str(tmp_path / LOG) in caught.value.message


def test_tensorboard_gets_the_numbers_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed",))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with Journal(tmp_path, 7) as journal:
        journal.write(8, {"ap": 12.5, "note": "not a number"})
    assert written == [(str(tmp_path / "tensorboard"), 8), ("ap", 12.5, 8), ("closed",)]


def test_it_is_never_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    with Journal(tmp_path, 0) as journal:
        journal.write(1, {"loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()
