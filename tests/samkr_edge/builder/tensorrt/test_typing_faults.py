"""Versions that do with types other than they are told: seen after the build, or before it, and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeTensorRT
from fake_typing import TypingFaults
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_best, plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.onnx_graph import onnx_reading
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
CARD = load_target("rtx-4090")


def build(
    trt: FakeTensorRT, source: Path, *, onnx_package: bool = True, **wishes: Any
) -> builder.BuiltEngine:
    features = replace(features_of(trt), onnx_package=onnx_package)
    plan = plan_build(CARD, features, facts_of(read_onnx(source)), Wishes(**wishes), 8 << 30)
    return builder.build_tensorrt(source, source.parent / "built.engine", (plan,))


@pytest.fixture
def source(float_onnx: Path, tmp_path: Path) -> Path:
    """samkr_tiny, which has a softmax, a sampling and last convolutions."""
    path = tmp_path / "model.onnx"
    path.write_bytes(float_onnx.read_bytes())
    return path


@pytest.mark.parametrize(("version", "onnx_package"), [("8.6.1", True), ("10.3.0", False)])
def test_fp16_where_weak_typing_asked_for_fp32_is_refused_by_name(
    install: Install, source: Path, version: str, onnx_package: bool
) -> None:
    trt = install(version)
    assert build(trt, source, onnx_package=onnx_package).passport.precision["typing"] == "weak"
    source.with_name("built.engine").unlink()
    trt.typing_faults = TypingFaults(ignores_constraints=True)
    with pytest.raises(SamkrError) as raised:
        build(trt, source, onnx_package=onnx_package)
    assert raised.value.code == "SE-B83"
    assert "should be FP32" in raised.value.facts["layer"][0]
    assert any(word in raised.value.facts["layer"][0].upper() for word in ("HALF", "FP16"))
    assert "--precision fp32" in (raised.value.fix or "")
    assert not source.with_name("built.engine").exists()


def test_every_kind_of_promise_is_held_against_what_was_built(install: Install, source: Path) -> None:
    from samkr_edge.builder.inspect.engine_layers import parse_layers
    from samkr_edge.builder.tensorrt.engine_promises import broken_promises, promises_of
    from samkr_edge.runtime.tensorrt import TensorRTRunner

    for version in ("8.6.1", "10.3.0", "11.4.0.106"):
        trt = install(version)
        runner = TensorRTRunner(build(trt, source).path)
        promises = promises_of(decode_onnx(trt.builds[-1]["onnx"]))
        assert len(promises.fp32) == 2
        assert promises.softmaxes
        assert promises.samplings
        assert len(promises.grids) > 3
        assert broken_promises(parse_layers(runner.layers()), promises) == []
        if version == "8.6.1":
            trt.typing_faults = TypingFaults(ignores_constraints=True)
            broken = {one.node for one in broken_promises(parse_layers(runner.layers()), promises)}
            named = (*promises.fp32, *promises.softmaxes, *promises.samplings, *promises.grids)
            assert broken == set(named)
        runner.close()


def test_a_block_that_is_listed_as_one_layer_is_a_note(install: Install, source: Path) -> None:
    trt = install("8.6.1")
    trt.layers_json = json.dumps(
        {
            "Layers": [
                {
                    "Name": "{ForeignNode[/net/backbone/conv1/Conv.../net/offset_head/attention/Softmax]}",
                    "LayerType": "Myelin",
                    "Inputs": [{"Name": "a", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
                    "Outputs": [{"Name": "b", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
                }
            ]
        }
    )
    built = build(trt, source)
    assert any("not confirmed to be what the graph asks for" in note for note in built.notes)


def test_where_no_kernel_obeys_fp32_is_preferred_and_what_came_of_it_inspected(
    install: Install, source: Path
) -> None:
    trt = install("8.6.1")
    trt.typing_faults = TypingFaults(obey_fails=True)
    built = build(trt, source)
    flags = [made["flags"] for made in trt.builds]
    assert flags == [{"FP16", "OBEY_PRECISION_CONSTRAINTS"}, {"FP16", "PREFER_PRECISION_CONSTRAINTS"}]
    assert trt.builds[1]["constraints"] == trt.builds[0]["constraints"] != {}
    assert built.passport.settings["builder_flags"] == ("FP16", "PREFER_PRECISION_CONSTRAINTS")
    assert any("not enforced" in note for note in built.notes)
    trt.typing_faults = TypingFaults(obey_fails=True, ignores_constraints=True)
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B83"


@pytest.mark.parametrize(
    ("version", "typing", "builds"), [("10.16.1.11", "weak", 2), ("11.4.0.106", None, 1)]
)
def test_where_strong_typing_is_not_built_weak_is_if_there_are_flags(
    install: Install, int8_onnx: Path, tmp_path: Path, version: str, typing: str | None, builds: int
) -> None:
    trt, path = install(version), tmp_path / "model.onnx"
    path.write_bytes(int8_onnx.read_bytes())
    trt.typing_faults = TypingFaults(strong_fails=True)
    if typing is None:
        with pytest.raises(SamkrError) as raised:
            build(trt, path)
        assert raised.value.code == "SE-B90"
    else:
        built = build(trt, path)
        assert built.passport.precision["typing"] == built.passport.settings["typing"] == typing
        assert trt.builds[1]["flags"] == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
        assert any("the strongly typed build failed" in note and "Myelin" in note for note in built.notes)
    assert len(trt.builds) == builds


def test_a_build_that_fails_every_way_is_told_by_its_first_reason(install: Install, source: Path) -> None:
    trt = install("10.3.0")
    trt.typing_faults = TypingFaults(strong_fails=True)
    trt.build_messages = ["Error Code 9: everything fails"]
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B90"
    assert "Myelin" in raised.value.sentence()
    assert len(trt.builds) == 3  # strong, weak, and weak without insisting


def test_best_keeps_the_candidate_that_keeps_its_types(
    install: Install, int8_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt, path = install("10.3.0"), tmp_path / "model.onnx"
    path.write_bytes(int8_onnx.read_bytes())
    plans = plan_best(CARD, features_of(trt), facts_of(read_onnx(path)), Wishes(), 8 << 30)
    real = builder.inspect_built

    def refuse_int8(text: str, engine: Any, plan: Any) -> Any:
        if plan.precision == "int8":
            raise SamkrError("SE-B83", "it computes in fewer bits", {"layer": ["a softmax"]})
        return real(text, engine, plan)

    monkeypatch.setattr(builder, "inspect_built", refuse_int8)
    built = builder.build_tensorrt(path, tmp_path / "best.engine", plans)
    assert built.passport.precision["engine"] == "fp16"
    assert built.milliseconds == {}
    assert any("int8 was rejected" in note and "a softmax" in note for note in built.notes)


@pytest.mark.parametrize(("version", "typing"), [("10.16.1.11", "strong"), ("8.6.1", "weak")])
def test_wrong_samples_next_to_fp16_make_the_adaptive_blocks_fp32_whole(
    install: Install, source: Path, version: str, typing: str
) -> None:
    trt = install(version)
    trt.typing_faults = TypingFaults(samples_nearest="next to fp16")
    built = build(trt, source)
    assert built.passport.precision["typing"] == typing
    assert "wide_sampling" in built.passport.settings["steps"]
    assert any("samples wrongly next to FP16" in note for note in built.notes)
    assert len(trt.trials) == 2
    # The engine itself samples right: it was compared with ONNX Runtime.
    assert built.agreement is not None
    assert built.agreement.holds


def test_samples_that_are_wrong_in_every_form_are_refused_before_the_build(
    install: Install, source: Path
) -> None:
    trt = install("10.16.1.11")
    trt.typing_faults = TypingFaults(samples_nearest="in fp16")
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B80"
    assert "--precision fp32" in (raised.value.fix or "")
    assert trt.builds == []
    assert "wide_sampling" not in build(trt, source, precision="fp32").passport.settings["steps"]
    assert len(trt.trials) == 2


def test_a_graph_that_brings_its_fp16_cannot_be_widened_and_is_told_how(
    install: Install, half_onnx: Path
) -> None:
    trt = install("10.16.1.11")
    trt.typing_faults = TypingFaults(samples_nearest="next to fp16")
    with pytest.raises(SamkrError) as raised:
        build(trt, half_onnx)
    assert raised.value.code == "SE-B80"
    assert "without --precision fp16" in (raised.value.fix or "")


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"a": 1}', "\0"])
def test_a_trial_is_made_once_for_a_version_and_a_gpu_and_a_damaged_memory_of_it_is_ignored(
    install: Install, tmp_path: Path, damage: str | None
) -> None:
    source = write_residual(tmp_path / "model.onnx", quantized=False)
    trt = install("10.3.0")
    build(trt, source)
    (file,) = cache_folder().glob("sampling-*.json")
    assert "4090" in file.name
    assert "10.3.0" in file.name
    if damage is not None:
        file.write_text(damage)
    build(trt, source)
    assert len(trt.trials) == (1 if damage is None else 2)
    assert len(json.loads(file.read_text())) == 1
    other = install("10.16.1.11")
    build(other, source)
    assert len(other.trials) == 1


def test_nothing_is_tried_for_a_graph_that_does_not_sample(install: Install, tmp_path: Path) -> None:
    trt = install("10.3.0")
    build(trt, write_residual(tmp_path / "model.onnx", quantized=False, samples=False))
    assert trt.trials == []


@pytest.mark.usefixtures("no_gpu")
def test_nothing_is_tried_ahead_of_time_without_a_gpu(install: Install, tmp_path: Path) -> None:
    trt, source = install("rtx 1.7.1.116"), write_residual(tmp_path / "model.onnx", quantized=False)
    plan = plan_build(CARD, features_of(trt, "rtx"), facts_of(read_onnx(source)), Wishes())
    builder.build_tensorrt(source, tmp_path / "built.engine", (plan,))
    assert trt.trials == []


def test_one_command_reads_its_graph_once(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reads, real = write_residual(tmp_path / "model.onnx"), [], onnx_reading._decode
    monkeypatch.setattr(onnx_reading, "_decode", lambda data: reads.append(bytes(data)) or real(data))
    install("10.3.0")
    assert run(["build", str(source), "--target", "auto", "--precision", "best", "--json"]) == 0
    assert reads.count(source.read_bytes()) == 1
