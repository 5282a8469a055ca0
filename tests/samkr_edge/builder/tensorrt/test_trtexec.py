"""The line for trtexec says what the plan says, in flags that the version has, and names every layer kept in FP32."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tensorrt import FakeTensorRT
from red_dot import write_red_dot_model

from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.features import features_for, features_of
from samkr_edge.builder.tensorrt.plan import BuildPlan, plan_build
from samkr_edge.builder.tensorrt.trtexec import TrtexecBuild, trtexec
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
ORIN = load_target("jetson-agx-orin-64gb")
CARD = load_target("rtx-4090")
# Flag -> first TensorRT whose trtexec reads it, and the first that does not: samples/common/sampleOptions.cpp of
# NVIDIA's 8.0.1, 8.2.1, 8.4.1, 8.5.2, 8.6.1, 10.0.1, 10.3, 10.9, 10.16, 11.0 and 11.1.
FLAGS = {
    **dict.fromkeys(("onnx", "saveEngine", "noTF32", "timingCacheFile"), ((8, 0), None)),
    **dict.fromkeys(("minShapes", "optShapes", "maxShapes"), ((8, 0), None)),
    **dict.fromkeys(("useDLACore", "allowGPUFallback"), ((8, 0), None)),
    "fp16": ((8, 0), (11, 0)),
    "int8": ((8, 0), (11, 0)),  # read and without effect after that
    "precisionConstraints": ((8, 2), (11, 0)),
    "layerPrecisions": ((8, 4), (11, 0)),
    "layerOutputTypes": ((8, 4), (11, 0)),
    "stronglyTyped": ((10, 0), None),
    "workspace": ((8, 0), (10, 0)),
    "memPoolSize": ((8, 4), None),
    "builderOptimizationLevel": ((8, 6), None),
    "hardwareCompatibilityLevel": ((8, 6), None),
    "versionCompatible": ((8, 6), None),
    "profilingVerbosity": ((8, 2), None),
    "exportLayerInfo": ((8, 2), None),
}


def line(source: Path, version: str, target: object = ORIN, wishes: Wishes | None = None) -> TrtexecBuild:
    graph = read_onnx(source)
    plan = plan_build(target, features_for(version), facts_of(graph), wishes or Wishes())  # type: ignore[arg-type]
    return trtexec(plan, decode_onnx(prepare(graph, plan.steps)), "trt.onnx")


def flags_of(built: TrtexecBuild) -> dict[str, str]:
    assert built.command is not None
    assert tuple(shlex.split(built.command)) == built.words
    program, *words = built.words
    assert program == "trtexec"
    assert all(re.fullmatch(r"--\w+(=.+)?", word) for word in words)
    flags = {word.partition("=")[0][2:]: word.partition("=")[2] for word in words}
    assert len(flags) == len(words)
    return flags


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3", "10.9", "10.16", "11.0", "11.4"])
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_every_flag_is_one_of_that_version(version: str, precision: str, int8_onnx: Path) -> None:
    number = tuple(map(int, version.split(".")))
    wishes = Wishes(precision=precision, version_compatible=number >= (8, 6))
    for name in flags_of(line(int8_onnx, version, wishes=wishes)):
        first, gone = FLAGS[name]
        assert first <= number
        assert gone is None or number < gone


def test_the_line_says_what_the_plan_says(int8_onnx: Path) -> None:
    flags = flags_of(line(int8_onnx, "10.3"))
    assert "stronglyTyped" in flags
    assert not flags.keys() & {"fp16", "int8", "precisionConstraints", "layerPrecisions"}
    assert flags["onnx"] == "trt.onnx"
    assert flags["builderOptimizationLevel"] == "3"
    assert flags["timingCacheFile"] == "jetson-agx-orin-64gb-trt10.3.timing"
    assert re.fullmatch(r"workspace:\d+", flags["memPoolSize"])
    assert {"fp16", "int8", "noTF32"} <= flags_of(line(int8_onnx, "8.6")).keys()
    plain = flags_of(line(int8_onnx, "8.6", wishes=Wishes(precision="fp32")))
    assert not plain.keys() & {"fp16", "int8", "layerPrecisions"}
    assert "noTF32" in plain
    portable = Wishes(hardware_compatible="ampere+", version_compatible=True, level=5, workspace_mib=256)
    flags = flags_of(line(int8_onnx, "10.3", CARD, portable))
    assert flags["hardwareCompatibilityLevel"] == "ampere+"
    assert flags["builderOptimizationLevel"] == "5"
    assert flags["memPoolSize"] == "workspace:256"
    assert "versionCompatible" in flags
    same = flags_of(line(int8_onnx, "10.9", CARD, Wishes(hardware_compatible="same")))
    assert same["hardwareCompatibilityLevel"] == "sameComputeCapability"


def test_a_dla_and_an_open_batch_are_told(float_onnx: Path, tmp_path: Path) -> None:
    flags = flags_of(line(float_onnx, "10.3", wishes=Wishes(precision="fp16", dla_core=1)))
    assert flags["useDLACore"] == "1"
    assert "allowGPUFallback" in flags
    assert "fp16" in flags
    graph = read_onnx(float_onnx)
    plan = plan_build(ORIN, features_for("10.3"), facts_of(graph), Wishes())
    plan = replace(plan, profile_batch=2, input_shape=(2, 64, 64, 3))
    flags = flags_of(trtexec(plan, graph, "trt.onnx"))
    assert flags["minShapes"] == flags["optShapes"] == flags["maxShapes"] == "image:2x64x64x3"


@pytest.mark.parametrize("fixture", ["float_onnx", "int8_onnx", "decoding_onnx", "decoding_int8_onnx"])
@pytest.mark.parametrize("wide", [False, True])
def test_the_layers_kept_in_fp32_are_those_that_a_build_marks(
    fixture: str, wide: bool, install: Install, request: pytest.FixtureRequest
) -> None:
    trt, source = install("8.6.1"), request.getfixturevalue(fixture)
    graph = read_onnx(source)
    plan = plan_build(CARD, features_of(trt), facts_of(graph), Wishes())
    if wide:
        plan = replace(plan, steps=(*plan.steps, "wide_sampling"))
    flags = flags_of(trtexec(plan, decode_onnx(prepare(graph, plan.steps)), "trt.onnx"))
    build_bytes(source, plan)
    marked = trt.builds[-1]["constraints"]
    assert marked
    assert flags["precisionConstraints"] == "obey"
    assert [one.partition(":")[::2] for one in flags["layerPrecisions"].split(",")] == [
        (name, "fp32") for name in marked
    ]
    types = dict(one.split(":") for one in flags["layerOutputTypes"].split(","))
    assert {name: kind.replace("+int32", "") for name, kind in types.items()} == {
        name: "fp32" for name, (_, outputs) in marked.items() if outputs
    }


def test_what_trtexec_cannot_do_is_said(int8_onnx: Path, tmp_path: Path) -> None:
    calibrated = line(int8_onnx, "10.3", CARD, Wishes(precision="int8"))
    assert "SE-A51" in " ".join(calibrated.notes)
    plan = calibrating(tmp_path)
    built = trtexec(plan, read_onnx(int8_onnx), "trt.onnx")
    assert built.command is None
    assert "calibration images" in built.describe()
    built = trtexec(replace(plan, calibrate=False, flavour="rtx"), read_onnx(int8_onnx), "trt.onnx")
    assert built.command is None
    assert "leave --prepared out" in built.describe()


def calibrating(tmp_path: Path) -> BuildPlan:
    source = write_red_dot_model(tmp_path / "m.onnx")
    return plan_build(CARD, features_for("10.3"), facts_of(read_onnx(source)), Wishes(calibrate=True))


def test_a_trtexec_that_cannot_name_layers_is_told_as_that(float_onnx: Path) -> None:
    """A Nano's TensorRT, which has no sampling either; the rule is the version's."""
    graph = read_onnx(float_onnx)
    plan = plan_build(ORIN, features_for("8.5"), facts_of(graph), Wishes())
    built = trtexec(replace(plan, tensorrt="8.2.1"), graph, "trt.onnx")
    assert {"fp16", "workspace"} <= flags_of(built).keys()
    assert not flags_of(built).keys() & {"precisionConstraints", "layerPrecisions", "memPoolSize"}
    assert "--precision fp32" in " ".join(built.notes)


def test_the_command_prints_the_line_and_has_it_under_json(
    int8_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(int8_onnx), "--target", "jetson-xavier-nx", "--tensorrt", "jetpack-5.1"]
    out = tmp_path / "trt.onnx"
    assert run([*words, "--prepared", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert run([*words, "--prepared", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["trtexec"]
    assert told["command"] == printed
    assert printed.startswith("trtexec --onnx=trt.onnx --saveEngine=model.engine --fp16 --int8 ")
    assert any("SE-A51" in note for note in told["notes"])


def test_its_engine_is_refused_for_want_of_a_passport(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("10.3.0")
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"by trtexec")
    assert run(["bench", str(engine)]) != 0
    assert "SE-A51" in capsys.readouterr().err
