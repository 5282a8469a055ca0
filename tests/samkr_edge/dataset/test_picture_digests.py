"""Pictures are told apart by what is in them, not by their names and sizes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.dataset.picture_digests import disk_state, pictures_digest


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "1.jpg"
    path.write_bytes(b"white")
    return path


def change_in_place(path: Path) -> None:
    """Other bytes under the same name, of the same size, with the same time of modification."""
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_other_bytes_under_the_same_name_and_size_are_other_pictures(picture: Path) -> None:
    record = [ImageRecord(1, picture, 8, 8)]
    digest, state = pictures_digest(record), disk_state([picture])
    assert (pictures_digest(record), disk_state([picture])) == (digest, state)
    change_in_place(picture)
    assert pictures_digest(record) != digest
    assert disk_state([picture]) != state


def test_a_digest_is_the_same_wherever_the_pictures_lie(picture: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / picture.name
    copy.parent.mkdir()
    copy.write_bytes(picture.read_bytes())
    assert pictures_digest([ImageRecord(1, copy, 8, 8)]) == pictures_digest([ImageRecord(1, picture, 8, 8)])
    assert pictures_digest([ImageRecord(2, copy, 8, 8)]) != pictures_digest([ImageRecord(1, copy, 8, 8)])


def test_a_picture_that_is_missing_is_no_error_but_another_state(picture: Path) -> None:
    record = [ImageRecord(1, picture, 8, 8)]
    there = pictures_digest(record), disk_state([picture])
    picture.unlink()
    assert pictures_digest(record) != there[0]
    assert disk_state([picture]) != there[1]


@pytest.mark.skipif(sys.platform == "darwin", reason="names there are Unicode")
def test_a_name_that_is_no_unicode_has_a_digest_too(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.write_bytes(b"white")
    assert len(pictures_digest([ImageRecord(1, path, 8, 8)])) == len(disk_state([path])) == 64
