"""Engines of TensorRT for RTX, built by its stand-in on machines with no GPU, with the GPU meant, and with another."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_driver import Driver
from fake_tensorrt import RTX_VERSIONS, FakeTensorRT, ctrl_c_at_the_first_step
from tensorrt_graphs import residual_graph, write_residual

from samkr_edge.builder.inspect.builder_listing import layers_path
from samkr_edge.builder.inspect.engine import layers_of_engine
from samkr_edge.builder.inspect.engine_layers import parse_layers
from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt import engine_bytes
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_best, plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from samkr_edge.passport import read_passport
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]


@pytest.fixture
def trt(install: Install) -> FakeTensorRT:
    return install(RTX_VERSIONS[-1])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_residual(tmp_path / "model.onnx", per_channel=True)


def build(
    trt: FakeTensorRT, source: Path, target: str = "rtx-4090", wishes: Wishes | None = None, **options: Any
) -> builder.BuiltEngine:
    features, facts = features_of(trt, "rtx"), facts_of(read_onnx(source))
    plan = plan_build(load_target(target), features, facts, wishes or Wishes())
    return builder.build_tensorrt(source, source.with_suffix(".engine"), (plan,), **options)


def compute_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT gets another graph than the one its engine is compared with."""
    graph = residual_graph(quantized=False, weight=-50.0).SerializeToString()
    other = prepare(decode_onnx(graph), ("cast_first",))
    monkeypatch.setattr(
        engine_bytes, "prepare", lambda graph, steps: other if graph.metadata else prepare(graph, steps)
    )


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("version", RTX_VERSIONS)
def test_a_machine_without_a_gpu_builds_and_says_that_nothing_was_compared(
    install: Install, source: Path, version: str
) -> None:
    trt = install(version)
    built = build(trt, source)
    assert built.path.is_file()
    assert built.agreement is None
    assert "agreement" not in built.passport.measured
    (made,) = trt.builds
    assert made["capabilities"] == ["SM89"]
    assert (made["network"], made["flags"]) == (set(), set())
    assert made["profiling_verbosity"].name == "DETAILED"
    assert made["onnx"] == prepare(read_onnx(source), built.passport.settings["steps"])
    assert not list(cache_folder().glob("*.timing"))


@pytest.mark.usefixtures("no_gpu")
def test_one_engine_for_every_geforce_rtx(trt: FakeTensorRT, source: Path) -> None:
    built = build(trt, source, "rtx-any")
    assert built.passport.precision["engine"] == "fp16"
    assert trt.builds[0]["capabilities"] == ["SM75", "SM86", "SM89", "SM120"]
    assert built.passport.device["compute_capabilities"] == ["7.5", "8.6", "8.9", "12.0"]


@pytest.mark.usefixtures("no_gpu")
def test_the_passport_names_the_gpus_meant_not_the_machine_of_the_build(
    trt: FakeTensorRT, source: Path
) -> None:
    build(trt, source)
    passport = read_passport(source.with_suffix(".engine"))
    assert (passport.flavour, passport.runtime, passport.target) == ("rtx", "rtx", "rtx-4090")
    assert passport.versions.keys() == {"samkr_edge", "tensorrt_rtx"}
    assert passport.runtime_version == trt.__version__
    assert passport.device.keys() == {"machine", "system", "compute_capabilities"}
    assert passport.device["compute_capabilities"] == ["8.9"]
    assert passport.precision["engine"] == "int8"
    assert passport.precision["typing"] == "strong"
    assert set(passport.hashes) == {"onnx"}
    assert passport.settings["flavour"] == "rtx"
    assert passport.settings["timing_cache"] is None


@pytest.mark.usefixtures("no_gpu")
def test_what_the_builder_lists_is_kept_and_its_complaint_about_the_driver_is_no_reason(
    trt: FakeTensorRT, source: Path
) -> None:
    facts = facts_of(read_onnx(source))
    plan = plan_build(load_target("rtx-4090"), features_of(trt, "rtx"), facts, Wishes())
    engine = engine_bytes.build_bytes(source, plan)
    assert engine.listing is not None
    assert "LayerType: correlation" in engine.listing
    trt.build_messages = ["Assertion failed: the layer /Conv is not supported"]
    with pytest.raises(SamkrError) as raised:
        engine_bytes.build_bytes(source, plan)
    assert raised.value.code == "SE-B90"
    assert raised.value.message.startswith("TensorRT for RTX 1.7")
    assert "/Conv" in raised.value.facts["node"]
    assert "35" not in raised.value.sentence()


@pytest.mark.usefixtures("no_gpu")
def test_the_list_of_layers_lies_beside_the_engine_and_says_whose_it_is(
    trt: FakeTensorRT, source: Path
) -> None:
    built = build(trt, source)
    listed = json.loads(layers_path(built.path).read_text())
    assert listed["engine_sha256"] == built.passport.sha256
    assert listed["Compute Capabilities"] == ["8.9"]
    assert built.measures["int8"].kernels == len(listed["Layers"])
    assert built.passport.precision["layers"]["bytes_moved"] == built.measures["int8"].bytes_moved > 0
    (layer,) = [layer for layer in parse_layers(layers_of_engine(built.path)) if layer.role == "conv"]
    assert "/Conv" in layer.name


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("told", ["Layers:\nName: /Conv, LayerType: correlation, Inputs: [", ""])
def test_an_engine_whose_list_cannot_be_read_is_whole_all_the_same(
    trt: FakeTensorRT, source: Path, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trt.retell = lambda truth: told
    assert run(["build", str(source), "--target", "rtx-4090"]) == 0
    assert ("what the engine is made of is unknown" in " ".join(capsys.readouterr().out.split())) is bool(
        told
    )
    assert source.with_suffix(".engine").is_file()
    assert not layers_path(source.with_suffix(".engine")).exists()
    assert "layers" not in read_passport(source.with_suffix(".engine")).precision


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_that_samples_in_half_precision_is_not_written(trt: FakeTensorRT, source: Path) -> None:
    trt.retell = lambda truth: truth.replace("Datatype: Float", "Datatype: Half")
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B83"
    assert "/GridSample should be FP32" in raised.value.sentence()
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_the_list_of_an_engine_that_was_replaced_is_not_taken_for_the_new_ones(
    trt: FakeTensorRT, install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(trt, source)
    other = install("10.3.0")
    other.layers_json = '{"Layers": []}'
    plan = plan_build(load_target("rtx-4090"), features_of(other), facts_of(read_onnx(source)), Wishes())
    engine = builder.build_tensorrt(source, source.with_suffix(".engine"), (plan,)).path
    assert layers_of_engine(engine) == other.layers_json
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    with pytest.raises(SamkrError) as raised:
        layers_of_engine(engine)
    assert raised.value.code == "SE-V92"
    assert "another engine" in raised.value.sentence()


@pytest.mark.usefixtures("no_gpu")
def test_a_refused_graph_names_the_node_and_a_remedy(trt: FakeTensorRT, source: Path) -> None:
    trt.parser_errors = [("TensorRT only supports symmetric quantization", "QuantizeLinear", "/add/x")]
    with pytest.raises(SamkrError, match="TensorRT for RTX") as raised:
        build(trt, source)
    assert raised.value.code == "SE-B91"
    assert "/add/x (QuantizeLinear)" in raised.value.facts["node"]
    assert [path.name for path in source.parent.iterdir()] == [source.name]


@pytest.mark.usefixtures("no_gpu")
def test_ctrl_c_stops_the_builder_and_leaves_nothing(trt: FakeTensorRT, source: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(trt, source, report=ctrl_c_at_the_first_step)
    assert trt.cancelled
    assert not list(source.parent.glob("*.engine*"))


@pytest.mark.usefixtures("no_gpu")
def test_an_open_batch_is_built_with_a_profile(trt: FakeTensorRT, tmp_path: Path) -> None:
    source = write_residual(tmp_path / "open.onnx", batch="n", per_channel=True)
    built = build(trt, source, wishes=Wishes(batch=3))
    assert trt.builds[0]["profiles"] == [("image", (3, 8, 8, 3), (3, 8, 8, 3), (3, 8, 8, 3))]
    assert built.passport.settings["profile_batch"] == 3


def test_on_a_gpu_that_it_is_for_an_engine_is_compared_with_its_graph(
    trt: FakeTensorRT, driver: Driver, source: Path
) -> None:
    built = build(trt, source, "rtx-30-and-up")
    assert built.agreement is not None
    assert built.agreement.holds
    assert read_passport(built.path).measured["agreement"] == built.agreement.to_dict()
    assert driver.live == 0


def test_an_engine_that_computes_something_else_is_not_written(
    trt: FakeTensorRT, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_something_else(monkeypatch)
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B89"
    assert not list(source.parent.glob("*.engine*"))


def test_on_a_gpu_that_it_is_not_for_nothing_is_run(
    trt: FakeTensorRT, driver: Driver, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.may_deserialise = False
    compute_something_else(monkeypatch)  # which only running it would show
    driver.gpu, driver.capability = b"NVIDIA H100", (9, 0)
    built = build(trt, source)
    assert built.agreement is None
    assert built.passport.device["compute_capabilities"] == ["8.9"]


def test_best_is_timed_where_a_gpu_can_run_both(trt: FakeTensorRT, source: Path) -> None:
    features, facts = features_of(trt, "rtx"), facts_of(read_onnx(source))
    plans = plan_best(load_target("rtx-4090"), features, facts, Wishes())
    built = builder.build_tensorrt(source, source.with_suffix(".engine"), plans)
    assert set(built.milliseconds) == {"fp16", "int8"}
    assert read_passport(built.path).measured["gpu_ms"] == built.milliseconds


@pytest.mark.usefixtures("no_gpu")
def test_best_goes_by_the_lists_where_nothing_can_be_timed_and_says_that_it_predicts(
    trt: FakeTensorRT, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add_kernels(*kinds: str) -> Callable[[str], str]:
        """One more kernel for each build, which moves more than all others."""
        left = iter(kinds)

        def retell(truth: str) -> str:
            layout = "Dimensions: [1,8,2048,2048], Strides: [1], StrideOrder: [0]"
            tensor = f"{layout}, Datatype: {next(left)}, Format: (Linear) Row major linear format"
            kernel = (
                f"Name: more, LayerType: kgen, Inputs: [ {{ Name: a, {tensor} }}], Constants: [], "
                f"Outputs: [ {{ Name: b, {tensor} }}], TacticName: t, StreamId: 0, Metadata: "
            )
            return truth.replace("Layers:\n", f"Layers:\n{kernel}\n")

        return retell

    command = ["build", str(source), "--target", "rtx-4090", "--precision", "best"]
    for kinds, winner in ((("Half", "Int8"), "int8"), (("Half", "Float"), "fp16")):
        trt.retell = add_kernels(*kinds)
        assert run(command) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert f"{winner} is predicted to be the fastest" in shown
        passport = read_passport(source.with_suffix(".engine"))
        assert passport.precision["engine"] == winner
        assert "gpu_ms" not in passport.measured


@pytest.mark.usefixtures("no_gpu")
def test_the_command_builds_on_any_machine(
    trt: FakeTensorRT, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), "--target", "rtx-any"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"TensorRT for RTX {trt.__version__}" in shown
    assert "runs on SM 7.5, 8.6, 8.9, 12.0" in shown
    assert "not compared with its source: no GPU in this machine can run it" in shown
    assert run(["build", str(source), "--target", "rtx-4090", "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["agreement"] is None
    assert payload["passport"]["flavour"] == "rtx"


def test_on_the_card_itself_auto_takes_what_is_installed(
    install: Install, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def flavour(*options: str) -> str:
        assert run(["build", str(source), "--target", "auto", "--json", *options]) == 0
        return str(json.loads(capsys.readouterr().out)["passport"]["flavour"])

    install(RTX_VERSIONS[-1])
    assert flavour() == "rtx"
    install("10.3.0")
    assert flavour() == "tensorrt"
    assert flavour("--flavour", "rtx") == "rtx"


@pytest.mark.usefixtures("no_gpu")
def test_without_the_package_it_says_which_to_install(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), "--target", "rtx-4090"]) == 7
    shown = " ".join(capsys.readouterr().err.split())
    assert "SE-V91" in shown
    assert "TensorRT for RTX is not installed here" in shown
    assert 'pip install "samkr-edge[rtx]"' in shown


@pytest.mark.usefixtures("no_gpu")
def test_a_package_that_does_not_load_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    folder = tmp_path / "packages" / "tensorrt_rtx"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "raise ImportError('libtensorrt_rtx.so.1: cannot open shared object')"
    )
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    assert run(["build", str(source), "--target", "rtx-4090"]) == 7
    shown = " ".join(capsys.readouterr().err.split())
    assert "TensorRT for RTX is installed here but does not load" in shown
    assert "libtensorrt_rtx.so.1" in shown


@pytest.mark.usefixtures("no_gpu")
def test_a_place_that_cannot_be_written_is_found_before_building(
    trt: FakeTensorRT, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    plan = plan_build(load_target("rtx-4090"), features_of(trt, "rtx"), facts_of(read_onnx(source)), Wishes())
    with pytest.raises(SamkrError) as raised:
        builder.build_tensorrt(source, tmp_path / "file" / "a.engine", (plan,))
    assert raised.value.code == "SE-D01"
    assert trt.builds == []


@pytest.mark.usefixtures("no_gpu")
def test_an_fp32_engine_is_built_without_the_onnx_package(
    trt: FakeTensorRT, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-in's builder reads the graph with it, so it goes only when the engine is there.
    real = builder.build_bytes

    def then_none(*arguments: Any, **named: Any) -> Any:
        engine = real(*arguments, **named)
        monkeypatch.setitem(sys.modules, "onnx", None)
        return engine

    monkeypatch.setattr(builder, "build_bytes", then_none)
    built = build(trt, source, wishes=Wishes(precision="fp32"))
    assert built.measures["fp32"].kernels > 0
    assert not any("not seen" in note or "not known" in note for note in built.notes)
