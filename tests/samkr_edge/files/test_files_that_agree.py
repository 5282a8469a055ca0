"""A built model and its passport change together: of two builds one wins; a kill in between is told."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import tiny_onnx

from samkr_edge.builder.cpu import build as builder
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.deploy.bundle import read_bundle, write_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.files import artefact
from samkr_edge.files.artefact import replacing, replacing_together, sha256_of
from samkr_edge.passport import Passport, passport_path, verified_bytes, write_built
from samkr_edge.pose_model import load_model
from samkr_edge.runtime import onnx_runtime as runtime

# Long enough for a thread that does not wait to be done.
MOMENT = 0.3


def write(model: Path, data: bytes) -> None:
    passport = Passport(
        target="cpu",
        card={},
        sha256=hashlib.sha256(data).hexdigest(),
        source="none.onnx",
        source_sha256="0" * 64,
        device={},
        versions={},
    )
    write_built(model, data, passport, {model.with_name("layers.json"): data.decode()})


@pytest.fixture
def between_names(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[], object]], list[threading.Thread]]:
    """``between_names(work)``: when the first of the next files has its name, ``work`` begins in a thread."""

    def install(work: Callable[[], object]) -> list[threading.Thread]:
        started: list[threading.Thread] = []
        replace = os.replace

        def interrupted(source: Any, target: Any) -> None:
            replace(source, target)
            if not started:
                started.append(threading.Thread(target=work))
                started[0].start()
                started[0].join(MOMENT)

        monkeypatch.setattr(artefact.os, "replace", interrupted)
        return started

    return install


def test_of_two_writers_at_once_one_wins_with_all_of_its_files(
    tmp_path: Path, between_names: Callable[[Callable[[], object]], list[threading.Thread]]
) -> None:
    model = tmp_path / "x.cpu.onnx"
    other = between_names(lambda: write(model, b"second"))
    write(model, b"first")
    other[0].join()
    assert verified_bytes(model)[1] == b"second"
    assert (tmp_path / "layers.json").read_text() == "second"
    assert not list(tmp_path.glob(".*"))


def test_a_reader_in_between_gets_the_new_pair(
    tmp_path: Path, between_names: Callable[[Callable[[], object]], list[threading.Thread]]
) -> None:
    model, seen = tmp_path / "x.cpu.onnx", []
    write(model, b"old")
    reader = between_names(lambda: seen.append(verified_bytes(model)[1]))
    write(model, b"new")
    reader[0].join()
    assert seen == [b"new"]


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_kill_between_two_names_leaves_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    model = tmp_path / "x.cpu.onnx"
    if old:
        write(model, old)
    replace, calls = os.replace, []

    def killed(source: Any, target: Any) -> None:
        calls.append(target)
        if Path(target) == model:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(artefact.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(model, b"new")
    assert len(calls) == 3
    with pytest.raises(SamkrError) as caught:
        load_model(model)
    assert caught.value.code == ("SE-A54" if old else "SE-A23")


def test_what_cannot_take_its_name_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").write_text("old")

    def write_both() -> None:
        with replacing_together(tmp_path / "first", tmp_path / "second") as both:
            for temporary in both:
                temporary.write_text("new")

    with pytest.raises(SamkrError) as caught:
        write_both()
    assert caught.value.code == "SE-D01"
    assert (tmp_path / "second").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_two_writers_of_one_name_never_write_into_one_temporary_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as outer:
        outer.write_text("outer")
        with replacing(tmp_path / "x") as inner:
            inner.write_text("inner")
        assert (tmp_path / "x").read_text() == "inner"
    assert (tmp_path / "x").read_text() == "outer"


def test_the_passport_is_of_the_source_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_onnx(tmp_path / "tiny.onnx")
    built_from, judge = sha256_of(source), builder.judge

    def replaced_meanwhile(*facts: Any) -> Any:
        tiny_onnx(source, seed=1)
        return judge(*facts)

    monkeypatch.setattr(builder, "judge", replaced_meanwhile)
    assert (
        build_cpu(source, tmp_path / "tiny.cpu.onnx").passport.source_sha256
        == built_from
        != sha256_of(source)
    )


def test_what_was_checked_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_cpu(tiny_onnx(tmp_path / "tiny.onnx"), tmp_path / "tiny.cpu.onnx").path
    admit = runtime.admit

    def replaced_meanwhile(model: Path) -> Any:
        admitted = admit(model)
        model.write_bytes(b"another build")
        return admitted

    monkeypatch.setattr(runtime, "admit", replaced_meanwhile)
    assert load_model(built).card.model == "samkr_tiny"


def test_a_bundle_holds_the_passport_of_the_model_beside_it(
    tmp_path: Path, between_names: Callable[[Callable[[], object]], list[threading.Thread]]
) -> None:
    source = tiny_onnx(tmp_path / "tiny.onnx")
    built = build_cpu(source, tmp_path / "built" / "tiny.cpu.onnx")
    new = built.passport.model_copy(
        update={"settings": {"built": "again"}, "sha256": hashlib.sha256(b"new").hexdigest()}
    )
    bundling = between_names(lambda: write_bundle(source, tmp_path / "x.samkr", [built.path]))
    write_built(built.path, b"new", new)
    bundling[0].join()
    bundle = read_bundle(tmp_path / "x.samkr")
    assert bundle.passport("tiny.cpu.onnx").sha256 == bundle.manifest.entries["tiny.cpu.onnx"].sha256
    assert bundle.passport("tiny.cpu.onnx").settings == {"built": "again"}
    assert passport_path(built.path).is_file()
