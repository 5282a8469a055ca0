"""Building engines with a fake TensorRT that has what each version has, and runs what it was given."""

import json
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_driver import Driver
from fake_tensorrt import VERSIONS, FakeTensorRT, ctrl_c_at_the_first_step
from tensorrt_graphs import residual_graph, write_residual

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
from samkr_edge.preflight import preflight
from samkr_edge.runtime.cuda import free_bytes
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache
from targets.device import Device
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
CARD = load_target("rtx-4090")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_residual(tmp_path / "model.onnx")


def build(
    trt: FakeTensorRT, source: Path, wishes: Wishes | None = None, **options: Any
) -> builder.BuiltEngine:
    plan = plan_build(CARD, features_of(trt), facts_of(read_onnx(source)), wishes or Wishes(), 8 << 30)
    return builder.build_tensorrt(source, source.with_suffix(".engine"), (plan,), **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_graph_builds_on_every_version(install: Install, source: Path, version: str) -> None:
    trt = install(version)
    built = build(trt, source)
    # TF32 is set unless it is cleared.
    flags = {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"} if version.startswith("8") else set()
    network = {"8": {"EXPLICIT_BATCH"}, "10": {"STRONGLY_TYPED"}, "11": set()}
    assert trt.builds[0]["flags"] == flags
    assert trt.builds[0]["network"] == network[version.partition(".")[0]]
    assert trt.builds[0]["pools"] == {"WORKSPACE": 4 << 30}
    assert trt.builds[0]["builder_optimization_level"] == 3
    assert built.agreement.holds
    assert built.path.read_bytes()[:4] == b"PLAN"


def test_the_passport_tells_the_whole_story(install: Install, source: Path) -> None:
    build(install("10.3.0"), source)
    passport = read_passport(source.with_suffix(".engine"))
    assert passport.target == "rtx-4090"
    assert passport.device["model"] == "NVIDIA GeForce RTX 4090"
    assert passport.device["compute_capability"] == "8.9"
    assert passport.versions["tensorrt"] == "10.3.0"
    assert passport.precision == {
        "engine": "int8",
        "typing": "strong",
        "convolutions": 1,
        "int8_convolutions": 1,
    }
    assert set(passport.hashes) == {"onnx", "timing_cache"}
    assert passport.settings["network_flags"] == ["STRONGLY_TYPED"]
    assert passport.settings["cleared_flags"] == ["TF32"]
    assert passport.card["precision"] == "int8"
    assert passport.created


def test_best_keeps_the_faster_engine_and_says_by_how_much(install: Install, source: Path) -> None:
    trt = install("10.3.0")
    plans = plan_best(CARD, features_of(trt), facts_of(read_onnx(source)), Wishes(), 8 << 30)
    for int8_ms, winner in ((2.0, "int8"), (5.0, "fp16")):
        trt.speed = {"float": 3.0, "int8": int8_ms}
        built = builder.build_tensorrt(source, source.with_suffix(".engine"), plans)
        assert built.milliseconds == {"fp16": 3.0, "int8": int8_ms}
        assert built.passport.precision["engine"] == winner
        assert read_passport(built.path).measured["gpu_ms"]["int8"] == int8_ms


def test_an_engine_that_computes_something_else_is_not_written(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    graph = residual_graph(quantized=False, weight=-50.0).SerializeToString()
    other = prepare(decode_onnx(graph), ("cast_first",))
    # TensorRT gets another graph than the one its engine is compared with.
    monkeypatch.setattr(
        engine_bytes, "prepare", lambda graph, steps: other if graph.metadata else prepare(graph, steps)
    )
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B89"
    assert "--precision fp16" in str(raised.value.fix)
    with pytest.raises(SamkrError) as raised:
        build(trt, source, Wishes(precision="fp32"))
    assert "--precision" not in str(raised.value.fix)  # the same again would end the same
    assert not source.with_suffix(".engine").exists()


def test_a_candidate_that_computes_something_else_does_not_stop_the_other(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    trt.speed = {"float": 3.0, "int8": 2.0}
    graph = residual_graph(weight=-50.0).SerializeToString()
    other = prepare(decode_onnx(graph), ("cast_first",))
    monkeypatch.setattr(
        engine_bytes,
        "prepare",
        lambda graph, steps: (
            other if graph.metadata and "strip_quantizers" not in steps else prepare(graph, steps)
        ),
    )
    plans = plan_best(CARD, features_of(trt), facts_of(read_onnx(source)), Wishes(), 8 << 30)
    built = builder.build_tensorrt(source, source.with_suffix(".engine"), plans)
    assert built.passport.precision["engine"] == "fp16"
    assert built.agreement is not None
    assert built.agreement.holds
    assert built.milliseconds["int8"] < built.milliseconds["fp16"]
    assert built.notes[-1].startswith("int8 was rejected: the engine does not compute")


@pytest.mark.parametrize("said", ["Error Code 10: Internal Error (Myelin)", "insufficient memory"])
def test_int8_that_cannot_be_built_leaves_best_its_fp16_unless_memory_is_short(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    trt, real = install("10.3.0"), builder.build_bytes

    def without_int8(source: Path, plan: Any, *arguments: Any, **named: Any) -> Any:
        if plan.precision == "int8":
            raise SamkrError("SE-B90", "TensorRT could not build it", {"TensorRT": said})
        return real(source, plan, *arguments, **named)

    monkeypatch.setattr(builder, "build_bytes", without_int8)
    plans = plan_best(CARD, features_of(trt), facts_of(read_onnx(source)), Wishes(), 8 << 30)
    if "memory" in said:
        with pytest.raises(SamkrError, match="could not build"):
            builder.build_tensorrt(source, source.with_suffix(".engine"), plans)
        return
    built = builder.build_tensorrt(source, source.with_suffix(".engine"), plans)
    assert built.passport.precision["engine"] == "fp16"
    assert built.notes[-1].startswith("int8 was rejected: TensorRT could not build it")


def test_a_refused_graph_names_the_node_and_a_remedy(install: Install, source: Path) -> None:
    trt = install("10.3.0")
    trt.parser_errors = [("TensorRT only supports symmetric quantization", "QuantizeLinear", "/add/x")]
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B91"
    assert "/add/x (QuantizeLinear)" in raised.value.facts["node"]
    assert "zero points must be 0" in raised.value.sentence()


def test_an_older_parser_names_no_node_and_it_is_found_in_the_text(install: Install, source: Path) -> None:
    trt = install("8.6.1")
    trt.parser_errors = [("In node /GridSample: no importer registered for op", "", "")]
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert "/GridSample (GridSample)" in raised.value.facts["node"]


@pytest.mark.parametrize("short", [False, True])
def test_a_layer_without_a_kernel_is_short_of_memory_only_where_tensorrt_says_so(
    install: Install, source: Path, short: bool
) -> None:
    """It says so in a warning, which must reach the error."""
    trt = install("10.3.0")
    if short:
        trt.build_warnings = [
            "UNSUPPORTED_STATE: Skipping tactic 9 due to insufficient memory on requested size of 1048576000"
        ]
    trt.build_messages = [
        "Error Code 10: Internal Error (Could not find any implementation for node {/Conv}.)"
    ]
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == ("SE-B96" if short else "SE-B90")
    assert ("not enough memory" in raised.value.message) is short
    # Other types are tried for want of a kernel, and not for want of memory.
    assert (len(trt.builds) == 1) is short
    assert (raised.value.facts.get("node") == "/Conv (Conv)") is not short
    assert ("--workspace" in (raised.value.fix or "")) is short
    assert not list(source.parent.glob("*.engine*"))


def test_progress_is_told_where_the_version_tells_it(install: Install, source: Path) -> None:
    for version, steps in (("8.6.1", []), ("10.3.0", [("Building", i, 3) for i in (1, 2, 3)])):
        told: list[tuple[str, int, int]] = []
        build(install(version), source, report=lambda *step: told.append(step))  # noqa: B023
        assert told == steps


def test_ctrl_c_stops_the_builder_and_leaves_nothing(install: Install, source: Path) -> None:
    trt = install("10.3.0")

    with pytest.raises(KeyboardInterrupt):
        build(trt, source, report=ctrl_c_at_the_first_step)
    assert trt.cancelled
    assert not list(source.parent.glob("*.engine*"))
    assert not list(cache_folder().glob("*.timing"))


def test_ctrl_c_does_not_wait_for_a_builder_that_cannot_be_told(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.x has no progress monitor; its builder may take minutes to its end, and the process ends beside it."""
    trt, done = install("8.6.1"), threading.Event()
    asked: list[float] = []

    class Waited(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # of the thread that begins
                return super().wait()
            asked.append(timeout)
            if len(asked) == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    build_network = trt.Builder.build_serialized_network

    def long(self: Any, network: Any, config: Any) -> Any:
        done.wait(10)
        return build_network(self, network, config)

    trt.Builder.build_serialized_network = long
    at_exit: list[tuple[Any, ...]] = []
    ended: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr("samkr_edge.builder.tensorrt.engine_bytes.threading.Event", Waited)
        patched.setattr("atexit.register", lambda *called: at_exit.append(called))
        patched.setattr("os._exit", ended.append)
        with pytest.raises(KeyboardInterrupt):
            build(trt, source)
        assert asked[1:] == [0]
        # Others may register too, the first temporary folder of a process for one.
        ((leave, finished, code),) = [called for called in at_exit if called[0] is engine_bytes._leave_behind]
        leave(finished, code)
        assert ended == [130]
        done.set()
        assert finished.wait(10)
        leave(finished, code)  # it is through: an end like any other
        assert ended == [130]
    assert not list(source.parent.glob("*.engine*"))


def test_the_timing_cache_is_kept_grows_and_is_given_back(install: Install, source: Path) -> None:
    trt = install("10.3.0")
    build(trt, source)
    build(trt, source)
    assert trt.known_caches == [b"", b"+"]
    (file,) = cache_folder().glob("*.timing")
    assert "rtx-4090" in file.name
    assert load_cache(file) == b"++"


def test_a_timing_cache_that_tensorrt_cannot_read_is_begun_anew(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    build(trt, source)
    known = trt.IBuilderConfig.create_timing_cache
    monkeypatch.setattr(
        trt.IBuilderConfig, "create_timing_cache", lambda self, timings: None if timings else known(self, b"")
    )
    build(trt, source)
    assert trt.known_caches == [b"", b""]


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: b"\0" + d])
def test_a_damaged_timing_cache_is_ignored(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "a.timing"
    store_cache(file, b"timings")
    assert load_cache(file) == b"timings"
    file.write_bytes(damage(file.read_bytes()))
    assert load_cache(file) == b""
    assert load_cache(tmp_path / "none.timing") == b""


def test_calibration_feeds_every_whole_batch_once_and_keeps_the_ranges(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    source = write_residual(tmp_path / "fp32.onnx", quantized=False, batch=2)
    for index in range(5):
        image = np.random.default_rng(index).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    listing = tmp_path / "images.txt"
    listing.write_text("# chosen by hand\n" + "".join(f"{index}.png\n" for index in range(5)))
    trt = install("10.3.0")
    first = build(trt, source, Wishes(calibrate=True), calibration=listing)
    assert trt.builds[0]["calibrated_on"] == 4
    assert trt.builds[0]["flags"] == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
    assert "calibration_images" in first.passport.hashes
    build(trt, source, Wishes(calibrate=True), calibration=listing)
    assert "calibrated_on" not in trt.builds[1]
    assert driver.live == 0


@pytest.mark.parametrize("free", ["works", "fails too"])
def test_a_calibration_that_fails_on_the_way_is_an_error_and_its_ranges_are_not_kept(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: str
) -> None:
    """TensorRT itself would go on with the ranges of the images so far."""
    # No sampling: that it is tried would copy too.
    source = write_residual(tmp_path / "fp32.onnx", quantized=False, batch=1, samples=False)
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((9, 12, 3), index, np.uint8))
    listing = tmp_path / "images.txt"
    listing.write_text("".join(f"{index}.png\n" for index in range(3)))
    copies = iter((0, 700))
    monkeypatch.setattr(driver, "cuMemcpyHtoDAsync_v2", lambda *arguments: next(copies))
    released: list[int] = []
    release = driver.cuDevicePrimaryCtxRelease_v2
    monkeypatch.setattr(
        driver, "cuDevicePrimaryCtxRelease_v2", lambda device: released.append(1) or release(device)
    )
    if free != "works":  # as after an illegal access: nothing works in that context any more
        monkeypatch.setattr(driver, "cuMemFree_v2", lambda address: 700)
    with pytest.raises(SamkrError) as raised:
        build(install("10.3.0"), source, Wishes(calibrate=True), calibration=listing)
    assert raised.value.code == "SE-V83"
    assert "cuMemcpyHtoDAsync" in raised.value.facts["call"]
    assert not list((tmp_path / "cache").glob("calibration-*"))
    assert released
    if free == "works":
        assert driver.live == 0


def test_a_calibration_that_tensorrt_itself_fails_at_is_sent_to_quantizers(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    """10.3 on an Orin, with every calibrator: NVIDIA/TensorRT#4797."""
    source = write_residual(tmp_path / "fp32.onnx", quantized=False)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((9, 12, 3), np.uint8))
    (tmp_path / "images.txt").write_text("0.png\n")
    trt = install("10.3.0")
    trt.calibrates = False
    with pytest.raises(SamkrError) as raised:
        build(trt, source, Wishes(calibrate=True), calibration=tmp_path / "images.txt")
    assert raised.value.code == "SE-B90"
    assert "a bug in this TensorRT" in raised.value.sentence()
    assert "samkr-edge quantize" in (raised.value.fix or "")
    assert driver.live == 0
    assert not list(tmp_path.glob("*.engine*"))


@pytest.mark.parametrize("version", VERSIONS)
def test_image_bytes_are_read_by_a_cast_first_or_the_parser_refuses_them(
    install: Install, source: Path, version: str
) -> None:
    """NVIDIA/TensorRT#3985; the exported graph transposes first, for ONNX Runtime's sake."""
    trt = install(version)
    plan = plan_build(CARD, features_of(trt), facts_of(read_onnx(source)), Wishes())
    engine_bytes.build_bytes(source, plan, None, None)
    kept = tuple(step for step in plan.steps if step != "cast_first")
    with pytest.raises(SamkrError) as raised:
        engine_bytes.build_bytes(source, replace(plan, steps=kept), None, None)
    assert raised.value.code == "SE-B91"
    assert raised.value.facts["node"] == "/Transpose (Transpose)"
    assert "by a cast only" in raised.value.sentence()


def test_ctrl_c_while_the_engine_is_compared_with_its_graph_leaves_nothing(
    install: Install, driver: Driver, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")

    def interrupt(self: Any, stream_handle: int) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(trt.IExecutionContext, "execute_async_v3", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(trt, source)
    assert [path.name for path in source.parent.iterdir() if path.is_file()] == ["model.onnx"]
    assert driver.live == 0


@pytest.mark.parametrize("content", ["", "missing.png\n"])
def test_a_calibration_list_without_images_is_refused(install: Install, tmp_path: Path, content: str) -> None:
    source = write_residual(tmp_path / "fp32.onnx", quantized=False)
    listing = tmp_path / "images.txt"
    listing.write_text(content)
    with pytest.raises(SamkrError) as raised:
        build(install("10.3.0"), source, Wishes(calibrate=True), calibration=listing)
    assert raised.value.code == "SE-D87"


def test_an_open_batch_is_built_with_a_profile(install: Install, tmp_path: Path) -> None:
    source = write_residual(tmp_path / "open.onnx", batch="n")
    trt = install("10.3.0")
    built = build(trt, source, Wishes(batch=3))
    assert trt.builds[0]["profiles"] == [("image", (3, 8, 8, 3), (3, 8, 8, 3), (3, 8, 8, 3))]
    assert built.passport.settings["profile_batch"] == 3


def test_the_plans_settings_reach_the_builder(install: Install, source: Path) -> None:
    trt = install("10.16.1.11")
    wishes = Wishes(level=5, hardware_compatible="same", version_compatible=True, workspace_mib=256)
    build(trt, source, wishes)
    made = trt.builds[0]
    assert made["builder_optimization_level"] == 5
    assert made["hardware_compatibility_level"].name == "SAME_COMPUTE_CAPABILITY"
    assert made["flags"] == {"VERSION_COMPATIBLE"}
    assert made["pools"] == {"WORKSPACE": 256 << 20}
    assert made["profiling_verbosity"].name == "DETAILED"


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("quantized", [False, True])
def test_what_fp16_would_lose_joints_in_is_marked_fp32(
    install: Install, version: str, quantized: bool, decoding_onnx: Path, decoding_int8_onnx: Path
) -> None:
    """Sampling, attention, and decoding in the graph, whose coordinates reach 512."""
    import onnx

    trt, path = install(version), decoding_int8_onnx if quantized else decoding_onnx
    features = replace(features_of(trt), onnx_package=False)  # so that 10 is weakly typed too
    plan = plan_build(CARD, features, facts_of(read_onnx(path)), Wishes(), 8 << 30)
    engine_bytes.build_bytes(path, plan, None, None)
    marked = trt.builds[0]["constraints"]
    assert all(precision == "FLOAT" for precision, _ in marked.values())
    nodes = onnx.load(path).graph.node
    # Decoding lies behind the maps; pixels it counts in whole numbers are no floats.
    behind = {node.name for node in nodes if node.op_type in ("MaxPool", "TopK") and "/decode/" in node.name}
    assert len(behind) == 2
    assert behind <= marked.keys()
    assert marked[next(n.name for n in nodes if n.op_type == "TopK")][1] == {0: "FLOAT"}
    for node in nodes:
        if node.op_type in ("GridSample", "Softmax", "Round", "Floor"):
            assert marked[node.name] == ("FLOAT", {0: "FLOAT"}), node.name
        assert not (node.op_type == "Cast" and node.name in marked)
        if node.op_type == "Conv":
            last = "/final/" in node.name
            assert (node.name in marked) is last, node.name


@pytest.mark.parametrize("opset", [17, 19])
def test_best_bakes_fp16_in_where_flags_are_gone(
    install: Install, tmp_path: Path, opset: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT 11 runs in the types of the graph: both candidates get FP16, the INT8 one beside its Q/DQ."""
    trt = install("11.0.0.114")
    source = write_residual(tmp_path / "model.onnx", opset=opset)
    assert run(["build", str(source), "--target", "auto", "--precision", "best", "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert set(payload["gpu_ms"]) == {"fp16", "int8"}
    assert payload["passport"]["precision"]["typing"] == "strong"
    fp16, int8 = (facts_of(decode_onnx(build["onnx"])) for build in trt.builds)
    assert payload["passport"]["settings"]["steps"][-1] == "bake_fp16"
    assert "QuantizeLinear" not in fp16.ops
    assert int8.fp16_scales > 0
    assert int8.opset == 19


def test_baking_without_onnx_names_what_to_install(
    install: Install, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("11.0.0.114")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SamkrError) as raised:
        build(trt, source)
    assert raised.value.code == "SE-B04"
    assert "samkr-edge[build]" in (raised.value.fix or "")


def test_a_place_that_cannot_be_written_is_found_before_minutes_of_building(
    install: Install, source: Path, tmp_path: Path
) -> None:
    trt = install("10.3.0")
    (tmp_path / "file").write_text("")
    plan = plan_build(CARD, features_of(trt), facts_of(read_onnx(source)), Wishes())
    with pytest.raises(SamkrError) as raised:
        builder.build_tensorrt(source, tmp_path / "file" / "a.engine", (plan,))
    assert raised.value.code == "SE-D01"
    assert trt.builds == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model.onnx"]


def test_caches_lie_where_the_user_said_and_one_that_cannot_be_kept_loses_no_engine(
    install: Install, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "chosen"))
    build(trt, source)
    assert {path.suffix for path in (tmp_path / "chosen").iterdir()} == {".timing", ".json"}
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "file"))
    assert "timing_cache" not in build(trt, source).passport.hashes


@pytest.mark.parametrize(
    "device",
    [Device(kernel="5.15.148-tegra"), Device(gpu="NVIDIA GB10", integrated=True), Device(l4t="36.4.3")],
)
def test_where_gpu_and_cpu_share_memory_a_build_takes_what_the_system_has_left(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container of a Jetson has no release file; the driver's free memory leaves out what caches can give back."""
    monkeypatch.setattr("samkr_edge.runtime.cuda.available_memory", lambda: 123)
    assert free_bytes(device) == 123


def test_in_a_container_of_a_jetson_an_engine_is_built_and_loaded_without_knowing_its_jetpack(
    install: Install,
    driver: Driver,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither release file nor device tree; TensorRT's version is that of the module, and the module has no profile."""
    trt = install("10.3.0")
    driver.gpu, driver.capability = b"Orin", (8, 7)
    monkeypatch.setattr(
        "samkr_edge.machine.device.described_by_files",
        lambda: Device(platform.machine(), platform.system(), kernel="5.15.148-tegra"),
    )
    assert run(["targets", "auto"]) == 0
    assert "JetPack unknown: there is no /etc/nv_tegra_release" in capsys.readouterr().out
    out = source.with_suffix(".engine")
    assert run(["build", str(source), "--target", "auto", "-o", str(out)]) == 0
    built = read_passport(out)
    assert (built.target, built.runtime_version) == ("jetson-sm87", trt.__version__)
    assert (built.device["l4t"], built.device["jetpack"]) == (None, None)
    assert preflight(out) == built


def test_a_dla_is_the_default_device(install: Install, source: Path) -> None:
    trt = install("10.3.0")
    target = load_target("jetson-orin-nx")
    wishes = Wishes(precision="fp16", dla_core=1)
    plan = plan_build(target, features_of(trt), facts_of(read_onnx(source)), wishes)
    engine_bytes.build_bytes(source, plan, None, None)
    assert trt.builds[0]["default_device_type"].name == "DLA"
    assert trt.builds[0]["DLA_core"] == 1


def test_the_fake_is_as_strict_as_the_real_one(install: Install, source: Path) -> None:
    """A plan for a version with flags, given to one without: an AttributeError, as on the device."""
    features = replace(features_of(install("10.3.0")), onnx_package=False)
    plan = plan_build(CARD, features, facts_of(read_onnx(source)), Wishes())
    install("11.0.0.114")
    with pytest.raises(AttributeError):
        engine_bytes.build_bytes(source, plan, None, None)
    strong = replace(plan, network_flags=("STRONGLY_TYPED",))
    install("10.3.0")
    with pytest.raises(SamkrError, match="could not build"):
        engine_bytes.build_bytes(source, strong, None, None)


def test_the_command_builds_for_this_device(
    install: Install, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("10.3.0")
    assert run(["build", str(source), "--target", "auto", "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["passport"]["target"] == "rtx-4090"
    assert Path(payload["path"]).suffix == ".engine"


def test_the_command_says_which_of_two_was_faster(
    install: Install, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("10.3.0").speed = {"float": 3.0, "int8": 2.0}
    assert run(["build", str(source), "--target", "auto", "--precision", "best"]) == 0
    assert "int8 is 1.50 times as fast as fp16" in " ".join(capsys.readouterr().out.split())


def test_a_dry_run_needs_no_gpu_and_no_tensorrt(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--target", "jetson-orin-nano", "--tensorrt", "jetpack-6.0", "--dry-run", "--json"]
    assert run(["build", str(source), *wanted]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert plan["tensorrt"] == "8.6.2"
    assert not source.with_suffix(".engine").exists()


def test_an_onnx_of_somebody_else_is_refused_before_it_is_planned(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, source)
    assert run(["build", str(source), "--target", "jetson-agx-orin", "--dry-run"]) == 4
    assert "SE-A21" in capsys.readouterr().err


def test_building_for_another_device_is_refused_with_what_it_would_be(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), "--target", "jetson-orin-nano"]) == 7
    shown = capsys.readouterr().err
    assert "SE-V50" in shown
    assert "int8, strong typing" in shown


def test_the_prepared_graph_is_written_for_trtexec(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.with_name("trt.onnx")
    assert run(["build", str(source), "--target", "jetson-agx-orin", "--prepared", str(out)]) == 0
    facts = facts_of(read_onnx(out))
    assert facts.branch_quantizers == 0
    assert "cast_first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--target", "jetson-nano"], 7),
        (["--target", "auto", "--precision", "int4"], 2),
        (["--target", "jetson-nano", "--tensorrt", "jetpack-6.2"], 2),
        (["--target", "jetson-agx-orin", "--tensorrt", "newest", "--dry-run"], 2),
        (["--target", "auto", "-o", "model.onnx"], 2),
    ],
)
def test_a_wrong_wish_is_one_clear_error(
    driver: Driver, source: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(source), *options]) == code
    assert "Traceback" not in capsys.readouterr().err
