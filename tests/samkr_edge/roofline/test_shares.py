"""AgainstBound times beside bounds; the names that ONNX Runtime gives to what it fuses; an engine's layers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.selftest.carried import write_network
from samkr_edge.builder.inspect.engine_layers import layers_in
from samkr_edge.onnx_graph.onnx_reading import decoded
from samkr_edge.roofline import cpu_peaks as peaks_module
from samkr_edge.roofline.against_bound import AgainstBound, measure_engine, measure_on_cpu, peaks_here, worst
from samkr_edge.roofline.bound import LayerWork, bound
from samkr_edge.roofline.cpu_peaks import cpu_peaks
from samkr_edge.roofline.cpu_profile import module_times
from samkr_edge.roofline.engine_work import engine_work
from samkr_edge.roofline.shares import shares, summary, total
from targets.device import Device
from targets.peaks import Peaks
from targets.profile import load_target

PEAKS = Peaks({"int8": 1e6, "fp32": 1e5}, ((math.inf, 1e6),))
LAYERS = [
    LayerWork("a", "int8", 4000, 500, 500, 0),
    LayerWork("a", "int8", 1000, 500, 500, 0),
    LayerWork("b", "fp32", 100, 1000, 1000, 0),
]


def test_the_layer_that_loses_most_comes_first_and_modules_are_added_up() -> None:
    rows = shares({"b": 9, "a": 6, "Softmax": 0.5}, bound(LAYERS, PEAKS))
    assert [(row.module, row.bound_ms, row.by) for row in rows] == [
        ("b", pytest.approx(2), "bandwidth"),
        ("a", pytest.approx(4 + 1), "compute"),
        ("Softmax", 0, ""),
    ]
    assert [row.lost_ms for row in rows] == [pytest.approx(7), pytest.approx(1), 0.5]
    assert total(rows) == 15.5
    assert (
        summary(7, 15.5, "compute")
        == "at 45% of its bound: 7.00 ms at least, by compute, and 15.50 ms measured"
    )


def test_only_layers_that_lose_are_named_as_losing() -> None:
    found = bound(LAYERS, PEAKS)
    measured = AgainstBound(found, shares({"a": 4, "b": 9}, found), "")
    assert [row.module for row in worst(measured)] == ["b"]
    assert replace(measured, images=2).ms == pytest.approx(1e3 * found.seconds / 2)


def test_kernels_are_known_by_what_they_were_made_from_and_count_at_their_fastest() -> None:
    def event(name: str, us: int, kind: str) -> dict[str, object]:
        return {"name": f"{name}_kernel_time", "dur": us, "args": {"op_name": kind}}

    slow = [event("/net/a/Conv_token_7", 900, "QLinearConv"), event("r_nchwc", 50, "Conv")]
    fast = [event("/net/a/Conv_token_7", 400, "QLinearConv"), event("r_nchwc", 60, "Conv")]
    both = [event("Reorder_3", 10, "ReorderInput"), event("/net/a/add/Add", 5, "Add")]
    fused = {"/net/a/Conv": "a", "/net/a/add/Add": "a", "r": "b"}
    times = module_times([[*slow, *both], [*fast, *both]], fused)
    assert times == {"a": 0.405, "b": 0.05, "ReorderInput": 0.01}


@pytest.fixture
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks_module, "_EACH", 0.01)
    monkeypatch.setattr(peaks_module, "_COPIED", (2**18, 2**20, 2**22))
    peaks_module.cpu_peaks.cache_clear()


@pytest.mark.usefixtures("quick_peaks")
def test_the_layers_of_a_model_are_timed_beside_the_bounds_of_this_cpu(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    card = write_network(path, "samkr_tiny", quantized=True)
    data = path.read_bytes()
    found = measure_on_cpu(data, decoded(data, path), card)
    assert isinstance(found, AgainstBound)
    assert found.bound.seconds > 0
    modules = {row.module for row in found.layers}
    assert {"backbone.conv1", "offset_head.blocks.0.adapt_conv"} <= modules
    # Hardly anything is left over: what belongs to no layer goes by its operation's kind.
    named = sum(row.ms for row in found.layers if "." in row.module)
    assert named > 0.7 * total(found.layers)
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["lost_ms"] >= found.layers[-1].lost_ms
    assert "GMAC/s" in found.peaks


@pytest.mark.usefixtures("quick_peaks")
def test_a_peak_of_this_cpu_is_measured_once_and_no_near_memory_is_slower_than_a_far_one() -> None:
    peaks = cpu_peaks(1)
    assert cpu_peaks(1) is peaks
    assert peaks.macs.keys() == {"fp32", "int8"}
    assert all(rate > 0 for rate in peaks.macs.values())
    rates = [rate for _, rate in peaks.memory]
    assert rates == sorted(rates, reverse=True)
    assert [size for size, _ in peaks.memory] == [2**20, 2**22 - 2**20, math.inf]


def test_what_a_cpu_computes_in_other_types_has_no_bound(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    card = write_network(path, "samkr_tiny")
    data = path.read_bytes()
    assert "FP32 and INT8" in str(measure_on_cpu(data, decoded(data, path), replace(card, precision="fp16")))


def _conv(name: str, dtype: str, channels: int = 64) -> dict[str, object]:
    tensor = {"Dimensions": [1, channels, 16, 16], "Format/Datatype": dtype}
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [{"Name": "x", **tensor}],
        "Outputs": [{"Name": "y", **tensor}],
        "Kernel": [3, 3],
        "OutMaps": channels,
        "Groups": 1,
        "Weights": {"Type": dtype},
    }


def test_an_engine_is_bounded_by_its_convolutions_in_their_real_types() -> None:
    relu = {"Name": "/net/relu/Relu", "LayerType": "PointWise", "Inputs": [], "Outputs": []}
    entries = [
        _conv("/net/a/Conv", "Int8"),
        _conv("/net/b/Conv", "BFloat16"),
        _conv("/net/c/Conv", "Int4"),
        relu,
    ]
    layers = layers_in({"Layers": entries})
    values, macs = 64 * 16 * 16, 64 * 64 * 9 * 16 * 16
    a, b, c = engine_work(layers, {"int8": 1.0, "fp16": 1.0})
    assert (a.module, a.precision, a.macs, a.read, a.written) == ("a", "int8", macs, values, values)
    assert (b.precision, b.macs, b.read) == ("fp16", macs, 2 * values)
    assert (c.macs, c.read) == (0, values // 2)  # no peak of that type: its bytes alone


def test_an_engines_layers_stand_beside_the_bounds_of_its_target() -> None:
    target = load_target("jetson-orin-nano")
    times = {"/net/a/Conv": 0.05, "Reformat": 0.5}
    reformat = {**_conv("Reformat", "Half"), "LayerType": "Reformat", "ParameterType": "Reformat"}
    layers = layers_in({"Layers": [_conv("/net/a/Conv", "Int8"), reformat]}, times)
    found = measure_engine(layers, target)
    assert isinstance(found, AgainstBound)
    assert [(row.module, row.by) for row in found.layers] == [("Reformat", ""), ("a", "compute")]
    assert found.layers[1].bound_ms == pytest.approx(1e3 * 64 * 64 * 9 * 256 / (33e12 / 2))
    assert found.peaks.startswith("jetson-orin-nano-8gb: FP16")
    assert "no peaks" in str(measure_engine(layers, load_target("rtx-any")))


def test_a_power_mode_by_name_is_the_faster_one_of_two() -> None:
    target = load_target("jetson-orin-nano")
    peaks, mode = peaks_here(target, Device(power_mode="15W"))
    assert mode == "15W"
    assert peaks.macs["int8"] == pytest.approx(33e12 / 2 * 625 / 1020)
    assert peaks_here(target, Device(power_mode="custom"))[1] is None
