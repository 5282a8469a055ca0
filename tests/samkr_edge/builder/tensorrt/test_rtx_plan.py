"""Plans of TensorRT for RTX: which flavour is chosen, what is set, what is refused; no TensorRT and no GPU needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from plan_facts import FP32
from plan_facts import INT8 as QUANTIZED
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt.features import features_for
from samkr_edge.builder.tensorrt.plan import BuildPlan, plan_best, plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.cli.build_tensorrt import choose_flavour, find_features
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import OnnxFacts
from targets.device import Device
from targets.profile import load_target
from targets.recognise import recognise

Install = Callable[[str], FakeTensorRT]
RTX = "rtx 1.7.1.116"
INT8 = replace(QUANTIZED, tensor_scales=290)


def plan(target: str, version: str = "1.7", onnx: OnnxFacts = INT8, **wishes: Any) -> BuildPlan:
    return plan_build(load_target(target), features_for(version, "rtx"), onnx, Wishes(**wishes))


def refusal(*arguments: Any, **wishes: Any) -> SamkrError:
    with pytest.raises(SamkrError) as raised:
        plan(*arguments, **wishes)
    return raised.value


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_residual(tmp_path / "model.onnx", per_channel=True)


@pytest.mark.parametrize(
    ("target", "capabilities"),
    [
        ("rtx-3090", ("8.6",)),
        ("rtx-4090", ("8.9",)),
        ("rtx-5090", ("12.0",)),
        ("rtx-30-and-up", ("8.6", "8.9", "12.0")),
    ],
)
def test_a_plan_names_the_gpus_it_is_for_and_times_nothing(
    target: str, capabilities: tuple[str, ...]
) -> None:
    made = plan(target)
    assert (made.flavour, made.compute_capabilities) == ("rtx", capabilities)
    assert made.timing_cache is None
    assert made.hardware_compatibility is None
    # As TensorRT 11: types come from the graph alone.
    assert (made.typing, made.network_flags, made.builder_flags) == ("strong", (), ())
    assert made.steps == ("drop_branch_quantizers", "cast_first", "enlarge_sums", "fuse_int8", "bake_fp16")
    assert made.by_hand is None


@pytest.mark.parametrize(
    ("target", "capabilities"), [("rtx-2060", ("7.5",)), ("rtx-any", ("7.5", "8.6", "8.9", "12.0"))]
)
def test_an_engine_that_serves_turing_is_fp16_and_says_why(
    target: str, capabilities: tuple[str, ...]
) -> None:
    """Its builder would run the INT8 convolutions in FP16, for every card of the engine."""
    made = plan(target)
    assert (made.precision, made.compute_capabilities) == ("fp16", capabilities)
    assert made.steps == ("strip_quantizers", "cast_first", "enlarge_sums", "bake_fp16")
    assert any("SM 7.5" in note and "rtx-30-and-up" in note for note in made.notes)
    assert not any("SM 7.5" in note for note in plan(target, onnx=FP32).notes)
    assert not any("SM 7.5" in note for note in plan(target, precision="fp16").notes)
    error = refusal(target, precision="int8")
    assert (error.code, error.fix) == ("SE-V88", "--precision fp16")
    assert "rtx-30-and-up" in error.sentence()


def test_full_tensorrt_runs_int8_on_turing_as_before() -> None:
    made = plan_build(load_target("rtx-2060"), features_for("10.3.0"), INT8, Wishes())
    assert (made.precision, made.compute_capabilities) == ("int8", ())


def test_a_release_that_nobody_has_tried_is_named_in_a_note() -> None:
    assert any("newer than what was tested" in note for note in plan("rtx-4090", "1.8").notes)
    assert not any("newer" in note for note in plan("rtx-4090", "1.7.1.116").notes)


def test_best_is_fp16_and_int8_for_the_same_gpus() -> None:
    plans = plan_best(load_target("rtx-30-and-up"), features_for("1.7", "rtx"), INT8, Wishes())
    assert [made.precision for made in plans] == ["fp16", "int8"]
    assert {made.compute_capabilities for made in plans} == {("8.6", "8.9", "12.0")}


def test_int8_before_its_release_is_refused_and_fp16_offered() -> None:
    error = refusal("rtx-4090", "1.6")
    assert error.code == "SE-V88"
    assert "--precision fp16" in error.sentence()
    assert "samkr-edge[rtx]" in (error.fix or "")
    assert plan("rtx-4090", "1.6", precision="fp16").precision == "fp16"
    assert plan("rtx-4090", "1.6", FP32).precision == "fp16"


def test_a_major_version_of_the_future_is_refused() -> None:
    assert refusal("rtx-4090", "2.0").code == "SE-V80"


@pytest.mark.parametrize(
    "device",
    [
        Device(machine="x86_64", system="Linux", gpu="NVIDIA H100", compute_capability="9.0"),
        Device(machine="x86_64", system="Linux", gpu="NVIDIA GeForce GTX 1080", compute_capability="6.1"),
        Device(machine="x86_64", system="Linux", gpu="NVIDIA Unheard Of"),
    ],
    ids=lambda device: device.gpu,
)
def test_a_gpu_that_it_does_not_build_for_is_refused_with_those_it_does(device: Device) -> None:
    with pytest.raises(SamkrError) as raised:
        plan_build(recognise(device), features_for("1.7", "rtx"), INT8, Wishes())
    assert raised.value.code == "SE-V80"
    assert raised.value.facts["known"] == "SM 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"


def test_a_card_without_a_profile_is_built_for_by_its_capability() -> None:
    device = Device(machine="x86_64", system="Linux", gpu="NVIDIA RTX A6000", compute_capability="8.6")
    assert plan_build(recognise(device), features_for("1.7", "rtx"), INT8, Wishes()).compute_capabilities == (
        "8.6",
    )


@pytest.mark.parametrize("target", ["jetson-agx-orin", "jetson-thor"])
def test_a_jetson_is_not_for_tensorrt_for_rtx(target: str) -> None:
    error = refusal(target)
    assert error.code == "SE-V80"
    assert "--flavour" in (error.fix or "")


@pytest.mark.parametrize(
    ("wishes", "option"),
    [
        ({"hardware_compatible": "same"}, "--hardware-compatible"),
        ({"version_compatible": True}, "--version-compatible"),
        ({"dla_core": 0}, "--dla-core"),
    ],
)
def test_what_only_tensorrt_has_is_a_usage_error(wishes: dict[str, Any], option: str) -> None:
    error = refusal("rtx-4090", **wishes)
    assert error.code == "SE-U83"
    assert option in error.message
    assert option in (error.fix or "")


def test_it_calibrates_nothing_itself() -> None:
    error = refusal("rtx-4090", "1.7", FP32, calibrate=True)
    assert error.code == "SE-U36"
    assert "samkr-edge quantize" in (error.fix or "")


def test_many_gpus_are_not_for_tensorrt_itself() -> None:
    with pytest.raises(SamkrError) as raised:
        plan_build(load_target("rtx-any"), features_for("11.1"), INT8, Wishes())
    assert raised.value.code == "SE-V80"
    assert "7.5, 8.6, 8.9, 12.0" in raised.value.sentence()


@pytest.mark.parametrize("target", ["rtx-2060", "rtx-4090", "rtx-any", "rtx-30-and-up"])
def test_without_a_tensorrt_a_geforce_gets_tensorrt_for_rtx(target: str) -> None:
    assert choose_flavour(load_target(target), here=False, version=None, asked=None) == "rtx"
    assert choose_flavour(load_target(target), here=True, version=None, asked=None) == "rtx"


def test_a_tensorrt_on_that_very_card_comes_first(install: Install) -> None:
    install("10.3.0")
    card = load_target("rtx-4090")
    assert choose_flavour(card, here=True, version=None, asked=None) == "tensorrt"
    assert choose_flavour(card, here=True, version=None, asked="rtx") == "rtx"
    # Elsewhere it could not build for that card.
    assert choose_flavour(card, here=False, version=None, asked=None) == "rtx"


def test_a_workstation_card_takes_it_where_it_is_installed(install: Install) -> None:
    """It has no profile, so nobody knows that it is an RTX; its compute capability tells."""
    card = recognise(Device(machine="x86_64", gpu="NVIDIA RTX A6000", compute_capability="8.6"))
    server = recognise(Device(machine="x86_64", gpu="NVIDIA H100", compute_capability="9.0"))
    assert choose_flavour(card, here=True, version=None, asked=None) == "tensorrt"
    install(RTX)
    assert choose_flavour(card, here=True, version=None, asked=None) == "rtx"
    assert choose_flavour(server, here=True, version=None, asked=None) == "tensorrt"


@pytest.mark.parametrize("target", ["jetson-agx-orin", "cpu"])
def test_what_is_no_geforce_stays_with_tensorrt(target: str) -> None:
    assert choose_flavour(load_target(target), here=False, version=None, asked=None) == "tensorrt"


@pytest.mark.parametrize(
    ("version", "asked", "flavour"),
    [
        ("1.6", None, "rtx"),
        ("1.7.1.116", None, "rtx"),
        ("11.1", None, "tensorrt"),
        ("8.6.1", None, "tensorrt"),
        ("10.3", "tensorrt", "tensorrt"),
        ("1.7", "rtx", "rtx"),
        (None, "tensorrt", "tensorrt"),
    ],
)
def test_a_version_names_its_flavour(version: str | None, asked: str | None, flavour: str) -> None:
    assert choose_flavour(load_target("rtx-4090"), False, version, asked) == flavour


@pytest.mark.parametrize(
    ("version", "asked", "words"),
    [
        ("11.1", "rtx", "not a version of TensorRT for RTX"),
        ("jetpack-6.2", "rtx", "not a version of TensorRT for RTX"),
        ("1.7", "tensorrt", "not a version of TensorRT"),
    ],
)
def test_a_flavour_and_a_version_that_contradict_each_other_are_refused(
    version: str | None, asked: str, words: str
) -> None:
    with pytest.raises(SamkrError, match=words) as raised:
        choose_flavour(load_target("rtx-4090"), False, version, asked)
    assert raised.value.code == "SE-U89"


def test_the_release_that_is_installed_is_planned_with(install: Install) -> None:
    card = load_target("rtx-4090")
    assert find_features(card, False, None).version == "1.7"
    trt = install(RTX)
    assert find_features(card, False, None).version == "1.7.1.116"
    trt.__version__ = "1.8.0.1"
    assert find_features(card, False, None).version == "1.8.0.1"
    assert find_features(card, False, "1.6").version == "1.6"


@pytest.mark.usefixtures("no_gpu")
def test_a_dry_run_shows_flavour_and_gpus_and_no_timing_cache(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), "--target", "rtx-any", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for part in ("rtx-any, TensorRT for RTX 1.7", "runs on      SM 7.5, 8.6, 8.9, 12.0", "strong typing"):
        assert part in shown
    for part in ("timing cache", "portable", "GPU model only"):
        assert part not in shown
    assert run(["build", str(source), "--target", "rtx-any", "--dry-run", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["plans"]
    assert made["flavour"] == "rtx"
    assert made["compute_capabilities"] == ["7.5", "8.6", "8.9", "12.0"]
    assert made["timing_cache"] is None
    assert not source.with_suffix(".engine").exists()


@pytest.mark.usefixtures("no_gpu")
def test_the_graph_that_it_gets_can_be_written(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared.onnx"
    assert run(["build", str(source), "--target", "rtx-4090", "--prepared", str(out)]) == 0
    assert out.is_file()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--target", "rtx-4090", "--flavour", "rxt"], 2, "rxt"),
        (["--target", "rtx-4090", "--flavour", "rtx", "--tensorrt", "11.1"], 2, "11.1"),
        (["--target", "rtx-4090", "--tensorrt", "1.6"], 7, "--precision fp16"),
        (["--target", "rtx-any", "--flavour", "tensorrt"], 7, "cannot run on all of them"),
        (["--target", "jetson-agx-orin", "--flavour", "rtx"], 7, "Jetson"),
        (["--target", "rtx-4090", "--dla-core", "0"], 2, "--dla-core"),
        (["--target", "rtx-4090", "--hardware-compatible", "same"], 2, "--hardware-compatible"),
        (["--target", "rtx-4090", "--version-compatible"], 2, "--version-compatible"),
        (["--target", "cpu", "--flavour", "rtx"], 2, "--flavour"),
        (["--target", "rtx-4090", "--flavour", "tensorrt"], 7, "SE-V50"),
        (["--target", "rtx-4090"], 7, "samkr-edge[rtx]"),
    ],
    ids=lambda value: " ".join(value[2:] or value) if isinstance(value, list) else None,
)
def test_a_wrong_wish_is_one_clear_error(
    source: Path, options: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), *options]) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert words in shown
    assert "Traceback" not in shown
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_tensorrt_that_does_not_load_is_none(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an installation is no reason to plan for it, as long as the other flavour can build."""
    folder = tmp_path / "packages" / "tensorrt"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')"
    )
    monkeypatch.setattr(sys, "path", [str(folder.parent)])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert choose_flavour(load_target("rtx-4090"), here=True, version=None, asked=None) == "rtx"


@pytest.mark.usefixtures("no_gpu")
def test_a_version_that_is_not_here_is_planned_for_and_never_built(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("rtx 1.7.1.116")
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    command = ["build", str(source), "--target", "rtx-4090", "--precision", "fp16", "--tensorrt"]
    assert run([*command, "1.6", "--dry-run"]) == 0
    assert run([*command, "1.6"]) == 2
    assert "planned    1.6" in capsys.readouterr().err
    assert not source.with_suffix(".engine").exists()
    assert run([*command, "1.7"]) == 0


def refused_with(capsys: pytest.CaptureFixture[str], code: str, *words: str) -> str:
    """What the command printed, which is an error of this code."""
    assert run(list(words)) != 0
    printed = capsys.readouterr().err
    assert code in printed, printed
    return printed


@pytest.mark.usefixtures("no_gpu")
def test_a_prepared_graph_never_replaces_its_source_and_is_built_no_second_time(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = source.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(source)
    for place in (source, link):
        words = ["build", str(source), "--target", "rtx-4090", "--prepared", str(place)]
        refused_with(capsys, "SE-U51", *words)
        assert source.read_bytes() == exported
    out = tmp_path / "prepared.onnx"
    assert run(["build", str(source), "--target", "rtx-4090", "--prepared", str(out)]) == 0
    for target, code in (("rtx-4090", "SE-B88"), ("rtx-any", "SE-B88"), ("cpu", "SE-B52")):
        refused_with(capsys, code, "build", str(out), "--target", target)
    assert not out.with_suffix(".engine").exists()


@pytest.mark.usefixtures("no_gpu")
def test_an_int8_engine_without_int8_is_not_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The only quantized convolution is the last, which stays FP32."""
    source = write_residual(tmp_path / "last.onnx")
    out = tmp_path / "prepared.onnx"
    words = ["build", str(source), "--target", "rtx-4090", "--prepared", str(out)]
    assert "quantized  1 of 1" in refused_with(capsys, "SE-B82", *words)
    assert not out.exists()
    assert run([*words, "--precision", "fp16"]) == 0


def test_what_does_not_fuse_is_told_and_has_no_step_for_it() -> None:
    for onnx, words in (
        (replace(INT8, tensor_scales=0, channel_scales=290), "a scale for every channel"),
        # 4 of 300 convolutions: counted against the quantized ones, not against all.
        (replace(INT8, tensor_scales=0, channel_scales=4), "a scale for every channel"),
        (replace(INT8, weights="fp16", opset=19), "export it without"),
    ):
        made = plan("rtx-4090", onnx=onnx)
        assert "fuse_int8" not in made.steps
        assert any(words in note for note in made.notes)
        assert not any("costs no kernel" in note for note in made.notes)


@pytest.mark.parametrize("shape", [(), (1, 3), (None, 512, 512)], ids=str)
def test_a_graph_that_takes_no_images_is_told_so(shape: tuple[int | None, ...]) -> None:
    error = refusal("rtx-4090", onnx=replace(INT8, input_shape=shape))
    assert "batch of images" in error.message
