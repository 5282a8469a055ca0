"""Stages 2 and 3 of the self-test pass on a TensorRT that computes right, and see one that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from fake_tensorrt import FakeTensorRT
from onnx import ModelProto, TensorProto, helper

from benchmarks.selftest import sampling
from benchmarks.selftest.operator_graphs import decode_tail
from benchmarks.selftest.run import run_stage
from benchmarks.selftest.stage import Check, Rig, Stage
from benchmarks.selftest.stages import STAGES

VERSIONS = ("8.6.1", "10.3.0", "10.16.1.11", "11.0.0.114", "rtx 1.7.1.116")
Install = Callable[[str], FakeTensorRT]


def run(number: int, folder: Path) -> dict[str, Check]:
    stage: Stage = STAGES[number]
    found = list(run_stage(stage, Rig(folder / "work", folder / "shared")))
    broken = [check.found for check in found if check.what == "no error"]
    assert not broken, broken
    assert len({check.what for check in found}) == len(found), "what was measured has names of its own"
    return {check.what: check for check in found}


def failed(checks: dict[str, Check]) -> list[str]:
    return [what for what, check in checks.items() if check.passed is False]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller maps: here is nothing to be measured of a GPU's kernels."""
    monkeypatch.setattr(sampling, "MAPS", ((2, 32, 32, 9), (2, 12, 20, 9)))
    monkeypatch.setattr("benchmarks.selftest.operator_graphs.MAP", 16)
    monkeypatch.setattr("benchmarks.selftest.operator_graphs.SMALL_MAP", 8)


@pytest.fixture
def misread(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeTensorRT, Callable[[ModelProto], None]], None]:
    """``misread(trt, change)``: its engines compute a graph that was changed."""

    def install(trt: FakeTensorRT, change: Callable[[ModelProto], None]) -> None:
        parse = trt.OnnxParser.parse

        def changed(self: object, model: bytes, path: str | None = None) -> bool:
            loaded = onnx.load_from_string(model)
            change(loaded)
            return bool(parse(self, loaded.SerializeToString(), path))

        monkeypatch.setattr(trt.OnnxParser, "parse", changed)

    return install


def nodes_of(model: ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def set_text(node: onnx.NodeProto, name: str, value: bytes) -> None:
    next(attribute for attribute in node.attribute if attribute.name == name).s = value


def rounded(model: ModelProto, node: onnx.NodeProto) -> None:
    """What a node gives is rounded to FP16."""
    wide = node.output[0]
    node.output[0] = f"{wide}_exact"
    down = helper.make_node("Cast", [f"{wide}_exact"], [f"{wide}_half"], to=TensorProto.FLOAT16)
    up = helper.make_node("Cast", [f"{wide}_half"], [wide], to=TensorProto.FLOAT)
    at = list(model.graph.node).index(node) + 1
    model.graph.node.insert(at, up)
    model.graph.node.insert(at, down)


@pytest.mark.parametrize("version", VERSIONS)
def test_sampling_passes_in_every_form_that_a_version_has(
    install: Install, small: None, tmp_path: Path, version: str
) -> None:
    install(version)
    checks = run(2, tmp_path)
    assert failed(checks) == []
    ran = {what.split(", ")[1] for what, check in checks.items() if check.passed}
    expected = {"FP32"}
    expected |= {"weak FP16"} if version.startswith(("8", "10")) else set()
    expected |= set() if version.startswith("8") else {"FP32 inside strong FP16"}
    assert ran == expected
    assert all(check.figures["largest_error"] < 1e-3 for check in checks.values() if check.passed)


@pytest.mark.parametrize("version", VERSIONS)
def test_sampling_at_the_nearest_pixel_is_seen(
    install: Install, small: None, tmp_path: Path, misread: Callable[..., None], version: str
) -> None:
    def nearest(model: ModelProto) -> None:
        for node in nodes_of(model, "GridSample"):
            set_text(node, "mode", b"nearest")

    misread(install(version), nearest)
    checks = run(2, tmp_path)
    assert failed(checks) == [what for what, check in checks.items() if check.passed is not None]


def test_a_fault_next_to_fp16_is_told_and_passes_where_builds_have_a_way_around_it(
    install: Install, small: None, tmp_path: Path, misread: Callable[..., None]
) -> None:
    """pytorch/TensorRT#4074: wrong samples where FP16 stands next to a GridSample in FP32."""

    def faulty(model: ModelProto) -> None:
        makers = {name: node for node in model.graph.node for name in node.output}
        for node in nodes_of(model, "GridSample"):
            if (maker := makers.get(node.input[0])) is not None and maker.op_type == "Cast":
                set_text(node, "mode", b"nearest")

    misread(install("10.16.1.11"), faulty)
    checks = run(2, tmp_path)
    assert failed(checks) == []
    strong = [check for what, check in checks.items() if "strong" in what]
    assert all("next to FP16, so with FP32 around it" in check.found for check in strong)
    assert all(check.figures["largest_error"] > 0.1 > check.figures["wide_largest_error"] for check in strong)


@pytest.mark.parametrize("version", VERSIONS)
def test_operators_pass(install: Install, small: None, tmp_path: Path, version: str) -> None:
    install(version)
    checks = run(3, tmp_path)
    assert failed(checks) == []
    assert sum(check.passed is True for check in checks.values()) >= 12


def floor_to_ceiling(model: ModelProto) -> None:
    for node in nodes_of(model, "Resize"):
        set_text(node, "nearest_mode", b"ceil")


def half_softmax(model: ModelProto) -> None:
    for node in nodes_of(model, "Softmax"):
        rounded(model, node)


def wrong_groups(model: ModelProto) -> None:
    for weight in model.graph.initializer:
        if weight.name == "weight":
            values = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), "weight"))


def half_scores(model: ModelProto) -> None:
    for node in nodes_of(model, "TopK"):
        rounded(model, node)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (floor_to_ceiling, "Resize"),
        (half_softmax, "Softmax"),
        (wrong_groups, "convolution"),
        (half_scores, "decoding"),
    ],
)
def test_an_operator_that_computes_wrong_is_seen_and_no_other(
    install: Install,
    small: None,
    tmp_path: Path,
    misread: Callable[..., None],
    change: Callable[[ModelProto], None],
    seen: str,
) -> None:
    misread(install("10.3.0"), change)
    checks = run(3, tmp_path)
    assert failed(checks) == [
        what for what, check in checks.items() if f", {seen}" in what and check.passed is not None
    ]


def test_a_missing_kernel_is_a_failed_check_and_the_rest_is_measured(
    install: Install, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    build = trt.Builder.build_serialized_network

    def build_most(self: object, network: object, config: object) -> object:
        if any(layer._node.op_type == "Conv" for layer in network._layers):  # type: ignore[attr-defined]
            text = "Error Code 10: Internal Error (Could not find any implementation for node /Conv.)"
            self._logger.log(trt.ILogger.Severity.ERROR, text)  # type: ignore[attr-defined]
            return None
        return build(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", build_most)
    checks = run(3, tmp_path)
    assert all("not built" in checks[what].found for what in failed(checks))
    assert [what for what in failed(checks) if ", convolution" not in what] == []
    assert len(failed(checks)) == 6


def test_a_card_that_no_tensorrt_serves_is_not_run(
    install: Install, small: None, tmp_path: Path, driver: object
) -> None:
    driver.capability = (6, 1)  # type: ignore[attr-defined]
    install("rtx 1.7.1.116")
    for number in (2, 3):
        (check,) = run(number, tmp_path).values()
        assert check.passed is None


def test_the_decoding_that_is_tried_is_all_that_is_behind_the_maps() -> None:
    model = onnx.load_from_string(decode_tail().graph)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds >= {"MaxPool", "TopK", "GatherElements", "Where", "Floor", "Round", "ReduceSum"}
    assert not kinds & {"Conv", "QuantizeLinear", "Resize"}
