"""Where caches lie: for users with a home, without one, and with one that cannot be written to."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.files import cache
from samkr_edge.files.cache import cache_folder


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a user who has no home and is in no list of users."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("SAMKR_EDGE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache._temporary_folder.cache_clear()
    return tmp_path


def test_a_user_without_a_home_gets_a_temporary_folder_and_is_told_once(
    nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cache_folder()
    assert folder == cache_folder() == nobody / f"samkr-edge-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    told = capsys.readouterr().err
    assert told.count("this user has no home folder") == 1
    assert str(folder) in told
    assert "SAMKR_EDGE_CACHE" in told
    cache._temporary_folder.cache_clear()
    assert cache_folder() == folder  # in the next process, too


def test_a_temporary_folder_that_others_can_write_to_is_not_read(nobody: Path) -> None:
    planted = nobody / f"samkr-edge-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert cache_folder() != planted
    cache._temporary_folder.cache_clear()
    planted.rmdir()
    planted.symlink_to(nobody)
    assert cache_folder() not in (planted, nobody)


def test_a_home_that_nothing_can_be_written_to_is_none(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = nobody / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != home)
    assert cache_folder().parent == nobody
    assert f"nothing can be written to {home}" in capsys.readouterr().err
    # What is there already can still be read.
    (home / ".cache" / "samkr-edge").mkdir(parents=True)
    assert cache_folder() == home / ".cache" / "samkr-edge"


def test_without_any_temporary_folder_the_way_out_is_named(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(nobody / "gone"))
    with pytest.raises(SamkrError) as caught:
        cache_folder()
    assert caught.value.code == "SE-D55"
    assert "SAMKR_EDGE_CACHE" in str(caught.value.fix)


def test_what_the_user_chose_is_taken(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(nobody / "xdg"))
    assert cache_folder() == nobody / "xdg" / "samkr-edge"
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(nobody / "chosen"))
    assert cache_folder() == nobody / "chosen"
