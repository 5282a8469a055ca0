"""A file under two paths is one file; a copy of it is another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.files.one_file import digests_of, is_same_file, refuse_replaced, refuse_twice

Other = Callable[[Path], Path]


def linked(model: Path) -> Path:
    link = model.with_name("link.onnx")
    link.symlink_to(model)
    return link


def hard_linked(model: Path) -> Path:
    os.link(model, model.with_name("name.onnx"))
    return model.with_name("name.onnx")


def roundabout(model: Path) -> Path:
    return model.parent / ".." / model.parent.name / model.name


def copied(model: Path) -> Path:
    return Path(shutil.copy(model, model.with_name("copy.onnx")))


@pytest.mark.parametrize("other", [linked, hard_linked, roundabout])
def test_one_file_by_two_paths_is_refused_and_both_are_named(tmp_path: Path, other: Other) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    second = other(model)
    with pytest.raises(SamkrError) as caught:
        refuse_twice([model, second], "measured")
    assert (caught.value.code, caught.value.exit_code) == ("SE-U62", 2)
    assert caught.value.message == f"{model} and {second} are one file, so nothing was measured"


def test_a_copy_is_another_file_and_what_is_missing_is_itself(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    refuse_twice([model, copied(model), tmp_path / "missing"], "measured")
    with pytest.raises(SamkrError, match="missing was named twice"):
        refuse_twice([tmp_path / "missing", tmp_path / "missing"], "measured")
    assert not is_same_file(model, tmp_path / "missing")


@pytest.mark.parametrize("meanwhile", ["another", None])
def test_a_file_replaced_while_it_was_in_use_is_told(tmp_path: Path, meanwhile: str | None) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("model")
    digests = digests_of([model, tmp_path / "missing"])
    refuse_replaced(digests, "nothing was written")
    model.unlink()
    if meanwhile:
        model.write_text(meanwhile)
    with pytest.raises(SamkrError, match="was replaced while it was in use, so nothing was written"):
        refuse_replaced(digests, "nothing was written")
