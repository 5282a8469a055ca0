"""An option that a command would ignore is refused before any work: it was meant, and its result would be another."""

from __future__ import annotations

import pytest

from samkr_edge.cli import run

PHOTOS = ["--photos", "mine", "--split", "test"]
CASES = [
    (
        ["import", "r.pth", "--model", "rescoring", "-o", "r.npz", "--size", "64x64", "--data", "d"],
        "--data, --size",
    ),
    (["import", "r.pth", "--model", "rescoring", "-o", "r.npz", "--keypoints", "14"], "--keypoints"),
    (["qat", "q.pt", "--data", "d", "-o", "o.pt", "--teacher-weight", "2"], "--teacher-weight"),
    (["ledger", "a.pt", "b.pt", *PHOTOS], "--split"),
    (["sensitivity", "a.pt", *PHOTOS], "--split"),
    (["search", "a.pt", *PHOTOS], "--split"),
    (["bench", "a.pt", *PHOTOS], "--split"),
    (["bench", "a.pt", "--split", "test"], "--split"),
    (["bench", "a.pt", "--limit", "3", "--anyway"], "--limit, --anyway"),
    (["bundle", "a.onnx", "--force"], "--force"),
    (["bundle", "a.onnx", "--triton", "d", "--add", "a.engine"], "--add"),
]


@pytest.mark.parametrize(("command", "named"), CASES, ids=lambda words: " ".join(words))
def test_an_option_that_would_be_ignored_is_one_clear_error(
    command: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    error = capsys.readouterr().err
    assert "SE-U78" in error
    assert named in error
    assert "fix: run the same command with" in error
