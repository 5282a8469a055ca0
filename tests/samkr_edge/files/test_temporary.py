"""Where there is no room for temporary files, their folder is named, and not the file that is being made."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from samkr_edge.deploy.ssh import Host, Remote
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.files.artefact import replacing
from samkr_edge.files.temporary import made_folder, temporary_file, temporary_folder


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a read-only container without /tmp."""

    def missing() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", missing)


def use_folder() -> None:
    with temporary_folder():
        pass


USES: dict[str, Callable[[], object]] = {
    "folder": use_folder,
    "made": made_folder,
    "file": temporary_file,
    "predictions": lambda: Predictions(17),
    "ssh": lambda: Remote(Host("nano@orin", None)).__enter__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("gone", [True, False], ids=["nowhere", "taken away"])
def test_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[], object], gone: bool
) -> None:
    if gone:
        nowhere(monkeypatch)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    def within_an_artefact() -> None:
        with replacing(tmp_path / "out.bin"):
            use()

    with pytest.raises(SamkrError) as caught:
        within_an_artefact()
    assert caught.value.code == "SE-D09"
    assert "folder" in caught.value.facts
    assert caught.value.fix is not None
    assert "TMPDIR" in caught.value.fix
    if not gone:
        assert str(tmp_path / "gone") in caught.value.facts["folder"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", [True, False])
def test_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fill() -> None:
        with temporary_folder() as folder:
            full = OSError(errno.ENOSPC, "No space left on device")
            raise OSError(errno.EACCES, "denied", str(folder / "x")) if named else full

    with pytest.raises(SamkrError) as caught:
        fill()
    assert caught.value.code == "SE-D09"
    assert str(tmp_path) in caught.value.facts["folder"]
    assert not list(tmp_path.iterdir())


def test_what_fails_elsewhere_meanwhile_is_not_the_folders_fault(tmp_path: Path) -> None:
    def read() -> None:
        with temporary_folder():
            (tmp_path / "none").read_bytes()

    with pytest.raises(FileNotFoundError):
        read()


def test_an_artefact_is_not_blamed_for_what_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    def read() -> None:
        with replacing(tmp_path / "out.bin"):
            (tmp_path / "other" / "none").read_bytes()

    with pytest.raises(FileNotFoundError):
        read()

    def fill() -> None:
        with replacing(tmp_path / "out.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SamkrError) as caught:
        fill()
    assert caught.value.code == "SE-D01"
