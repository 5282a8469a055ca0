"""A file that the operating system refuses is a clear error, whichever command wanted it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samkr_edge.builder.tensorrt.calibrator import CalibrationImages
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import load_rescoring
from samkr_edge.files.artefact import read_json
from samkr_edge.files.refused import refused_file
from samkr_edge.passport import read_passport
from samkr_edge.pose.skeleton import COCO17


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("loop.onnx", ["inspect", "{}"]),
        ("loop.onnx", ["build", "{}", "--target", "cpu", "-o", "out.cpu.onnx"]),
        ("loop.pt", ["export", "{}", "-o", "out.onnx"]),
        ("loop.pth", ["import", "{}", "--model", "dekr_w32", "-o", "out.pt"]),
        ("loop.json", ["report", "{}", "-o", "out.html"]),
        ("loop.yaml", ["train", "{}", "--data", "data", "--out", "run"]),
    ],
)
def test_a_link_to_itself_is_one_error_whatever_should_be_behind_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    file.symlink_to(file)
    assert run([word.format(file) for word in command]) == 3
    shown = capsys.readouterr().err
    assert f"error SE-D04: {file} could not be read or written" in shown
    assert os.strerror(errno.ELOOP) in shown


@pytest.mark.parametrize(
    "read",
    [
        lambda path: load_rescoring(path, COCO17),
        lambda path: CalibrationImages(path, (64, 64)),
        lambda path: read_json(path, "results"),
        lambda path: read_passport(path.with_name("m.onnx")),
    ],
    ids=["rescoring network", "list of images", "results", "passport"],
)
def test_what_the_system_refuses_is_no_fault_of_its_content(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    file = tmp_path / "m.onnx.json"
    file.symlink_to(file)
    with pytest.raises(SamkrError) as caught:
        read(file)
    assert caught.value.code == "SE-D04"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that opens and fails when read")
def test_a_disk_that_fails_while_reading_is_no_bug_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.symlink_to("/proc/self/mem")
    assert run(["sweep", str(suite), "--out", str(tmp_path / "out")]) == 3
    shown = capsys.readouterr().err
    assert "error SE-D04: a file could not be read or written" in shown
    assert f"reason     {os.strerror(errno.EIO)}" in shown


def test_a_folder_that_may_not_be_entered_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "closed/model.onnx")

    monkeypatch.setattr("samkr_edge.cli.targets.targets", refuse)
    assert run(["targets"]) == 3
    assert "error SE-D04: closed/model.onnx could not be read or written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "name", "fix"),
    [
        (errno.EACCES, "my run/a.onnx", "namei -l 'my run/a.onnx'"),
        (errno.EACCES, b"a.onnx", "namei -l a.onnx"),
        (errno.EACCES, None, "another disk"),
        (errno.ENOSPC, "a.onnx", "free some space"),
        (errno.EISDIR, "a", "name a file in this folder"),
        (errno.EMFILE, "a.onnx", "ulimit -n"),
        (errno.EIO, "a.onnx", "another disk"),
    ],
)
def test_the_way_out_is_of_what_happened(number: int, name: str | bytes | None, fix: str) -> None:
    error = refused_file(OSError(number, os.strerror(number), name))
    assert error is not None
    assert fix in str(error.fix)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x"), ConnectionRefusedError(), ValueError()]
)
def test_what_is_no_refused_file_is_left_alone(error: Exception) -> None:
    assert refused_file(error) is None


def test_a_name_that_this_locale_cannot_write_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """LC_ALL=C with UTF-8 switched off, and an annotation that says "größe.jpg"."""

    def ascii_alone(text: str) -> bytes:
        return text.encode("ascii")

    monkeypatch.setattr(os, "fsencode", ascii_alone)
    with pytest.raises(UnicodeEncodeError) as caught:
        ascii_alone("größe.jpg")
    error = refused_file(caught.value)
    assert error is not None
    assert "größe.jpg cannot be the name of a file here" in error.message
    assert "PYTHONUTF8=1" in str(error.fix)
    with pytest.raises(UnicodeEncodeError) as other:
        "größe.jpg".encode("cp437").decode("cp437").encode("koi8_r")
    monkeypatch.undo()
    assert refused_file(other.value) is None


def test_a_name_that_is_no_utf8_is_named_and_a_page_is_no_name() -> None:
    def refused(text: str) -> SamkrError | None:
        with pytest.raises(UnicodeEncodeError) as caught:
            text.encode()
        return refused_file(caught.value)

    error = refused("m\udce9.onnx")
    assert error is not None
    assert "m\udce9.onnx is not UTF-8" in error.message
    assert refused("<!doctype html>\nbench m\udce9.onnx") is None


def test_a_package_that_reads_its_files_by_an_ascii_locale_is_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        "größe".encode().decode("ascii")
    assert refused_file(caught.value) is None
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    error = refused_file(caught.value)
    assert error is not None
    assert "PYTHONUTF8=1" in str(error.fix)
