"""What belongs to a model is found beside the file behind a symbolic link."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from builder_logs import builder_log
from tiny_model import tiny_onnx

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.builder.inspect.builder_listing import layers_path, layers_text, listing_of_log
from samkr_edge.builder.inspect.engine import layers_of_engine, profile_of_engine, profile_path
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.deploy.remote import _there, _with_passports
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import behind
from samkr_edge.passport import is_built, passport_path, read_passport, write_passport
from samkr_edge.pose_model import load_model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    return build_cpu(tiny_onnx(folder / "tiny.onnx"), folder / "tiny.cpu.onnx").path


@pytest.fixture(params=["best.cpu.onnx", "best.onnx"])
def link(request: pytest.FixtureRequest, built: Path, tmp_path: Path) -> Path:
    link: Path = tmp_path / request.param
    link.symlink_to(built)
    return link


def test_a_link_opens_as_what_it_leads_to(link: Path, built: Path) -> None:
    assert is_built(link)
    assert read_passport(link) == read_passport(built)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    opened = load_model(link)
    assert opened.path == link
    np.testing.assert_array_equal(opened(image, None).keypoints, load_model(built)(image, None).keypoints)


def test_the_ledger_calls_it_built(link: Path) -> None:
    ledger = pytest.importorskip("calibration.analysis.ledger")
    assert ledger.form_of(load_model(link)) == "built FP32"


def test_a_link_of_a_link_and_one_from_a_linked_folder_open(link: Path, tmp_path: Path) -> None:
    (tmp_path / "again.onnx").symlink_to(link)
    load_model(tmp_path / "again.onnx").close()
    (tmp_path / "folder").symlink_to(link.parent)
    load_model(tmp_path / "folder" / link.name).close()


def test_the_source_that_changed_since_is_found_behind_the_link_too(built: Path, tmp_path: Path) -> None:
    for path in built.parent.iterdir():
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "there" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "there" / "tiny.onnx").write_bytes(b"another")
    (tmp_path / "best.cpu.onnx").symlink_to(tmp_path / "there" / built.name)
    with pytest.raises(SamkrError) as caught:
        load_model(tmp_path / "best.cpu.onnx")
    assert caught.value.code == "SE-A55"


def test_in_a_store_that_names_files_by_their_hash_the_names_of_the_links_count(
    built: Path, tmp_path: Path
) -> None:
    for content, name in (("4f2a", "m.cpu.onnx"), ("77c1", "m.cpu.onnx.json")):
        source = built if name == "m.cpu.onnx" else passport_path(built)
        (tmp_path / content).write_bytes(source.read_bytes())
        (tmp_path / "snapshot").mkdir(exist_ok=True)
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / content)
    load_model(tmp_path / "snapshot" / "m.cpu.onnx").close()


def test_what_is_built_to_a_link_leaves_what_it_led_to(link: Path, built: Path) -> None:
    before = passport_path(built).read_bytes()
    write_passport(link, read_passport(built))
    assert passport_path(built).read_bytes() == before
    assert passport_path(link).is_file()


def test_a_bundle_holds_the_linked_model_with_its_passport(link: Path, built: Path, tmp_path: Path) -> None:
    bundle = write_bundle(built.with_name("tiny.onnx"), tmp_path / "pose.samkr", [link])
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.read(f"{link.name}.json") == passport_path(built).read_bytes()
    with pytest.raises(SamkrError) as caught:
        write_bundle(link, tmp_path / "twice.samkr")
    assert caught.value.code == "SE-U92"


def test_a_link_is_carried_to_another_machine_with_what_lies_behind_it(link: Path, built: Path) -> None:
    assert _with_passports([link]) == [built, passport_path(built)]
    assert _there(link) == built.name


def test_the_layers_and_the_profile_of_an_engine_are_found_behind_a_link(tmp_path: Path) -> None:
    engine = tmp_path / "real" / "v3.engine"
    engine.parent.mkdir()
    engine.write_bytes(b"engine")
    layers_path(engine).write_text(layers_text(listing_of_log(builder_log("int8"))))
    profile_path(engine).write_text(json.dumps([{"count": 1}]))
    (tmp_path / "best.engine").symlink_to(os.path.relpath(engine, tmp_path))
    assert behind(tmp_path / "best.engine") == engine
    assert layers_of_engine(tmp_path / "best.engine") == layers_path(engine).read_text()
    assert profile_of_engine(tmp_path / "best.engine")[0] == profile_path(engine).read_text()


def test_a_link_to_nothing_or_to_itself_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / "gone.onnx").symlink_to("nowhere/gone.onnx")
    for name in ("loop.onnx", "gone.onnx"):
        assert behind(tmp_path / name) == tmp_path / name
