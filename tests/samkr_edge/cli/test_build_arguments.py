"""What `build` and `inspect` are given by mistake: a link to itself, a checkpoint, an engine's name without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import tiny_onnx

from samkr_edge.cli import run
from samkr_edge.files.one_file import is_same_place


@pytest.mark.parametrize(
    "words",
    [
        ["build", "LOOP", "--target", "cpu"],
        ["build", "LOOP", "--target", "rtx-4090", "--dry-run"],
        ["inspect", "LOOP"],
    ],
)
def test_a_link_to_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    loop = tmp_path / "loop.onnx"
    loop.symlink_to(loop)
    assert run([str(loop) if word == "LOOP" else word for word in words]) == 3
    assert "SE-D04" in (error := capsys.readouterr().err)
    assert "symbolic links" in error
    assert is_same_place(loop, tmp_path / "." / "loop.onnx")
    assert not is_same_place(loop, tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "words",
    [["inspect"], ["build", "--target", "cpu"], ["build", "--target", "rtx-4090", "--dry-run"]],
    ids=["inspect", "cpu", "rtx"],
)
def test_a_checkpoint_is_sent_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    checkpoint = tmp_path / "ptq.pt"
    checkpoint.write_bytes(b"PK\x03\x04 weights")
    assert run([words[0], str(checkpoint), *words[1:]]) == 5
    error = capsys.readouterr().err
    assert "is a checkpoint" in error
    assert "built" not in error
    assert f"fix: samkr-edge export {checkpoint} -o ptq.onnx" in error


@pytest.mark.usefixtures("no_gpu")
def test_an_engines_name_where_no_gpu_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", str(tmp_path / "m.onnx"), "--target", "auto", "-o", str(tmp_path / "m.engine")]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "no GPU is visible" in error
    assert "fix: samkr-edge doctor" in error
    assert run([*words[:3], "cpu", *words[4:]]) == 2
    assert "expected   .onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "out", "named"),
    [
        ("a.onnx", "a.cpu", "a.cpu.onnx"),  # never its source
        ("a.onnx", "a", "a.cpu.onnx"),
        ("a.onnx", "sub.x/b.built", "sub.x/b.onnx"),
        ("sub/a.onnx", "sub/a.engine", "sub/a.cpu.onnx"),
    ],
)
def test_a_fix_names_a_file_that_the_build_takes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    out: str,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (model, out):
        Path(path).parent.mkdir(exist_ok=True)
    tiny_onnx(Path(model))
    assert run(["build", model, "--target", "cpu", "-o", out]) == 2
    *_, fix = capsys.readouterr().err.strip().splitlines()
    assert fix == f"fix: -o {named}"
    assert run(["build", model, "--target", "cpu", *fix.split()[1:]]) == 0
