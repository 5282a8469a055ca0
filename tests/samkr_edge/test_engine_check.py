"""Engines that must not be loaded: each change to a good one is refused, and none reaches TensorRT."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from passport_edits import edit, edit_device
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.engine_check import check_engine, power_note
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import gpu_device
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import passport_path, read_passport
from samkr_edge.pose_model import load_model
from samkr_edge.preflight import preflight
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.device import Device
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
ORIN = Device(
    machine="aarch64",
    system="Linux",
    compatible=("nvidia,p3767-0000", "nvidia,tegra234"),
    l4t="36.4.3",
    gpu="Orin",
    compute_capability="8.7",
    sms=8,
    power_mode="40W",
)


@pytest.fixture
def engine(install: Install, tmp_path: Path) -> Path:
    """An engine built with TensorRT 10.3.0 on an RTX 4090; from now on deserialising fails the test."""
    trt = install("10.3.0")
    source = write_residual(tmp_path / "model.onnx")
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    path = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,)).path
    trt.may_deserialise = False
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def other_tensorrt(version: str) -> Callable[[Path], None]:
    return lambda path: edit(path, versions={**read_passport(path).versions, "tensorrt": version})


MUTATIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no passport": (lambda p: passport_path(p).unlink(), "SE-A51"),
    "passport cut off": (lambda p: passport_path(p).write_text(passport_path(p).read_text()[:200]), "SE-A52"),
    "passport of another schema": (lambda p: edit(p, schema_version=99), "SE-A53"),
    "passport with unknown fields": (lambda p: edit(p, colour="red"), "SE-A52"),
    "engine cut off": (truncate, "SE-A54"),
    "engine empty": (lambda p: p.write_bytes(b""), "SE-A54"),
    "one bit of the engine": (flip_a_bit, "SE-A54"),
    "engine replaced": (lambda p: p.write_bytes(b"PLAN" + b"\0" * 64), "SE-A54"),
    "passport of another engine": (lambda p: edit(p, sha256="0" * 64), "SE-A54"),
    "source changed": (lambda p: write_residual(p.with_suffix(".onnx"), scale=0.03), "SE-A55"),
    "other machine": (lambda p: edit_device(p, machine="riscv64"), "SE-A87"),
    "other system": (lambda p: edit_device(p, system="Windows"), "SE-A87"),
    "other GPU model": (lambda p: edit_device(p, model="NVIDIA GeForce RTX 4080"), "SE-A88"),
    "other SM": (lambda p: edit_device(p, compute_capability="8.6"), "SE-A88"),
    "no device at all": (lambda p: edit(p, device={}), "SE-A87"),
    "older TensorRT": (other_tensorrt("8.6.1"), "SE-A89"),
    "newer TensorRT": (other_tensorrt("10.3.1"), "SE-A89"),
}


@pytest.mark.parametrize(("mutate", "code"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_changed_engine_is_refused_before_it_is_deserialised(
    engine: Path, driver: Driver, mutate: Callable[[Path], Any], code: str
) -> None:
    mutate(engine)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(engine)
    assert raised.value.code == code
    assert raised.value.exit_code == 4
    assert (raised.value.fix or "").startswith("samkr-edge build")
    assert driver.live == 0


def test_an_unchanged_engine_passes_and_may_travel_without_its_source(engine: Path) -> None:
    engine.with_suffix(".onnx").unlink()
    assert preflight(engine).versions["tensorrt"] == "10.3.0"


def test_bytes_that_change_after_the_check_are_not_the_ones_that_load(
    engine: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is what is deserialised, even if the file is swapped in between."""
    trt = install("10.3.0")
    real = check_engine

    def swap(*arguments: Any) -> None:
        real(*arguments)
        engine.write_bytes(b"evil")

    monkeypatch.setattr("samkr_edge.preflight.check_engine", swap)
    runner = TensorRTRunner(engine)
    assert trt.may_deserialise
    runner.close()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"not a plan", "not compatible"),
        (lambda data: data[:-100], "does not match archive size"),
        (lambda data: data[:6], "does not match archive size"),
        (lambda data: data.replace(b"10.3.0", b"10.3.1"), "Version tag does not match"),
    ],
    ids=["no plan", "cut off", "hardly begun", "another version"],
)
def test_an_engine_that_tensorrt_itself_refuses_is_told_with_its_reason(
    engine: Path, install: Install, driver: Driver, damage: Callable[[bytes], bytes], reason: str
) -> None:
    """Damaged before its passport was written, or with a passport that was written again."""
    install("10.3.0")
    data = damage(engine.read_bytes())
    engine.write_bytes(data)
    edit(engine, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(engine)
    assert raised.value.code == "SE-V89"
    assert reason in raised.value.facts["reason"][0]
    assert (raised.value.fix or "").startswith(f"samkr-edge build {engine.with_name('model.onnx')} ")
    assert driver.live == 0


def test_without_tensorrt_it_says_what_to_install(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(SamkrError) as raised:
        preflight(engine)
    assert raised.value.code == "SE-V91"
    assert "samkr-edge[tensorrt]" in (raised.value.fix or "")


@pytest.mark.parametrize(
    ("content", "message", "reason"),
    [
        ("import ctypes; ctypes.CDLL('libnvinfer.so.0')", "does not load", "libnvinfer.so.0"),
        ("raise RuntimeError('TensorRT does not support this machine')", "does not load", "this machine"),
        (
            "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
            "does not load",
            "libnvinfer.so.10",
        ),
        (None, "not installed", "not NVIDIA's package"),
    ],
    ids=[
        "a library is missing",
        "refuses the machine",
        "a wheel without its libraries",
        "a folder of models",
    ],
)
def test_a_tensorrt_that_does_not_load_is_told_as_one_that_is_missing(
    engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    message: str,
    reason: str,
) -> None:
    """Packages as Python finds them on its path, not entries of sys.modules."""
    folder = tmp_path / "packages" / "tensorrt"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "__init__.py").write_text(content)
    monkeypatch.setattr(sys, "path", [str(folder.parent)])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    for use in (preflight, TensorRTRunner):
        with pytest.raises(SamkrError, match=message) as raised:
            use(engine)
        assert raised.value.code == "SE-V91"
        assert reason in raised.value.facts["reason"]
        sys.modules.pop("tensorrt", None)


def orin_passport(engine: Path, **settings: Any) -> Any:
    passport = read_passport(engine)
    return passport.model_copy(
        update={"device": gpu_device(ORIN), "settings": {**passport.settings, **settings}}
    )


def test_a_power_mode_that_gates_half_of_the_gpu_is_no_reason_to_refuse(engine: Path) -> None:
    check_engine(engine, orin_passport(engine), replace(ORIN, sms=4, power_mode="15W"), "10.3.0")


@pytest.mark.parametrize(
    ("here", "told"),
    [
        (ORIN, None),
        (replace(ORIN, power_mode="25W"), None),
        (replace(ORIN, sms=None), None),
        (replace(ORIN, sms=4, power_mode="15W"), "8 SMs (40W) switched on, and now it is 4 SMs (15W)"),
        (replace(ORIN, sms=4, power_mode=None), "8 SMs (40W) switched on, and now it is 4 SMs:"),
        (replace(ORIN, compatible=("nvidia,p3701-0005", "nvidia,tegra234"), sms=16), None),
    ],
)
def test_other_sms_than_at_the_building_are_said(engine: Path, here: Device, told: str | None) -> None:
    """Another module altogether is refused, or takes portable engines, which know nothing of SMs."""
    note = power_note(engine, orin_passport(engine), here)
    if told is None:
        assert note is None
    else:
        assert told in (note or "")
        assert f"samkr-edge build {engine.with_name('model.onnx')} --target auto" in (note or "")


def test_the_note_reaches_whoever_runs_the_engine(engine: Path, install: Install) -> None:
    install("10.3.0")
    model = load_model(engine)
    assert model.notes == []
    model.close()
    edit_device(engine, sms=64)
    model = load_model(engine)
    assert [note for note in model.notes if "built with 64 SMs" in note] == model.notes != []
    model.close()


@pytest.mark.parametrize(
    ("core", "here", "cores"),
    [
        (0, replace(ORIN, compatible=("nvidia,p3767-0003", "nvidia,tegra234")), 0),
        (1, replace(ORIN, compatible=("nvidia,p3767-0001", "nvidia,tegra234")), 1),
        (2, ORIN, 2),
    ],
)
def test_an_engine_for_a_dla_core_that_is_not_there_is_refused(
    engine: Path, core: int, here: Device, cores: int
) -> None:
    passport = orin_passport(engine, dla_core=core)
    passport = passport.model_copy(update={"device": gpu_device(here)})
    with pytest.raises(SamkrError) as raised:
        check_engine(engine, passport, here, "10.3.0")
    assert raised.value.code == "SE-A86"
    assert f"DLA core {core}" in raised.value.facts["built for"]
    assert f"DLA cores: {cores}" in raised.value.facts["this is"]
    check_engine(engine, orin_passport(engine, dla_core=1), ORIN, "10.3.0")


@pytest.mark.parametrize("name", ["dla_core", "profile_batch"])
@pytest.mark.parametrize("value", ["1", -1, True, 1.5, [1]])
def test_a_passport_with_what_is_no_count_is_unreadable(engine: Path, name: str, value: object) -> None:
    edit(engine, settings={**read_passport(engine).settings, name: value})
    with pytest.raises(SamkrError) as raised:
        preflight(engine)
    assert raised.value.code == "SE-A52"


def test_all_orins_share_a_name_and_an_sm_and_are_told_apart(engine: Path) -> None:
    nano = replace(ORIN, compatible=("nvidia,p3767-0003", "nvidia,tegra234"))
    with pytest.raises(SamkrError) as raised:
        check_engine(engine, orin_passport(engine), nano, "10.3.0")
    assert raised.value.code == "SE-A88"
    assert "jetson-orin-nx-16gb" in raised.value.facts["built on"]
    assert "jetson-orin-nano-8gb" in raised.value.facts["this is"]


def test_a_container_that_hides_the_module_is_told_of_where_its_guess_differs(engine: Path) -> None:
    hidden = replace(ORIN, model="", compatible=(), l4t=None, kernel="5.15.148-tegra", gpu="Orin", sms=8)
    check_engine(engine, orin_passport(engine), replace(hidden, memory_bytes=16 * 10**9), "10.3.0")
    with pytest.raises(SamkrError) as raised:
        check_engine(engine, orin_passport(engine), replace(hidden, memory_bytes=8 * 10**9), "10.3.0")
    assert "jetson-orin-nano-8gb" in raised.value.facts["this is"]
    assert "systempaths=unconfined" in raised.value.facts["guessed"]


@pytest.mark.parametrize(
    ("level", "capability", "loads"),
    [
        ("SAME_COMPUTE_CAPABILITY", "8.7", True),
        ("SAME_COMPUTE_CAPABILITY", "8.9", False),
        ("AMPERE_PLUS", "8.9", True),
        ("AMPERE_PLUS", "7.5", False),
        (None, "8.7", False),
    ],
)
def test_hardware_compatibility_widens_where_an_engine_runs(
    engine: Path, level: str | None, capability: str, loads: bool
) -> None:
    other = replace(ORIN, compatible=(), gpu="Another GPU", compute_capability=capability)
    passport = orin_passport(engine, hardware_compatibility=level)
    if loads:
        check_engine(engine, passport, other, "10.3.0")
    else:
        with pytest.raises(SamkrError):
            check_engine(engine, passport, other, "10.3.0")


@pytest.mark.parametrize(
    ("built", "here", "loads"),
    [
        ("8.6.1", "10.3.0", True),
        ("10.3.0", "11.4.1", True),
        ("8.6.1", "11.4.1", False),
        ("10.3.0", "10.16.1", True),
        ("10.16.1", "10.3.0", False),
        ("10.13.3", "10.13.3.9", True),
    ],
)
def test_version_compatibility_lets_newer_versions_load(
    engine: Path, built: str, here: str, loads: bool
) -> None:
    passport = orin_passport(engine, builder_flags=["FP16", "VERSION_COMPATIBLE"])
    passport = passport.model_copy(update={"versions": {"tensorrt": built}})
    if loads:
        check_engine(engine, passport, ORIN, here)
    else:
        with pytest.raises(SamkrError) as raised:
            check_engine(engine, passport, ORIN, here)
        assert raised.value.code == "SE-A89"
