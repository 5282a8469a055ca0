"""Stages 4 and 5 over the stand-in: they pass, and fail in the right check where something is made wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRT
from inspector_layers import layers_json

from benchmarks.selftest import layers, networks
from benchmarks.selftest.network_engines import Wanted, built_engine
from benchmarks.selftest.stage import Check, Rig

TINY = "TensorRT: samkr_tiny"
IMAGES = 6

pytestmark = pytest.mark.usefixtures("references_are_kept")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People and networks, for all tests here; engines are each test's own."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def rig(shared: Path, tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "stage").mkdir()
    yield Rig(tmp_path / "stage", shared)
    for engine in shared.glob("engines/*"):
        engine.unlink()


@pytest.fixture
def trt(install: Callable[[str], FakeTensorRT]) -> FakeTensorRT:
    return install("10.3.0")


def spoil(trt: FakeTensorRT, change: Callable[[str, np.ndarray], None]) -> None:
    """Let every engine that runs from now on give other outputs."""
    context = trt.IExecutionContext
    execute = context._execute

    def spoilt(self: Any) -> None:
        execute(self)
        for output in self._engine._session.get_outputs():
            change(output.name, self._array(output.name))

    context._execute = spoilt


def failed(checks: Iterator[Check]) -> list[str]:
    return [check.what for check in checks if check.passed is False]


@pytest.mark.parametrize(
    ("version", "title"),
    [("8.6.1", "TensorRT"), ("rtx 1.7.1.116", "TensorRT for RTX")],
)
def test_networks_agree_with_onnx_runtime(
    install: Callable[[str], FakeTensorRT], rig: Rig, version: str, title: str
) -> None:
    install(version)
    names = [
        f"{title}: samkr_tiny {form}" for form in ("FP32", "INT8", "FP16, decode: graph", "FP16, batch 4")
    ]
    found = list(networks.checks(rig, IMAGES, names))
    assert all(check.passed for check in found), found
    told = [check.what for check in found]
    assert told[:4] == [f"{names[0]}, {what}" for what in ("heatmap", "offset", "joints", "AP")]
    assert f"{names[2]}, joints" in told
    assert f"{names[2]}, heatmap" not in told
    assert f"{names[3]}, offset" in told


def test_an_error_where_nobody_is_is_seen_in_the_maps(trt: FakeTensorRT, rig: Rig) -> None:
    built_engine(rig, Wanted("tensorrt", "samkr_tiny", "fp32"))

    def spoilt_border(name: str, values: np.ndarray) -> None:
        if name == "offset":
            values[:, :, 0] *= 1.1

    spoil(trt, spoilt_border)
    assert failed(networks.checks(rig, IMAGES, [f"{TINY} FP32"])) == [f"{TINY} FP32, offset"]


def test_offsets_that_are_a_map_pixel_off_are_seen_in_the_joints(trt: FakeTensorRT, rig: Rig) -> None:
    built_engine(rig, Wanted("tensorrt", "samkr_tiny", "fp16"))

    def moved(name: str, values: np.ndarray) -> None:
        if name == "offset":
            values += 1

    spoil(trt, moved)
    assert f"{TINY} FP16, joints" in failed(networks.checks(rig, IMAGES, [f"{TINY} FP16"]))


def test_people_that_are_lost_are_seen_in_joints_and_ap(trt: FakeTensorRT, rig: Rig) -> None:
    built_engine(rig, Wanted("tensorrt", "samkr_tiny", "int8", "graph", 4))

    def nobody(name: str, values: np.ndarray) -> None:
        if name == "scores":
            values[...] = 0

    spoil(trt, nobody)
    name = f"{TINY} INT8, decode: graph, batch 4"
    assert failed(networks.checks(rig, IMAGES, [name])) == [f"{name}, joints", f"{name}, AP"]


def test_a_build_that_fails_is_told_and_the_others_go_on(
    trt: FakeTensorRT, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_engine(rig, Wanted("tensorrt", "samkr_tiny", "fp16"))
    trt.build_messages = ["Error Code 10: Internal Error (something else)"]
    found = list(networks.checks(rig, IMAGES, [f"{TINY} FP32", f"{TINY} FP16"]))
    assert (found[0].passed, found[0].found[:6]) == (False, "SE-B90")
    assert found[-1].passed


@pytest.fixture
def int8(trt: FakeTensorRT, rig: Rig) -> FakeTensorRT:
    """An INT8 engine is built, and the inspector lists what a good builder makes of it."""
    built_engine(rig, Wanted("tensorrt", "samkr_tiny", "int8"))
    trt.layers_json = layers_json(trt.builds[-1]["onnx"])
    names = [layer["Name"] for layer in json.loads(trt.layers_json)["Layers"]]
    trt.layer_times = dict.fromkeys(names, 0.01)
    return trt


INT8 = f"{TINY} INT8"


def edit(trt: FakeTensorRT, change: Callable[[list[dict[str, Any]]], None]) -> None:
    listed = json.loads(trt.layers_json)
    change(listed["Layers"])
    trt.layers_json = json.dumps(listed)


def test_layers_of_a_good_engine_pass(int8: FakeTensorRT, rig: Rig) -> None:
    found = list(layers.checks(rig, [INT8]))
    assert [check.passed for check in found] == [True] * 4, found
    assert found[1].figures["promised"] == 75
    assert found[2].found == "20 of 20"


def test_a_softmax_in_halves_is_seen(int8: FakeTensorRT, rig: Rig) -> None:
    def in_halves(listed: list[dict[str, Any]]) -> None:
        for layer in listed:
            if layer["LayerType"] == "Softmax":
                for tensor in (*layer["Inputs"], *layer["Outputs"]):
                    tensor["Format/Datatype"] = "Half"

    edit(int8, in_halves)
    (wrong,) = [check for check in layers.checks(rig, [INT8]) if check.passed is False]
    assert "FP32" in wrong.what
    assert "Softmax" in wrong.found


def test_convolutions_that_are_not_int8_are_counted(int8: FakeTensorRT, rig: Rig) -> None:
    def three_more_in_halves(listed: list[dict[str, Any]]) -> None:
        quantized = [layer for layer in listed if layer["Inputs"][0]["Format/Datatype"] == "Int8"]
        for layer in quantized[:3]:
            layer["Inputs"][0]["Format/Datatype"] = "Half"

    edit(int8, three_more_in_halves)
    assert failed(layers.checks(rig, [INT8])) == []
    edit(int8, three_more_in_halves)
    assert failed(layers.checks(rig, [INT8])) == [f"{INT8}, quantized convolutions INT8"]


def test_a_sum_in_a_kernel_of_its_own_is_seen(int8: FakeTensorRT, rig: Rig) -> None:
    def alone(listed: list[dict[str, Any]]) -> None:
        layer = next(layer for layer in listed if "add/Add" in layer["Name"])
        convolution, total = layer["Metadata"].split("\x1e")
        layer["Metadata"] = convolution
        listed.append({**layer, "LayerType": "PointWiseV2", "ParameterType": "PointWise", "Metadata": total})

    edit(int8, alone)
    assert failed(layers.checks(rig, [INT8])) == [f"{INT8}, residual sums fused into convolutions"]


def test_sums_that_the_graph_compiler_has_are_no_fault(int8: FakeTensorRT, rig: Rig) -> None:
    """As in the engines of later TensorRT for later GPUs, whose list names Myelin's kernels."""

    def compiled(listed: list[dict[str, Any]]) -> None:
        for layer in [layer for layer in listed if "add/Add" in layer["Name"]]:
            convolution, total = layer["Metadata"].split("\x1e")
            layer["Metadata"] = convolution
            kernel = {"Name": f"__myl_AddRelu_myl0_{len(listed)}", "LayerType": "kgen", "Metadata": total}
            listed.append({**layer, "ParameterType": "", **kernel})

    edit(int8, compiled)
    (sums,) = [check for check in layers.checks(rig, [INT8]) if "residual sums" in check.what]
    assert sums.passed is None
    assert sums.found == "the graph compiler has all 20"


def test_convolutions_in_a_block_are_not_known(int8: FakeTensorRT, rig: Rig) -> None:
    """Of a part that is listed as one layer nothing is known, and that is no failure."""

    def in_a_block(listed: list[dict[str, Any]]) -> None:
        quantized = [layer for layer in listed if layer["Inputs"][0]["Format/Datatype"] == "Int8"]
        for layer in quantized[:30]:
            layer["LayerType"] = "Myelin"

    edit(int8, in_a_block)
    (share,) = [check for check in layers.checks(rig, [INT8]) if "quantized convolutions" in check.what]
    assert share.passed
    assert share.figures["unnamed"] > 20
    assert share.figures["share"] == 1


def test_a_profile_of_other_names_is_seen(int8: FakeTensorRT, rig: Rig) -> None:
    int8.layer_times = {f"{name} [shuffled]": ms for name, ms in int8.layer_times.items()}
    assert failed(layers.checks(rig, [INT8])) == [f"{INT8}, names of the profile in the list of layers"]
