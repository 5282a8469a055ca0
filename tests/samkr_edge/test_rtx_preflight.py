"""Engines of TensorRT for RTX that must not be loaded: refused by the passport, none reaches the deserialiser."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_driver import Driver
from fake_tensorrt import RTX_VERSIONS, FakeTensorRT
from passport_edits import edit, edit_device
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.engine_check import check_engine
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import Passport, passport_path, read_passport
from samkr_edge.preflight import preflight
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.device import Device
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
HERE = Device(
    machine="x86_64",
    system="Linux",
    gpu="NVIDIA GeForce RTX 4090",
    compute_capability="8.9",
    sms=128,
)


@pytest.fixture
def trt(install: Install) -> FakeTensorRT:
    return install(RTX_VERSIONS[-1])


@pytest.fixture
def engine(trt: FakeTensorRT, tmp_path: Path) -> Path:
    """An engine for an RTX 4090; from now on deserialising fails the test."""
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    plan = plan_build(load_target("rtx-4090"), features_of(trt, "rtx"), facts_of(read_onnx(source)), Wishes())
    path = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,)).path
    trt.may_deserialise = False
    return path


def edit_version(path: Path, version: str) -> None:
    edit(path, versions={**read_passport(path).versions, "tensorrt_rtx": version})


MUTATIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another engine": (lambda path: path.write_bytes(b"RTXP" + b"\0" * 64), "SE-A54"),
    "a capability that is a number": (lambda path: edit_device(path, compute_capabilities=[8.9]), "SE-A52"),
    "one capability for many": (lambda path: edit_device(path, compute_capabilities="18.92"), "SE-A52"),
    "an unknown flavour": (lambda path: edit(path, flavour="lean"), "SE-A52"),
    "a source that changed": (
        lambda path: write_residual(path.with_suffix(".onnx"), scale=0.03, per_channel=True),
        "SE-A55",
    ),
    "another machine": (lambda path: edit_device(path, machine="riscv64"), "SE-A87"),
    "another system": (lambda path: edit_device(path, system="Windows"), "SE-A87"),
    "no device at all": (lambda path: edit(path, device={}), "SE-A87"),
    "another capability": (lambda path: edit_device(path, compute_capabilities=["8.6", "12.0"]), "SE-A88"),
    "no capability": (lambda path: edit_device(path, compute_capabilities=[]), "SE-A88"),
    "an older release": (lambda path: edit_version(path, "1.6.0.20"), "SE-A89"),
    "a newer release": (lambda path: edit_version(path, "1.8.0.1"), "SE-A89"),
    "no release": (lambda path: edit(path, versions={"tensorrt": "1.7.1.116"}), "SE-A89"),
}


@pytest.mark.parametrize(("mutate", "code"), MUTATIONS.values(), ids=MUTATIONS)
def test_what_does_not_fit_is_refused_before_it_is_deserialised(
    engine: Path, driver: Driver, mutate: Callable[[Path], Any], code: str
) -> None:
    mutate(engine)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(engine)
    assert raised.value.code == code
    assert raised.value.exit_code == 4
    assert (raised.value.fix or "").startswith("samkr-edge build ")
    assert driver.live == 0


def test_another_gpu_than_those_it_was_built_for_is_named(engine: Path, driver: Driver) -> None:
    driver.gpu, driver.capability = b"NVIDIA GeForce RTX 3090", (8, 6)
    with pytest.raises(SamkrError) as raised:
        preflight(engine)
    assert raised.value.code == "SE-A88"
    assert raised.value.facts["built for"] == "SM 8.9"
    assert raised.value.facts["this is"] == "NVIDIA GeForce RTX 3090, SM 8.6"


def test_another_card_of_the_same_capability_is_welcome(engine: Path, driver: Driver) -> None:
    driver.gpu = b"NVIDIA GeForce RTX 4060"
    assert preflight(engine).runtime == "rtx"


@pytest.mark.parametrize("capability", ["7.5", "8.6", "8.9", "12.0"])
def test_an_engine_for_many_runs_on_each(engine: Path, capability: str) -> None:
    edit_device(engine, compute_capabilities=["7.5", "8.6", "8.9", "12.0"])
    passport = read_passport(engine)
    check_engine(engine, passport, replace(HERE, compute_capability=capability), passport.runtime_version)


@pytest.mark.parametrize(
    ("built", "here", "loads"),
    [
        ("1.7.1.116", "1.7.1.116", True),
        ("1.7.1", "1.7.1.116", True),
        ("1.7.0.33", "1.7.1.116", False),
        ("1.6.0.20", "1.7.1.116", False),
        ("1.8.0.1", "1.7.1.116", False),
    ],
)
def test_a_release_loads_its_own_engines_only(engine: Path, built: str, here: str, loads: bool) -> None:
    edit_version(engine, built)
    passport = read_passport(engine)
    if loads:
        check_engine(engine, passport, HERE, here)
        return
    with pytest.raises(SamkrError) as raised:
        check_engine(engine, passport, HERE, here)
    assert raised.value.code == "SE-A89"
    assert raised.value.facts["built with"] == built
    assert raised.value.facts["this is"] == here


def test_the_other_flavour_does_not_stand_in(
    engine: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT itself is there, of a version that would do."""
    install("11.4.0.106")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(SamkrError, match="TensorRT for RTX is not installed") as raised:
        TensorRTRunner(engine)
    assert raised.value.code == "SE-V91"
    assert "samkr-edge[rtx]" in (raised.value.fix or "")


@pytest.mark.usefixtures("driver")
def test_passports_from_before_there_were_two_flavours_are_tensorrts(
    install: Install, tmp_path: Path
) -> None:
    trt = install("10.3.0")
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    path = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,)).path
    old = json.loads(passport_path(path).read_text())
    del old["flavour"]
    for name in ("flavour", "compute_capabilities"):
        del old["settings"][name]
    passport_path(path).write_text(json.dumps(old))
    assert preflight(path).runtime == "tensorrt"
    runner = TensorRTRunner(path)
    assert runner.batch == 1
    runner.close()


def test_without_a_gpu_it_is_said_and_nothing_is_imported(
    engine: Path, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(engine)
    assert raised.value.code == "SE-V87"


def test_an_engine_that_its_tensorrt_refuses_is_an_error(engine: Path, trt: FakeTensorRT) -> None:
    import hashlib

    trt.may_deserialise = True
    engine.write_bytes(b"PLAN of TensorRT itself")
    edit(engine, sha256=hashlib.sha256(engine.read_bytes()).hexdigest())
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(engine)
    assert raised.value.code == "SE-V89"
    assert "TensorRT for RTX" in raised.value.message


def test_a_cpus_model_has_no_flavour() -> None:
    made = Passport(
        target="cpu", card={}, sha256="", source="a.onnx", source_sha256="", device={}, versions={}
    )
    assert made.flavour is None
