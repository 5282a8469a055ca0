"""What a user does with an engine on its device, over a fake TensorRT: bench, inspect, predict, eval."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from red_dot import dots

from samkr_edge.cli import run

LAYERS = Path(__file__).parents[2] / "data" / "engine_layers_trt10.json"


@pytest.fixture
def trt(install: Callable[[str], FakeTensorRT]) -> FakeTensorRT:
    return install("10.3.0")


@pytest.fixture
def engine(trt: FakeTensorRT, red_dot_model: Path, tmp_path: Path) -> Path:
    out = tmp_path / "red.engine"
    assert run(["build", str(red_dot_model), "--target", "auto", "-o", str(out), "--json"]) == 0
    return out


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The last line: what the building of the engine printed comes first."""
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.mark.parametrize("refuse", [False, True])
def test_bench_splits_a_frame_by_the_gpus_clock(
    trt: FakeTensorRT, driver: Driver, engine: Path, refuse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trt.speed, driver.copy_ms, driver.refuse_capture = {"float": 4.5}, 0.25, refuse
    command = ["bench", str(engine), "--rounds", "3", "--no-memory", "--cuda-graph"]
    assert run([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    (model,) = results["models"]
    split = model["split_ms"]
    assert (split["copy_in"], split["network"], split["copy_out"]) == pytest.approx((0.25, 4.5, 0.5))
    assert results["settings"]["cuda_graph"]
    assert bool(driver.launches) is not refuse
    assert any("runs without a CUDA graph" in note for note in results["notes"]) is refuse
    assert run(command) == 0
    assert "0.25+4.50+0.50" in capsys.readouterr().out


def test_predict_says_when_there_is_no_graph(
    driver: Driver, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), dots((30, 40)))
    command = [
        "predict",
        str(engine),
        str(tmp_path / "photo.png"),
        "-o",
        str(tmp_path / "out"),
        "--cuda-graph",
    ]
    assert run(command) == 0
    assert driver.launches == 1
    assert "CUDA graph" not in capsys.readouterr().err
    driver.refuse_capture = True
    assert run([*command, "--json"]) == 0
    shown = capsys.readouterr()
    assert "runs without a CUDA graph" in shown.err
    assert json.loads(shown.out)["people"] == 1


def half_a_millisecond_each(trt: FakeTensorRT) -> list[str]:
    """Names of the engine's layers, of which each will take so long."""
    trt.layers_json = LAYERS.read_text()
    names = [layer["Name"] for layer in json.loads(trt.layers_json)["Layers"]]
    trt.layer_times = dict.fromkeys(names, 0.5)
    return names


def test_inspect_times_the_layers_and_keeps_the_profile_for_this_engine_only(
    trt: FakeTensorRT, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = half_a_millisecond_each(trt)
    assert run(["inspect", str(engine), "--profile", "--json"]) == 0
    measured = printed(capsys)["ms_by_precision"]
    assert isinstance(measured, dict)
    assert sum(measured.values()) == pytest.approx(0.5 * len(names))
    assert measured["int8"] == pytest.approx(0.5 * 7)
    assert measured["conversions"] == pytest.approx(0.5 * 8)
    assert run(["inspect", str(engine)]) == 0
    assert "% int8" in capsys.readouterr().out
    beside = engine.with_name("red.engine.profile.json")
    records = json.loads(beside.read_text())
    records[0]["engine_sha256"] = "0" * 64
    beside.write_text(json.dumps(records))
    assert run(["inspect", str(engine)]) == 0
    assert "belongs to another engine" in " ".join(capsys.readouterr().out.split())


def test_an_engines_layers_stand_beside_the_bounds_of_the_device_that_it_runs_on(
    trt: FakeTensorRT, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = half_a_millisecond_each(trt)
    assert run(["inspect", str(engine), "--profile", "--json"]) == 0
    bound = printed(capsys)["bound"]
    assert isinstance(bound, dict)
    assert 0 < bound["bound_ms"] < 0.5 * len(names)
    assert sum(layer["ms"] for layer in bound["layers"]) == pytest.approx(0.5 * len(names))
    assert all(layer["bound_ms"] < layer["ms"] for layer in bound["layers"])
    assert run(["inspect", str(engine), "--profile"]) == 0
    assert "of its bound" in capsys.readouterr().out
    assert run(["bench", str(engine), "--rounds", "3", "--no-memory", "--bound", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    assert model["bound"]["ms"] == pytest.approx(bound["bound_ms"])
    assert model["bound"]["peaks"] == bound["peaks"]


def test_the_readmes_road_from_a_bundle_to_numbers(
    trt: FakeTensorRT,
    int8_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trt.speed = {"float": 3.0, "int8": 2.0}
    monkeypatch.chdir(tmp_path)
    for command in (
        f"bundle {int8_onnx} -o pose.samkr",
        "targets auto",
        "build pose.samkr --target auto --precision best -o pose.engine",
        "bench pose.engine --rounds 3 --no-memory --power --out results",
        "report results -o report.html",
    ):
        assert run(command.split()) == 0, command
    shown = " ".join(capsys.readouterr().out.split())
    assert "NVIDIA GeForce RTX 4090" in shown
    assert "int8 is 1.50 times as fast as fp16" in shown
    assert "INT8 PTQ" in shown
    assert Path("report.html").stat().st_size > 1000
