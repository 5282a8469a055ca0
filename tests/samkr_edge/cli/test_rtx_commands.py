"""What a user does with an engine of TensorRT for RTX, over its stand-in: predict, eval, bench, inspect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from fake_driver import Driver
from fake_tensorrt import RTX_VERSIONS, FakeTensorRT
from red_dot import dots

from samkr_edge.builder.inspect.engine import layers_of_engine
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder


@pytest.fixture
def trt(install: Callable[[str], FakeTensorRT]) -> FakeTensorRT:
    return install(RTX_VERSIONS[-1])


@pytest.fixture
def engine(
    trt: FakeTensorRT, driver: Driver, red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """Built for every GeForce RTX, on a machine with another GPU."""
    out = tmp_path / "red.engine"
    driver.gpu, driver.capability = b"NVIDIA H100", (9, 0)
    assert run(["build", str(red_dot_model), "--target", "rtx-any", "-o", str(out), "--json"]) == 0
    capsys.readouterr()
    driver.gpu, driver.capability = b"NVIDIA GeForce RTX 4090", (8, 9)
    return out


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), dots((30, 40)))
    return path


def test_predict_finds_people_and_the_second_start_finishes_no_kernels(
    trt: FakeTensorRT, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(engine), str(photo(tmp_path / "photo.png")), "-o", str(tmp_path / "out")]
    for _ in range(2):
        assert run([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["people"] == 1
        assert len(trt.finished) == 2
    assert len(list(cache_folder().glob("*.kernels"))) == 1


def test_eval_scores_it(engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "data" / "val2017" / "1.png")
    height, width = dots((30, 40)).shape[:2]
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400.0, "num_keypoints": 17}
    person |= {"bbox": [20, 30, 20, 20], "keypoints": [30, 40, 2] * 17}
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": width, "height": height}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person"}],
    }
    listing = tmp_path / "data" / "annotations" / "person_keypoints_val2017.json"
    listing.parent.mkdir()
    listing.write_text(json.dumps(content))
    assert run(["eval", str(engine), "--data", str(tmp_path / "data"), "--json"]) == 0
    assert {"ap", "ap50"} <= json.loads(capsys.readouterr().out)["scores"].keys()


def test_bench_splits_a_frame_by_the_gpus_clock(
    trt: FakeTensorRT, driver: Driver, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trt.speed, driver.copy_ms = {"float": 4.5}, 0.25
    assert run(["bench", str(engine), "--rounds", "3", "--no-memory", "--cuda-graph", "--json"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    split = results["models"][0]["split_ms"]
    assert (split["copy_in"], split["network"], split["copy_out"]) == pytest.approx((0.25, 4.5, 0.5))
    assert driver.launches


def test_inspect_reads_the_builders_list_where_no_gpu_is(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    assert run(["inspect", str(engine)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "SM 7.5, 8.6, 8.9, 12.0" in shown
    assert "TensorRT for RTX 1.7" in shown
    assert run(["inspect", str(engine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passport"]["flavour"] == "rtx"


def change_list(engine: Path, change: str) -> None:
    beside = engine.with_name("red.engine.layers.json")
    if change == "missing":
        beside.unlink()
    elif change == "to another engine":
        beside.write_text(json.dumps({**json.loads(beside.read_text()), "engine_sha256": "0" * 64}))
    else:
        beside.write_text(change)


@pytest.mark.parametrize(
    ("change", "code"), [("missing", 7), ("to another engine", 7), ("{", 5), ('{"Layers": 5}', 5)]
)
def test_a_list_that_is_not_the_engines_is_written_by_the_build_anywhere(
    engine: Path,
    red_dot_model: Path,
    change: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    change_list(engine, change)
    assert run(["inspect", str(engine)]) == code
    shown = capsys.readouterr().err
    assert "trtexec" not in shown
    assert "only where" not in shown
    fix = f"samkr-edge build {red_dot_model.name} --target rtx-any -o {engine}"
    assert shown.splitlines()[-1] == f"fix: {fix}"
    monkeypatch.chdir(red_dot_model.parent)
    assert run(fix.split()[1:]) == 0
    assert run(["inspect", str(engine)]) == 0


def test_the_build_that_writes_the_list_again_keeps_the_precision(
    trt: FakeTensorRT, engine: Path, red_dot_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(
        ["build", str(red_dot_model), "--target", "rtx-any", "--precision", "fp32", "-o", str(engine)]
    ) == 0  # fmt: skip
    change_list(engine, "missing")
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    with pytest.raises(SamkrError) as raised:
        layers_of_engine(engine)
    assert raised.value.fix is not None
    assert "--precision fp32 -o" in raised.value.fix


def test_inspect_times_the_layers_on_the_card(
    trt: FakeTensorRT, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = json.loads(engine.with_name("red.engine.layers.json").read_text())["Layers"]
    trt.layers_json = json.dumps({"Layers": layers})
    trt.layer_times = {layer["Name"]: 0.5 for layer in layers}
    assert run(["inspect", str(engine), "--profile", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["ms_by_precision"]
    assert sum(measured.values()) == pytest.approx(0.5 * len(trt.layer_times))


@pytest.mark.parametrize("command", ["predict", "bench", "inspect --profile"])
def test_on_a_gpu_that_it_is_not_for_every_command_says_so(
    driver: Driver, engine: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.gpu, driver.capability = b"NVIDIA H100", (9, 0)
    name, *options = command.split()
    inputs = [str(photo(tmp_path / "photo.png")), "-o", str(tmp_path / "out")] if name == "predict" else []
    assert run([name, str(engine), *inputs, *options]) == 4
    shown = " ".join(capsys.readouterr().err.split())
    assert "SE-A88" in shown
    assert "SM 7.5, 8.6, 8.9, 12.0" in shown
    assert "NVIDIA H100, SM 9.0" in shown
