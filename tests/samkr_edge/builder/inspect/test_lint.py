"""The checker finds what was broken on purpose, names the line that fixes it, and nothing in a sound graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.builder.inspect.lint import Lint, lint
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.cli import run
from samkr_edge.onnx_graph.graph import Graph

if TYPE_CHECKING:
    from training.models.pose_net import PoseNet

Change = Callable[[onnx.ModelProto], object]


def check(path: Path, change: Change | None = None) -> Lint:
    model = onnx.load(path)
    if change:
        change(model)
    return lint(Graph(model))


def kinds(found: Lint) -> set[str]:
    return {finding.kind for finding in found.findings}


def bypass(model: onnx.ModelProto, owner: str) -> None:
    """Take the quantizers whose names begin with ``owner`` out of the graph."""
    source = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.name.startswith(owner):
            source[node.output[0]] = node.input[0]
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                node.input[index] = source.get(name, name)
    kept = [node for node in model.graph.node if node.output[0] not in source]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def constants_of(model: onnx.ModelProto, owner: str, position: int) -> list[Any]:
    """Constant nodes that hold scale (1) or zero point (2) of the quantizers of ``owner``."""
    names = {
        node.input[position]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.name.startswith(owner)
    }
    return [n for n in model.graph.node if n.op_type == "Constant" and n.output[0] in names]


def set_constant(node: Any, value: np.ndarray) -> None:
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(value))


CONV = "/net/backbone/layer1/layer1.0/conv1/"


def test_a_module_is_read_from_the_name_of_its_node() -> None:
    name = "/net/backbone/stage3/stage3.1/branches.0/branches.0.2/conv1/Conv"
    assert module_of(name) == "backbone.stage3.1.branches.0.2.conv1"
    assert module_of("/net/offset_head/blocks/blocks.1/add/skip_input_quantizer/QuantizeLinear") == (
        "offset_head.blocks.1.add"
    )
    assert module_of("DeformConv_7") == "DeformConv_7"


def test_a_float_model_has_no_int8_and_no_findings(float_onnx: Path) -> None:
    found = check(float_onnx)
    assert found.int8_macs == 0
    assert found.findings == ()


def test_macs_are_those_that_the_network_counts(float_onnx: Path) -> None:
    import torch

    from training.models.macs import count_macs
    from training.models.zoo import build_model, model_config

    with torch.device("meta"):
        network = build_model(model_config("samkr_tiny"))
    expected = count_macs(network, (64, 64))
    found = {one.module: one.macs for one in check(float_onnx).convolutions}
    assert found == expected


def test_what_the_default_policy_makes_has_no_finding_before_and_after_the_build(
    int8_onnx: Path, tmp_path: Path
) -> None:
    """The bilinear resizes before the heads stay float, and no policy line mends that."""
    found = check(int8_onnx)
    assert found.int8_share > 0.8
    # The attention's f + f * softmax(...) and the adaptive block's are float.
    assert found.int8_sums == found.sums - 2
    assert found.findings == ()
    built = build_cpu(int8_onnx, tmp_path / "q.cpu.onnx").path
    assert lint(Graph(onnx.load(built)), built=True).findings == ()


def test_one_float_convolution_in_an_int8_trunk_is_an_island(int8_onnx: Path) -> None:
    found = check(int8_onnx, lambda model: bypass(model, CONV))
    island = next(f for f in found.findings if f.modules[0] == "backbone.layer1.0.conv1")
    assert island.kind == "float-island"
    assert island.policy == 'match: "backbone.layer1.0.conv1", op: conv, precision: int8'


@pytest.mark.parametrize("side", ["skip_input_quantizer", "branch_input_quantizer"])
def test_only_the_skip_side_of_a_residual_sum_needs_a_quantizer(int8_onnx: Path, side: str) -> None:
    owner = "/net/backbone/stage2/stage2.0/branches.0/branches.0.0/add"
    found = check(int8_onnx, lambda model: bypass(model, f"{owner}/{side}"))
    skipped = [f for f in found.findings if f.kind == "float-sum"]
    if side.startswith("branch"):  # TensorRT fuses the convolution on that side
        assert skipped == []
    else:
        assert [f.modules[0] for f in skipped] == ["backbone.stage2.0.branches.0.0.add"]
        assert (
            skipped[0].policy
            == 'match: "backbone.stage2.0.branches.0.0.add", op: residual_add, precision: int8'
        )


def test_a_zero_point_is_asymmetric(int8_onnx: Path) -> None:
    def shift(model: onnx.ModelProto) -> None:
        for node in constants_of(model, CONV + "input_quantizer", 2):
            set_constant(node, np.array(3, np.int8))

    found = check(int8_onnx, shift)
    assert {f.kind for f in found.findings if f.modules[0] == "backbone.layer1.0.conv1"} == {"asymmetric"}


@pytest.mark.parametrize(("scale", "found"), [(0.001, False), (1.0, True)])
def test_one_scale_for_a_weight_is_found_where_it_rounds_channels_away(
    int8_onnx: Path, scale: float, found: bool
) -> None:
    def flatten(model: onnx.ModelProto) -> None:
        for node in constants_of(model, CONV + "weight_quantizer", 1):
            set_constant(node, np.array(scale, np.float32))
        for node in constants_of(model, CONV + "weight_quantizer", 2):
            set_constant(node, np.array(0, np.int8))

    linted = check(int8_onnx, flatten)
    coarse = [f for f in linted.findings if f.kind == "per-tensor-weight"]
    assert [f.modules[0] for f in coarse] == (["backbone.layer1.0.conv1"] if found else [])
    assert linted.channel_scales == sum(one.int8 for one in linted.convolutions) - 1
    assert all("granularity: channel" in f.policy and "TensorRT for RTX" in f.policy for f in coarse)


def test_a_graph_for_tensorrt_for_rtx_is_not_told_to_break_what_costs_nothing_there(
    per_tensor_onnx: Path, tmp_path: Path, int8_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = per_tensor_onnx
    found = check(path, lambda model: bypass(model, CONV))
    assert (found.for_rtx, found.channel_scales) == (True, 0)
    assert not kinds(found) & {"float-island", "float-sum"}
    assert not check(int8_onnx).for_rtx
    assert run(["inspect", str(path)]) == 0
    assert "one scale each, for TensorRT for RTX" in capsys.readouterr().out
    # A CPU's model is what runs: there they cost what they always did.
    model = onnx.load(path)
    bypass(model, CONV)
    assert "float-island" in kinds(lint(Graph(model), built=True))


def test_an_fp8_graph_is_spoken_of_as_fp8_and_sent_to_no_cpu(int8_onnx: Path) -> None:
    def make_fp8(model: onnx.ModelProto) -> None:
        zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output[0] in zeros:
                zero = node.attribute[0].t
                shape = list(zero.dims)
                zero.CopyFrom(
                    helper.make_tensor(
                        "", TensorProto.FLOAT8E4M3FN, shape, bytes(max(1, *shape, 1)), raw=True
                    )
                )

    def make_fp8_with_an_island(model: onnx.ModelProto) -> None:
        bypass(model, CONV)
        make_fp8(model)

    found = check(int8_onnx, make_fp8_with_an_island)
    islands = [finding for finding in found.findings if finding.kind == "float-island"]
    assert (found.format, found.for_rtx) == ("fp8", False)
    assert islands
    for island in islands:
        assert "between FP8 ones" in island.what
        assert "cpu" not in island.policy


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_found(int8_onnx: Path, value: float) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        for node in constants_of(model, CONV + "weight_quantizer", 1):
            scale = numpy_helper.to_array(node.attribute[0].t).copy()
            scale[0] = value
            set_constant(node, scale)

    found = check(int8_onnx, spoil)
    assert [f.modules[0] for f in found.findings if f.kind == "bad-scale"] == ["backbone.layer1.0.conv1"]


def test_int8_on_the_way_to_a_sampling_grid_is_found(int8_onnx: Path) -> None:
    def quantize_grid(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)
        index, grid = next((i, n) for i, n in enumerate(nodes) if n.op_type == "GridSample")
        q = next(n for n in nodes if n.op_type == "QuantizeLinear" and n.name.startswith(CONV + "input"))
        pair = [
            helper.make_node("QuantizeLinear", [grid.input[1], *q.input[1:]], ["grid_q"], "grid_q"),
            helper.make_node("DequantizeLinear", ["grid_q", *q.input[1:]], ["grid_dq"], "grid_dq"),
        ]
        grid.input[1] = "grid_dq"
        nodes[index:index] = pair
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    found = check(int8_onnx, quantize_grid)
    assert "quantized-grid" in kinds(found)
    assert any("*.sampling.*" in f.policy for f in found.findings)


def test_grid_sample_beyond_opset_19_is_found(int8_onnx: Path) -> None:
    def raise_opset(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 20

    assert "nearest-grid" in kinds(check(int8_onnx, raise_opset))


def test_zero_points_of_a_built_model_are_meant(int8_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(build_cpu(int8_onnx, tmp_path / "q.cpu.onnx").path)
    assert "asymmetric" in kinds(lint(Graph(model)))
    assert "asymmetric" not in kinds(lint(Graph(model), built=True))


@pytest.fixture
def with_island(int8_onnx: Path, tmp_path: Path) -> Path:
    """One convolution of the trunk is float."""
    model = onnx.load(int8_onnx)
    bypass(model, CONV)
    onnx.save(model, tmp_path / "island.onnx")
    return tmp_path / "island.onnx"


def test_the_gate_passes_what_our_road_makes_and_stops_a_float_island_built_or_not(
    int8_onnx: Path, with_island: Path, tmp_path: Path
) -> None:
    for source, code in ((int8_onnx, 0), (with_island, 6)):
        built = build_cpu(source, tmp_path / f"{source.stem}.cpu.onnx").path
        assert run(["inspect", str(source), "--strict"]) == code
        assert run(["inspect", str(built), "--strict"]) == code


def test_a_float_softmax_between_int8_costs_least_where_its_reader_is_float(
    exported: ModuleType, float_network: PoseNet, tmp_path: Path
) -> None:
    """Where everything is quantized that can be."""
    from calibration.policy import load_policy
    from calibration.ptq import quantize_network

    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    network, _ = quantize_network(float_network, load_policy("everything"), iter(np.split(noise, 2)))
    found = check(exported.export(network, tmp_path / "all.onnx", precision="int8"))
    (island,) = [one for one in found.findings if "Softmax" in one.what]
    assert island.policy == 'match: "offset_head.final", op: conv, precision: float'


def test_the_command_lists_findings_and_fails_only_when_strict(
    with_island: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(with_island)]) == 0
    assert "float-island" in capsys.readouterr().out
    assert run(["inspect", str(with_island), "--strict"]) == 6
    shown = capsys.readouterr().err
    assert "SE-Q84" in shown
    assert "float-island" in shown
    assert "two conversions per map" in shown  # the first finding
    (fix,) = [line for line in shown.splitlines() if line.startswith("fix: ")]
    assert fix.startswith(f"fix: samkr-edge inspect {with_island}   # ")
    assert shown.rstrip().endswith(fix)


def test_the_command_prints_one_json_object_strict_or_not(
    with_island: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(with_island), "--json", "--strict"]) == 6
    shown = json.loads(capsys.readouterr().out)
    assert 0.8 < shown["int8_share"] < 1
    assert shown["findings"]
    assert {"kind", "what", "modules", "ms", "policy", "note"} == set(shown["findings"][0])


def test_a_sound_float_model_passes_strict(float_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(float_onnx), "--strict"]) == 0
    assert "no INT8 inside" in capsys.readouterr().out


def test_a_damaged_built_model_is_not_described(
    int8_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = build_cpu(int8_onnx, tmp_path / "q.cpu.onnx").path
    model = onnx.load(built)
    model.doc_string = "edited"
    onnx.save(model, built)
    assert run(["inspect", str(built)]) == 4
    assert "SE-A54" in capsys.readouterr().err
