"""A bundle is one file that a device can use without torch and onnx; a damaged or hostile one is refused."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_model import SIZE, tiny_onnx

from samkr_edge import child_process
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.deploy import bundle_cache
from samkr_edge.deploy.bundle import MANIFEST, read_bundle, write_bundle
from samkr_edge.deploy.bundle_cache import open_bundle, ready_model
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.pose_model import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def plain(source: Path) -> Path:
    """A bundle of the ONNX alone."""
    return write_bundle(source, source.with_suffix(".samkr")).path


def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)


def rewrite(path: Path, change: dict[str, bytes], manifest: dict[str, object] | None = None) -> Path:
    """The same archive with files replaced or added, and fields of the manifest changed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files.update(change)
    files[MANIFEST] = json.dumps({**json.loads(files[MANIFEST]), **(manifest or {})}).encode()
    out = path.with_name("changed.samkr")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out


def code_of(path: Path) -> str:
    with pytest.raises(SamkrError) as caught:
        load_model(path)
    return caught.value.code


# What works.


def test_a_bundle_computes_what_its_onnx_does(source: Path, plain: Path) -> None:
    expected = load_model(source).runner.run(image())
    opened = load_model(plain)
    assert opened.card.model == "samkr_tiny"
    for left, right in zip(expected, opened.runner.run(image()), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_the_same_inputs_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    build_cpu(source, tmp_path / "tiny.cpu.onnx")
    first = write_bundle(source, tmp_path / "a.samkr", [tmp_path / "tiny.cpu.onnx"])
    os.utime(source, (1, 1))
    second = write_bundle(source, tmp_path / "b.samkr", [tmp_path / "tiny.cpu.onnx"])
    assert sha256_of(first.path) == sha256_of(second.path)
    assert first.key == second.key == read_bundle(first.path).key


def test_the_first_use_builds_and_the_second_loads_it(
    plain: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = ready_model(plain)
    assert built.is_relative_to(cache)
    assert built.name == "tiny.cpu.onnx"
    assert "once" in capsys.readouterr().err
    before = built.stat().st_mtime_ns
    assert ready_model(plain) == built
    assert built.stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_an_included_model_that_fits_is_used_and_nothing_is_built(source: Path, tmp_path: Path) -> None:
    included = build_cpu(source, tmp_path / "mine.cpu.onnx").path
    path = write_bundle(source, tmp_path / "x.samkr", [included]).path
    found = ready_model(path)
    assert found.name == "mine.cpu.onnx"
    assert sha256_of(found) == sha256_of(included)


def test_an_included_model_of_another_machine_is_named_and_one_is_built(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    included = build_cpu(source, tmp_path / "other.cpu.onnx").path
    passport = tmp_path / "other.cpu.onnx.json"
    facts = json.loads(passport.read_text())
    facts["device"]["machine"] = "riscv64"
    passport.write_text(json.dumps(facts))
    found = ready_model(write_bundle(source, tmp_path / "x.samkr", [included]).path)
    assert found.name == "tiny.cpu.onnx"
    said = capsys.readouterr().err
    assert "other.cpu.onnx is not for this device" in said
    assert "riscv64" in said


def test_a_cached_model_that_was_damaged_is_built_again(plain: Path) -> None:
    built = ready_model(plain)
    whole = sha256_of(built)
    built.write_bytes(b"damaged")
    assert ready_model(plain) == built
    assert sha256_of(built) == whole


def test_a_device_without_torch_and_onnx_runs_the_exported_onnx(plain: Path, tmp_path: Path) -> None:
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"torch", "modelopt", "onnx", "training", "calibration"}}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
import numpy as np, samkr_edge
poses = samkr_edge.load({str(plain)!r})(np.zeros((48, 80, 3), np.uint8))
print(poses.keypoints.shape[1:])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(17, 2)"
    assert done.stderr.count("\n") == 1
    assert 'pip install "samkr-edge[build]"' in done.stderr


def test_two_processes_at_once_build_one_model(plain: Path, cache: Path) -> None:
    imports = "from pathlib import Path; from samkr_edge.deploy.bundle_cache import ready_model"
    code = f"{imports}; ready_model(Path({str(plain)!r}))"
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("building" in text for text in said) == 1
    assert not list(cache.rglob("*.part*"))


def test_where_tensorrt_is_present_an_engine_is_wanted_unless_the_user_asks_for_the_cpu(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    monkeypatch.setattr("samkr_edge.machine.driver.gpu_count", lambda: 1)
    tensorrt = types.ModuleType("tensorrt")
    tensorrt.__version__ = "10.3.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    asked: list[Path] = []

    def build(bundle: Path, source: Path, out: Path) -> Path:
        asked.append(out)
        return source

    monkeypatch.setattr(bundle_cache, "_build", build)
    ready_model(plain)
    monkeypatch.setenv("SAMKR_EDGE_TARGET", "cpu")
    ready_model(plain)
    assert [path.name for path in asked] == ["tiny.engine", "tiny.cpu.onnx"]
    monkeypatch.setenv("SAMKR_EDGE_TARGET", "gpu")
    with pytest.raises(SamkrError, match="auto"):
        ready_model(plain)


def test_where_tensorrt_does_not_load_the_cpu_is_used(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "tensorrt.py").write_text("import ctypes; ctypes.CDLL('libnvinfer.so.0')")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr("samkr_edge.machine.driver.gpu_count", lambda: 1)
    assert ready_model(plain).name == "tiny.cpu.onnx"


def test_an_engine_is_built_by_the_public_command_and_its_failure_is_a_build_error(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Failing:
        def __init__(self, words: list[str], **options: object) -> None:
            asked.append(words)

        def wait(self) -> int:
            return 5

    monkeypatch.setattr(bundle_cache, "_wants_engine", lambda: True)
    monkeypatch.setattr(subprocess, "Popen", Failing)
    with pytest.raises(SamkrError) as caught:
        ready_model(plain)
    assert caught.value.code == "SE-B94"
    assert "SAMKR_EDGE_TARGET=cpu" in str(caught.value)
    ((*command, out),) = asked
    assert command[1:4] == [child_process.__file__, "samkr_edge", "build"]
    assert command[5:] == ["--target", "auto", "-o"]
    assert out.endswith("built/tiny.engine")


# What is refused when a bundle is made.


def test_a_model_built_from_another_onnx_is_not_bundled(source: Path, tmp_path: Path) -> None:
    other = tiny_onnx(tmp_path / "other.onnx", seed=5)
    built = build_cpu(other, tmp_path / "other.cpu.onnx").path
    with pytest.raises(SamkrError) as caught:
        write_bundle(source, tmp_path / "x.samkr", [built])
    assert caught.value.code == "SE-A95"
    assert not (tmp_path / "x.samkr").exists()
    assert not list(tmp_path.glob(".*part*"))


def test_a_built_model_is_not_a_source(source: Path, tmp_path: Path) -> None:
    built = build_cpu(source, tmp_path / "tiny.cpu.onnx").path
    with pytest.raises(SamkrError, match="built for one target"):
        write_bundle(built, tmp_path / "x.samkr")


def test_an_edited_model_is_not_bundled(source: Path, tmp_path: Path) -> None:
    built = build_cpu(source, tmp_path / "tiny.cpu.onnx").path
    built.write_bytes(built.read_bytes() + b"\0")
    with pytest.raises(SamkrError) as caught:
        write_bundle(source, tmp_path / "x.samkr", [built])
    assert caught.value.code == "SE-A54"


# What is refused when it is opened.


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_cut_off_bundle_is_refused(plain: Path, keep: float) -> None:
    data = plain.read_bytes()
    plain.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    assert code_of(plain) == "SE-A92"


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.samkr", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert code_of(tmp_path / "x.samkr") == "SE-A92"


def test_flipped_weights_are_refused_by_their_hash(plain: Path, cache: Path) -> None:
    data = bytearray(plain.read_bytes())
    data[len(data) // 2] ^= 1
    plain.write_bytes(data)
    assert code_of(plain) in ("SE-A92", "SE-A94")
    assert not list(cache.rglob("*.onnx"))


def test_swapped_weights_with_a_right_checksum_are_refused(plain: Path, cache: Path, tmp_path: Path) -> None:
    other = tiny_onnx(tmp_path / "other.onnx", seed=5).read_bytes()
    assert code_of(rewrite(plain, {"tiny.onnx": other})) == "SE-A94"
    assert not list(cache.rglob("*.onnx"))


@pytest.mark.parametrize(
    "name", ["../evil.onnx", "/tmp/evil.onnx", "a/../../evil.onnx", ".ssh", "c:evil", "a\x1b[2J"]
)
def test_names_that_leave_the_folder_are_refused(plain: Path, name: str) -> None:
    manifest = json.loads(zipfile.ZipFile(plain).read(MANIFEST))
    entries = {**manifest["entries"], name: {"sha256": "0" * 64, "size": 4}}
    assert code_of(rewrite(plain, {name: b"evil"}, {"entries": entries})) == "SE-A94"


def test_a_file_that_the_manifest_does_not_name_is_refused(plain: Path) -> None:
    assert code_of(rewrite(plain, {"extra.so": b"evil"})) == "SE-A94"


def test_an_entry_that_would_fill_the_disk_is_refused(plain: Path) -> None:
    manifest = json.loads(zipfile.ZipFile(plain).read(MANIFEST))
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("tiny.onnx", bytes(4_000_000), zipfile.ZIP_DEFLATED)
        manifest["entries"]["tiny.onnx"]["size"] = 4_000_000
        archive.writestr(MANIFEST, json.dumps(manifest))
    assert code_of(plain) == "SE-A94"


def test_a_bundle_of_the_future_names_both_versions(plain: Path) -> None:
    changed = rewrite(plain, {}, {"schema_version": 9, "samkr_edge": "7.0.0", "unknown": True})
    with pytest.raises(SamkrError, match=r"7\.0\.0") as caught:
        load_model(changed)
    assert caught.value.code == "SE-A93"
    assert caught.value.fix == "pip install --upgrade samkr-edge"


@pytest.mark.parametrize("manifest", [{"card": {}}, {"entries": []}, {"schema_version": "one"}])
def test_a_manifest_that_makes_no_sense_is_refused(plain: Path, manifest: dict[str, object]) -> None:
    assert code_of(rewrite(plain, {}, manifest)) == "SE-A94"


def test_an_unwritable_cache_is_an_error_that_names_the_way_out(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SamkrError, match="cache") as caught:
        load_model(plain)
    assert caught.value.code == "SE-D92"
    assert "SAMKR_EDGE_CACHE" in str(caught.value.fix)


# The command.


def test_the_command_prints_what_the_bundle_holds(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_cpu(source, tmp_path / "tiny.cpu.onnx")
    out = tmp_path / "pose.samkr"
    assert (
        run(["bundle", str(source), "--add", str(tmp_path / "tiny.cpu.onnx"), "-o", str(out), "--json"]) == 0
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1
    assert shown["manifest"]["built"] == ["tiny.cpu.onnx"]
    assert shown["passports"]["tiny.cpu.onnx"]["target"] == "cpu"


def test_predict_takes_a_bundle(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((40, 40, 3), np.uint8))
    moved = shutil.copy(plain, tmp_path / "moved.samkr")
    assert (
        run(["predict", str(moved), str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["images"] == 1


def test_build_takes_a_bundle(plain: Path) -> None:
    assert run(["build", str(plain), "--target", "cpu"]) == 0
    assert load_model(plain.with_name("tiny.cpu.onnx")).card.model == "samkr_tiny"


def test_inspect_shows_a_bundle(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(plain)]) == 0
    assert "tiny.onnx" in capsys.readouterr().out


def test_a_wrong_ending_is_a_usage_error(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", str(source), "-o", "pose.zip"]) == 2
    assert "pose.samkr" in capsys.readouterr().err


def test_an_opened_bundle_is_a_runner_like_any_other(plain: Path) -> None:
    runner = open_bundle(plain, 1)
    assert runner.kind == "onnx"
    runner.close()
