"""A built model is opened only if its bytes, its source and the device are those its passport names."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samkr_edge import passport as passports
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.machine.cpu import cpu_features
from samkr_edge.passport import is_built, passport_path
from samkr_edge.pose_model import load_model
from samkr_edge.preflight import preflight


@pytest.fixture(scope="module")
def original(float_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("passport")
    source = Path(shutil.copy(float_onnx, folder / "model.onnx"))
    return build_cpu(source, folder / "model.cpu.onnx").path


@pytest.fixture
def built(original: Path, tmp_path: Path) -> Path:
    """A copy, with its passport and source, that a test may damage."""
    for path in original.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / original.name


def refusal(model: Path) -> SamkrError:
    with pytest.raises(SamkrError) as caught:
        load_model(model)
    assert caught.value.fix is not None
    return caught.value


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = passport_path(model)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_an_untouched_model_is_loaded(built: Path) -> None:
    assert preflight(built).target == "cpu"
    assert load_model(built).card.model == "samkr_tiny"


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_one_flipped_bit_is_found(built: Path, where: float) -> None:
    content = bytearray(built.read_bytes())
    content[int(where * len(content))] ^= 1
    built.write_bytes(bytes(content))
    assert refusal(built).code == "SE-A54"


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_cut_off_model_is_found(built: Path, keep: int) -> None:
    built.write_bytes(built.read_bytes()[:keep])
    assert refusal(built).code == "SE-A54"


def test_the_fix_builds_it_anew_wherever_it_is_pasted(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my models [2]"
    folder.mkdir()
    for path in list(tmp_path.glob("model*")):
        path.rename(folder / path.name)
    model = folder / built.name
    model.write_bytes(model.read_bytes() + b"x")
    program, *command = shlex.split(str(refusal(model).fix))
    monkeypatch.chdir(tmp_path)
    assert (program, run(command)) == ("samkr-edge", 0)
    load_model(model)


def test_the_fix_keeps_the_precision_that_was_asked_for(built: Path) -> None:
    edit(built, lambda content: content["settings"].update(precision="fp32"))
    passport = passports.read_passport(built)
    assert passport.build_again(built).endswith(f" --target cpu --precision fp32 -o {built}")
    edit(built, lambda content: content["settings"].update(precision="fp16"))
    assert "--precision" not in passports.read_passport(built).build_again(built)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("x/y.onnx", "y.onnx"),
        ("/abs/z.onnx", "z.onnx"),
        ("", "SOURCE.onnx"),
        (".", "SOURCE.onnx"),
        ("a\0b.onnx", None),
        ("n" * 300, None),
    ],
)
def test_a_source_that_is_no_plain_name_leads_out_of_no_folder(
    built: Path, source: str, named: str | None
) -> None:
    edit(built, lambda content: content.update(source=source))
    assert preflight(built).source == source  # there is no such file to compare it with
    edit(built, lambda content: content.update(sha256="0" * 64))
    error = refusal(built)
    assert error.code == "SE-A54"
    assert named is None or shlex.split(str(error.fix))[2] == named


@pytest.mark.parametrize(("name", "target"), [("a.cpu.onnx", "cpu"), ("my a.engine", "auto")])
def test_a_missing_passport_is_mended_by_a_build_of_its_kind(tmp_path: Path, name: str, target: str) -> None:
    with pytest.raises(SamkrError) as caught:
        passports.read_passport(tmp_path / name)
    words = shlex.split(str(caught.value.fix))
    assert words[2:] == ["SOURCE.onnx", "--target", target, "-o", str(tmp_path / name)]


def test_another_model_under_the_same_name_is_found(built: Path) -> None:
    shutil.copy(built.with_name("model.onnx"), built)
    assert refusal(built).code == "SE-A54"


def test_a_missing_passport_is_found_by_the_name(built: Path) -> None:
    passport_path(built).unlink()
    assert refusal(built).code == "SE-A51"


def test_a_missing_passport_is_found_by_the_metadata_when_the_name_does_not_tell(built: Path) -> None:
    renamed = built.rename(built.with_name("renamed.onnx"))
    assert not is_built(renamed)
    assert refusal(renamed).code == "SE-A51"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"target": "cpu"}', "\x00"])
def test_a_damaged_passport_is_found(built: Path, text: str) -> None:
    passport_path(built).write_text(text, encoding="utf-8")
    assert refusal(built).code == "SE-A52"


def test_a_passport_with_an_unknown_field_is_not_trusted(built: Path) -> None:
    edit(built, lambda content: content.update(shasum="0"))
    assert refusal(built).code == "SE-A52"


def test_a_passport_of_another_format_is_named(built: Path) -> None:
    edit(built, lambda content: content.update(schema_version=99))
    error = refusal(built)
    assert error.code == "SE-A53"
    assert "99" in str(error)


def test_a_source_that_has_changed_since_is_found(built: Path) -> None:
    source = built.with_name("model.onnx")
    source.write_bytes(source.read_bytes() + b"\x00")
    error = refusal(built)
    assert error.code == "SE-A55"
    assert "model.onnx" in (error.fix or "")


def test_a_source_that_is_not_there_is_no_obstacle(built: Path) -> None:
    built.with_name("model.onnx").unlink()
    assert load_model(built).card.model == "samkr_tiny"


def test_a_model_for_another_machine_is_refused(built: Path) -> None:
    edit(built, lambda content: content["device"].update(machine="riscv64"))
    error = refusal(built)
    assert error.code == "SE-A56"
    assert "riscv64" in str(error)


def test_a_cpu_that_lacks_an_instruction_is_refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(built, lambda content: content["device"].update(cpu_features=["avx2", "avx512_vnni"]))
    monkeypatch.setattr("samkr_edge.machine.cpu.cpu_features", lambda: ["avx2"])
    error = refusal(built)
    assert error.code == "SE-A57"
    assert "avx512_vnni" in str(error)


def test_a_cpu_that_has_more_is_welcome(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(built, lambda content: content["device"].update(cpu_features=["avx2"]))
    monkeypatch.setattr("samkr_edge.machine.cpu.cpu_features", lambda: ["avx2", "amx_int8"])
    assert preflight(built).target == "cpu"


@pytest.mark.parametrize(("built_with", "refused"), [("99.1.0", True), ("1.0.0", False), ("0", False)])
def test_only_a_newer_runtime_than_ours_is_an_obstacle(built: Path, built_with: str, refused: bool) -> None:
    edit(built, lambda content: content["versions"].update(onnxruntime=built_with))
    if refused:
        assert refusal(built).code == "SE-A58"
    else:
        assert preflight(built).versions["onnxruntime"] == built_with


def test_cpu_features_are_those_this_kernel_reports() -> None:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    assert all(feature in flags for feature in cpu_features())
