"""`targets --network`: bounds by hand, and what the command prints."""

import json
from pathlib import Path

import pytest

from benchmarks.selftest.carried import write_network
from samkr_edge.cli import run
from samkr_edge.roofline.bound import LayerWork
from samkr_edge.roofline.device_bounds import device_bounds
from samkr_edge.roofline.graph_work import GraphWork
from targets.profile import Target, load_target

TARGET = Target.model_validate(
    {
        "name": "board",
        "title": "Board",
        "family": "jetson",
        "source": "none",
        "compute_capability": "8.7",
        "sms": 8,
        "max_mhz": 1000,
        "bandwidth_gbs": 1,
        "l2_mb": 1,
        "int8_tops": 2,
        "fp16_tflops": 1,
        "cannot": [{"what": "dla", "why": "none", "instead": "GPU"}],
        "power_modes": [
            {"name": "10W", "sms": 4, "mhz": 500, "watts": 10},
            {"name": "40W", "sms": 8, "mhz": 1000, "watts": 40, "default": True},
            {"name": "MAXN", "sms": 8},
        ],
    }
)
# A second of INT8 at 2 TOPS, then 2 s of bytes at 1 GB/s beyond the cache.
WORK = GraphWork(
    (
        LayerWork("conv", "int8", 10**12, 100, 100, 2_000_000),
        LayerWork("sum", "int8", 1, 2**20 + 10**9, 10**9, 0),
    ),
    live=3_000_000,
)


def test_the_bounds_of_every_mode_by_frames_a_watt() -> None:
    rows, without = device_bounds({"int8": WORK}, [TARGET], images=6, samples=True)
    assert without == {}
    assert [(row.mode, row.seconds) for row in rows] == [
        ("10W", pytest.approx(4 + 2, rel=1e-3)),
        ("40W", pytest.approx(1 + 2, rel=1e-3)),
        ("MAXN", pytest.approx(1 + 2, rel=1e-3)),
    ]
    slow, default, unlimited = rows
    assert slow.frames_per_joule == pytest.approx(6 / 6 / 10, rel=1e-3)
    assert default.frames_per_joule == pytest.approx(6 / 3 / 40, rel=1e-3)
    assert default.default
    assert unlimited.frames_per_joule is None
    assert (slow.by, default.by) == ("compute", "bandwidth")
    assert slow.bandwidth_share == pytest.approx(2 / 6, rel=1e-3)
    assert slow.memory == 5_000_000


def test_a_precision_without_a_peak_is_named_not_guessed() -> None:
    rows, without = device_bounds({"int8": WORK}, [load_target("jetson-thor")], images=1, samples=False)
    assert rows == []
    assert without == {"jetson-thor-t5000": "INT8: no dense peak is known"}
    _, without = device_bounds({"int8": WORK}, [load_target("jetson-nano")], images=1, samples=False)
    assert "no INT8 instructions" in without["jetson-nano"]


def test_a_device_that_cannot_run_the_network_has_no_bound() -> None:
    rows, without = device_bounds({"fp16": WORK}, [load_target("jetson-tx2")], images=1, samples=True)
    assert rows == []
    assert "GridSample" in without["jetson-tx2"]


def test_the_command_prints_bounds_and_calls_them_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--network", "samkr_w32"]) == 0
    shown = capsys.readouterr().out
    assert "lower bounds" in shown
    assert "not measurements" in shown
    assert "jetson-thor-t5000, FP16, INT8: no dense peak is known" in shown
    assert run(["targets", "--network", "samkr_w32", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["bounds"]
    by_watt = [row["frames_per_second_a_watt_at_most"] or 0 for row in rows]
    assert by_watt == sorted(by_watt, reverse=True)
    (card,) = (row for row in rows if (row["target"], row["precision"]) == ("rtx-4090", "int8"))
    assert card["bound_ms"] == pytest.approx(1e3 / card["frames_per_second_at_most"])
    # 45.7 G multiply-accumulates, 96 % of them INT8 at 330 T a second, the rest FP16 at 165 T.
    assert card["bound_ms"] == pytest.approx(45.7 * (0.96 / 330.5 + 0.04 / 165.25), rel=0.02)


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs/bounds.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- bounds-table -->\n```\n")[2].partition("\n```\n")[0].splitlines()
    assert run(["targets", "jetson-orin-nano", "--network", "samkr_w32"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == printed[: len(shown)]
    assert len(shown) > 15


def test_more_images_and_pixels_take_longer(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for words in (["--size", "128x128"], ["--size", "256x128", "--batch", "2"]):
        assert run(["targets", "rtx-4090", "--network", "samkr_tiny", "--json", *words]) == 0
        shown = json.loads(capsys.readouterr().out)
        found.append({row["precision"]: row["bound_ms"] for row in shown["bounds"]})
    assert found[1] == {precision: pytest.approx(4 * ms) for precision, ms in found[0].items()}


def test_an_exported_file_is_counted_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    write_network(path, "samkr_tiny", quantized=True)
    shown = []
    for network in (str(path), "samkr_tiny"):
        assert run(["targets", "jetson-orin-nano", "--network", network, "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0]["input_size"] == [128, 128]
    file, kept = (
        {
            (row["power_mode"], row["precision"]): (row["bound_ms"], row["memory_mb_at_least"])
            for row in one["bounds"]
        }
        for one in shown
    )
    assert file == {row: pytest.approx(found) for row, found in kept.items()}


def test_mistakes_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, told in (
        (["--network", "samkr_w33"], "SE-U01", "samkr_w32"),
        (["--network", "samkr_w32", "--size", "100x100"], "SE-U03", "96x96"),
        (["--batch", "2"], "SE-U78", "--network"),
        (["--network", "nothing.onnx"], "SE-A23", "nothing.onnx"),
    ):
        assert run(["targets", *words]) != 0
        shown = capsys.readouterr().err
        assert code in shown
        assert told in shown
