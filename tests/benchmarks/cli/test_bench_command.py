"""`bench` and `report` on real ONNX Runtime models whose accuracy is known."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.measure.offline import Batched, batches
from benchmarks.measure.peak_memory import measure_memory
from benchmarks.measure.sensors import MachineState, Sensors
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14
from samkr_edge.pose_model import load_model

Pair = tuple[Path, Path]
ModelMaker = Callable[..., Path]


def bench(*arguments: object) -> int:
    return run(["bench", "--no-memory", *map(str, arguments)])


def test_bench_measures_both_models_and_the_report_shows_them(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        bench(*pair, "--data", dots, "--rounds", 30, "--out", out, "--samples", 2, "--report", "--json") == 0
    )
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "results.json").read_text())
    assert printed["models"] == results["models"]
    fp32, int8 = results["models"]
    assert (fp32["name"], int8["name"]) == ("samkr_tiny FP32", "samkr_tiny INT8 PTQ")
    assert fp32["accuracy"]["ap"] == pytest.approx(100, abs=0.1)
    assert int8["accuracy"]["ap"] < 99
    difference = int8["difference"]
    assert difference["low"] <= difference["value"] <= difference["high"] < 0
    assert fp32["difference"] is None
    assert fp32["latency"]["frames"] == int8["latency"]["frames"] == 30
    for model in (fp32, int8):
        latency = model["latency"]
        assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
        assert all(part >= 0 for part in model["split_ms"].values())
    assert results["dataset"]["images"] == 24
    assert results["dataset"]["people"] == 36
    assert str(tmp_path) not in results["command"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    again = tmp_path / "again.html"
    assert run(["report", str(out), "-o", str(again), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == again.stat().st_size


def test_the_table_shows_accuracy_difference_speed_and_size(
    pair: Pair, dots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*pair, "--data", dots, "--rounds", 10, "--limit", 8) == 0
    shown = capsys.readouterr().out
    for text in (
        "samkr_tiny FP32",
        "samkr_tiny INT8 PTQ",
        "difference",
        "baseline",
        "p50",
        "p99",
        "speed-up",
        "MB",
    ):
        assert text in shown
    assert "Only 8 images were scored" in shown.replace("\n", " ")


def test_peak_memory_is_that_of_a_process_of_its_own(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(pair[0], "--rounds", 10, "--memory", "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    memory = model["memory_mb"]
    assert 20 < memory["before_opening"] < memory["peak"] < 2000
    assert model["int8_share"] == 0.0


def test_a_model_that_does_not_run_is_refused_as_everywhere(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"not a model")
    errors = []
    for use in (load_model, lambda path: measure_memory(path, 1)):
        with pytest.raises(SamkrError) as caught:
            use(tmp_path / "cut.onnx")
        errors.append(caught.value.to_dict())
    assert errors[0]["code"] == "SE-B87"
    assert errors[1] == errors[0]  # the way out too: to leave its memory out is none


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("import sys; sys.exit('too large')", "exit code 1: too large"),
        ("print(3)", "exit code 0: nothing was printed"),
        ("print('{')", "exit code 0: nothing was printed"),
    ],
)
def test_a_process_that_ends_without_an_answer_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    monkeypatch.setattr("samkr_edge.child_process.module", lambda *_: [sys.executable, "-c", does])
    with pytest.raises(SamkrError) as caught:
        measure_memory(Path("any.onnx"), 1)
    assert (caught.value.code, caught.value.facts) == ("SE-A65", {"reason": reason})


def test_offline_mode_counts_images_and_not_batches(
    pair: Pair, dots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data", dots, "--limit", 8, "--rounds", 20, "--json")
    assert bench(*pair, *common, "--mode", "offline", "--batch", 4) == 0
    results = json.loads(capsys.readouterr().out)
    assert (results["settings"]["mode"], results["settings"]["batch"]) == ("offline", 4)
    for model in results["models"]:
        latency, split = model["latency"], model["split_ms"]
        assert latency["throughput_fps"] == pytest.approx(1000 / latency["mean_ms"])
        assert 0 < split["network"] < sum(split.values()) < latency["max_ms"]


def test_a_batch_gives_the_poses_of_its_images(pair: Pair, dots: Path) -> None:
    model = load_model(pair[0])
    images = [read_image(path) for path in sorted((dots / "images" / "val2017").iterdir())[:3]]
    poses, stages = Batched(model, 3).timed(images)
    for found, image in zip(poses, images, strict=True):
        assert len(found) > 0
        np.testing.assert_array_equal(found.keypoints, model(image, None).keypoints)
    assert min(stages.preprocess, stages.network, stages.decode) > 0
    assert [len(batch) for batch in batches(images, 2)] == [2, 2]


def test_unstable_is_no_failure_unless_it_is_asked_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clocks = iter([2600.0] + [1300.0] * 1000)
    device = Sensors(
        "cpu", lambda: MachineState(next(clocks), 50.0), lambda: "governor powersave", "cool it down"
    )
    monkeypatch.setattr("benchmarks.bench.find_sensors", lambda **_: device)
    assert bench(pair[0], "--rounds", 10, "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert not results["stable"]
    assert results["machine"]["power_mode_before"] == "governor powersave"
    clocks = iter([2600.0] + [1300.0] * 1000)
    assert bench(pair[0], "--rounds", 10, "--require-stable") == 7
    message = capsys.readouterr().err
    assert "SE-V65" in message
    assert "CPU clock moved by -50.0%" in message
    assert "fix: cool it down" in message


def test_a_row_that_fell_behind_earlier_results_fails_the_gate_and_is_named(
    pair: Pair, dots: Path, dot_model: ModelMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "released"
    common = ("--data", dots, "--limit", 8, "--rounds", 10)
    int8 = ModelCard("samkr_tiny", COCO17, (128, 128), precision="int8", stage="ptq")
    dot_model(pair[1], error=0.0, card=int8)
    assert bench(*pair, *common, "--out", old, "--samples", 0) == 0
    dot_model(pair[1], error=3.0, card=int8)
    assert bench(*pair, *common, "--baseline", old / "results.json") == 6
    message = capsys.readouterr().err
    assert "SE-Q65" in message
    assert "samkr_tiny INT8 PTQ" in message
    assert "samkr_tiny FP32:" not in message


def test_a_gate_that_could_not_compare_fails_and_says_so_in_its_one_object(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "released"
    common = ("--data", dots, "--rounds", 10)
    assert bench(*pair, *common, "--limit", 8, "--out", old, "--samples", 0) == 0
    against = (*common, "--baseline", old / "results.json", "--json")
    capsys.readouterr()
    assert bench(pair[0], *against, "--limit", 6) == 6
    printed = json.loads(capsys.readouterr().out)
    assert printed["gate"]["code"] == "SE-Q67"
    assert {one["what"] for one in printed["uncompared"]} == {"rows", "accuracy", "speed"}
    allowed = ("--may-differ", "rows", "--may-differ", "speed")
    assert bench(pair[0], *against, "--limit", 8, *allowed) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["gate"] is None
    assert "not compared: rows       samkr_tiny INT8 PTQ (ptq.onnx) is missing now" in captured.err
    assert bench(pair[0], *against, "--may-differ", "sped") == 2
    assert "'rows', 'accuracy', 'speed'" in capsys.readouterr().err


def test_a_run_does_not_replace_the_results_that_it_is_compared_with(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "released"
    assert bench(*pair, "--rounds", 10, "--out", old) == 0
    assert bench(*pair, "--rounds", 10, "--out", old, "--baseline", old / "results.json") == 2
    assert "SE-U74" in capsys.readouterr().err


def test_one_model_alone_has_no_drop(pair: Pair, dots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(pair[0], "--data", dots, "--max-drop", 1) == 2
    assert "SE-U61" in capsys.readouterr().err


def test_without_data_only_latency_is_measured(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*pair, "--rounds", 10, "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results["dataset"] is None
    assert results["models"][0]["accuracy"] is None
    assert results["settings"]["random_image"] is True
    assert results["recommended"] is None


def test_another_baseline_can_be_named(pair: Pair, dots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fp32, int8 = pair
    assert bench(fp32, int8, "--baseline", int8, "--data", dots, "--rounds", 10, "--limit", 8, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert second["is_baseline"]
    assert first["difference"]["value"] > 0


def test_the_gate_fails_with_exit_code_6_after_writing_the_results(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert bench(*pair, "--data", dots, "--rounds", 10, "--limit", 8, "--out", out, "--max-drop", 0.1) == 6
    message = capsys.readouterr().err
    assert "SE-Q60" in message
    assert "samkr_tiny INT8 PTQ" in message
    assert (out / "results.json").is_file()
    assert bench(*pair, "--rounds", 10, "--max-latency", 0.0001) == 6
    assert "SE-Q61" in capsys.readouterr().err


def test_a_failed_gate_with_json_prints_one_object(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*pair, "--rounds", 10, "--max-latency", 0.0001, "--json") == 6
    printed = json.loads(capsys.readouterr().out)
    assert printed["gate"]["code"] == "SE-Q61"
    assert len(printed["models"]) == 2


def test_accuracy_of_unchanged_models_is_reused_and_of_a_changed_one_is_not(
    pair: Pair, dots: Path, dot_model: ModelMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    common = ("--data", dots, "--rounds", 10, "--out", out, "--samples", 0, "--json")

    def reused(*more: object) -> list[bool]:
        assert bench(*pair, *common, *more) == 0
        return [model["accuracy_reused"] for model in json.loads(capsys.readouterr().out)["models"]]

    assert reused() == [False, False]
    first = json.loads((out / "results.json").read_text())["models"]
    assert reused() == [True, True]
    second = json.loads((out / "results.json").read_text())["models"]
    assert [m["accuracy"] for m in first] == [m["accuracy"] for m in second]
    assert [m["difference"] for m in first] == [m["difference"] for m in second]
    assert reused("--no-reuse") == [False, False]
    int8 = ModelCard("samkr_tiny", COCO17, (128, 128), precision="int8", stage="ptq")
    dot_model(pair[1], error=1.0, card=int8)
    assert reused() == [True, False]
    assert reused("--limit", 8) == [False, False]


def test_accuracy_on_pictures_changed_in_place_is_measured_anew(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(dots, data)
    common = ("--data", data, "--rounds", 10, "--out", out, "--samples", 0, "--json")

    def scores() -> list[tuple[bool, float]]:
        assert bench(pair[0], *common) == 0
        rows = json.loads(capsys.readouterr().out)["models"]
        return [(row["accuracy_reused"], round(row["accuracy"]["ap"])) for row in rows]

    assert scores() == [(False, 100)]
    black = cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes()
    for picture in (data / "images" / "val2017").iterdir():
        picture.write_bytes(black.ljust(picture.stat().st_size, b"\0"))  # as large as it was
    assert scores() == [(False, 0)]


def test_accuracy_of_another_runtime_is_not_reused(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    common = ("--data", dots, "--limit", 4, "--rounds", 10, "--out", out, "--samples", 0, "--json")
    assert bench(pair[0], *common) == 0
    earlier = json.loads((out / "results.json").read_text())
    earlier["environment"]["packages"]["onnxruntime"] = "1.0"
    (out / "results.json").write_text(json.dumps(earlier))
    capsys.readouterr()
    assert bench(pair[0], *common) == 0
    assert not json.loads(capsys.readouterr().out)["models"][0]["accuracy_reused"]


def test_models_that_would_be_called_alike_are_told_apart(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin.onnx"
    shutil.copy(pair[0], twin)
    assert bench(pair[0], twin, "--rounds", 10, "--json") == 0
    names = [model["name"] for model in json.loads(capsys.readouterr().out)["models"]]
    assert names == ["samkr_tiny FP32, fp32.onnx", "samkr_tiny FP32, twin.onnx"]


def test_a_model_for_other_keypoints_is_refused_before_anything_is_measured(
    dots: Path, dot_model: ModelMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dot_model(tmp_path / "crowd.onnx", card=ModelCard("samkr_tiny", CROWDPOSE14, (128, 128)))
    assert bench(other, "--data", dots, "--rounds", 10) == 3
    message = capsys.readouterr().err
    assert "SE-D26" in message
    assert "14 keypoints" in message
    assert "17 keypoints" in message


def test_a_split_with_nobody_in_it_is_refused(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(dots, empty)
    truth = empty / "annotations" / "person_keypoints_val2017.json"
    truth.write_text(json.dumps({**json.loads(truth.read_text()), "annotations": []}))
    assert bench(pair[0], "--data", empty, "--rounds", 10) == 3
    assert "SE-D27" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--rounds", "5", "--seconds", "1"], "SE-U60"),
        (["--max-drop", "1"], "SE-U61"),
        (["--may-differ", "speed"], "SE-U73"),
        (["--report"], "SE-U63"),
        (["--mode", "online"], "SE-U00"),
        (["--batch", "4"], "SE-U66"),
    ],
)
def test_options_that_contradict_each_other(
    pair: Pair, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*pair, *arguments) == 2
    assert code in capsys.readouterr().err


def test_the_same_model_twice_and_a_missing_one_are_errors(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(pair[0], pair[0]) == 2
    assert "SE-U62" in capsys.readouterr().err
    assert bench(pair[0], tmp_path / "no.onnx") == 4
    assert "no.onnx" in capsys.readouterr().err


def test_a_baseline_is_known_under_another_path(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "released.onnx"
    link.symlink_to(pair[1])
    assert bench(*pair, "--baseline", link, "--rounds", 10, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [(row["file"], row["is_baseline"]) for row in rows] == [("fp32.onnx", False), ("ptq.onnx", True)]


def test_a_model_replaced_while_it_is_measured_leaves_no_results(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = Path(shutil.copy(pair[0], tmp_path / "model.onnx")), tmp_path / "out"

    def replaced(*_: object) -> dict[str, object]:
        shutil.copy(pair[1], model)
        return {}

    monkeypatch.setattr("benchmarks.bench._memory", replaced)
    assert bench(model, "--rounds", 10, "--out", out) == 4
    assert "SE-A29" in capsys.readouterr().err
    assert not (out / "results.json").exists()


def test_a_page_that_fails_leaves_one_object(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise SamkrError("SE-D01", "the disk is full")

    out = ("--rounds", 10, "--out", tmp_path / "out", "--report", "--json")
    monkeypatch.setattr("benchmarks.report.page.write_report", failing)
    assert bench(*pair, *out, "--max-latency", 0.0001) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "SE-D01"
    assert (tmp_path / "out" / "results.json").is_file()


def test_a_page_that_cannot_be_made_is_refused_before_anything_is_measured(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert bench(*pair, "--out", tmp_path / "out", "--report") == 2
    assert "SE-U70" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_of_an_earlier_run_do_not_stay(
    pair: Pair, dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert bench(*pair, "--data", dots, "--rounds", 10, "--limit", 4, "--out", out, "--samples", 2) == 0
    assert (out / "samples" / "01.jpg").is_file()
    assert bench(*pair, "--rounds", 10, "--out", out) == 0
    assert not (out / "samples").exists()


def test_a_network_is_compared_with_its_lower_bound_if_that_is_asked_for(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from samkr_edge.roofline import cpu_peaks

    monkeypatch.setattr(cpu_peaks, "_EACH", 0.01)
    monkeypatch.setattr(cpu_peaks, "_COPIED", (2**18, 2**20, 2**22))
    cpu_peaks.cpu_peaks.cache_clear()
    assert bench(*pair, "--rounds", 3, "--bound", "--out", tmp_path, "--report") == 0
    shown = capsys.readouterr().out
    assert "of bound" in shown
    assert "samkr_tiny FP32: the network at" in shown
    for model in json.loads((tmp_path / "results.json").read_text())["models"]:
        bound = model["bound"]
        assert bound["share"] > 0
        assert bound["ms"] == pytest.approx(bound["share"] * model["split_ms"]["network"])
        assert {layer["module"] for layer in bound["layers"]} <= {"heatmap", "offset", *_KINDS}
    assert "How far from what is possible here" in (tmp_path / "report.html").read_text()
    assert bench(pair[0], "--rounds", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["bound"] is None


# Operations of the pair's networks, by ONNX Runtime's names.
_KINDS = ("AveragePool", "Cast", "Conv", "FusedConv", "ReorderInput", "ReorderOutput", "Transpose")
