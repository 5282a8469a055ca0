"""The script for a day with a GPU: its steps fit together, resume, and are judged by what they found."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.host import gpu_day as DAY
from benchmarks.host import gpu_day_prepare as PREPARE
from benchmarks.host import gpu_day_run as RUN
from benchmarks.host import gpu_day_steps as PLAN
from benchmarks.host import gpu_day_summary as SUMMARY
from samkr_edge.cli import run

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "host" / "gpu_day.py"
# Appends its last word to WORK/ran, and does what the word before says.
FAKE = """#!/bin/sh
for word in "$@"; do last=$word; done
echo $last >> {work}/ran
case "$1" in
  make) echo content > {work}/$2 ;;
  json) echo '{{"ms": 3}}' > {work}/$2; echo told ;;
  print) echo 'progress'; echo '{{"layers": []}}' ;;
  fail) echo 'out of luck' >&2; [ -e {work}/mended ] || exit 3 ;;
  sleep) sleep 60 ;;
esac
"""


@pytest.fixture
def day(tmp_path: Path) -> Callable[..., Any]:
    """A day whose Pythons are a small program; ``day()`` again is another call on the same machine."""
    work = tmp_path / "work"
    work.mkdir()
    program = tmp_path / "python"
    program.write_text(FAKE.format(work=work))
    program.chmod(0o755)

    def begin(**pythons: str | None) -> Any:
        there = {"torch": str(program), "tensorrt": str(program), **pythons}
        begun = RUN.Day(tmp_path / "bundle", work, tmp_path / "out", there)
        if (work / RUN.FILE).is_file():
            begun.records |= json.loads((work / RUN.FILE).read_text())["steps"]
        return begun

    return begin


def step(name: str, *command: str, needs: str = "torch", minutes: float = 0.1, **more: Any) -> Any:
    return PLAN.GpuDayStep(name, needs, (*command, name), minutes, **more)


MAKE = step("export", "make", "model.onnx", makes=("model.onnx",))
BUILD = step("build", "make", "model.engine", needs="tensorrt", after=("export",), makes=("model.engine",))
TIME = step("times", "json", "times.json", needs="tensorrt", after=("build",), result="times.json")
LAYERS = step("layers", "print", needs="tensorrt", after=("build",))
ROAD = [MAKE, BUILD, TIME, LAYERS]


def ran(day: Any) -> list[str]:
    """Steps that were started since the last time this was asked."""
    file = day.work / "ran"
    names = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return names


def test_every_step_is_run_once_and_its_figures_are_kept_in_both_folders(day: Any, tmp_path: Path) -> None:
    first = day()
    assert RUN.run(first, ROAD, 5) == 0
    assert ran(first) == ["export", "build", "times", "layers"]
    assert RUN.run(day(), ROAD, 5) == 0
    assert ran(first) == []
    kept = json.loads((tmp_path / "out" / RUN.FILE).read_text())["steps"]
    assert kept == first.records
    assert kept["times"]["result"] == {"ms": 3}
    assert kept["layers"]["result"] == {"layers": []}


def test_what_does_not_fit_or_has_no_python_is_left_to_a_later_call(
    day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    without = day(tensorrt=None)
    long = step("long", "print", minutes=9)
    assert RUN.run(without, [*ROAD, long], 5) == 4
    assert ran(without) == ["export"]
    told = capsys.readouterr().out
    assert "later   build: there is no tensorrt here" in told
    assert "later   times: build is missing" in told
    assert "it takes about 9 minutes" in told
    assert RUN.run(day(), [*ROAD, long], 10) == 0
    assert ran(without) == ["build", "times", "layers", "long"]


def test_another_machine_makes_again_only_what_open_steps_read(day: Any) -> None:
    first = day()
    assert RUN.run(first, ROAD[:3], 5) == 0
    (first.work / "model.onnx").unlink()
    (first.work / "model.engine").unlink()
    ran(first)
    assert RUN.run(day(), ROAD[:3], 5) == 0
    assert ran(first) == [], "nothing is open, so nothing is needed"
    assert RUN.run(day(), ROAD, 5) == 0
    assert ran(first) == ["export", "build", "layers"]


def test_a_step_that_fails_is_told_tried_once_more_after_the_others_and_given_up(
    day: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = step("bad", "fail")
    waits = step("waits", "print", after=("bad",))
    first = day()
    assert RUN.run(first, [bad, MAKE, waits], 5) == 2
    assert "failed  bad (0 s): out of luck" in capsys.readouterr().out
    assert first.records["bad"]["exit_code"] == 3
    ran(first)
    fresh = step("fresh", "print")
    assert RUN.run(day(), [bad, MAKE, waits, fresh], 5) == 0, (
        "it has failed twice, and what waits for it cannot be had"
    )
    assert ran(first) == ["fresh", "bad"]
    assert RUN.run(day(), [bad, MAKE, waits, fresh], 5) == 0
    assert ran(first) == []


def test_a_step_that_is_mended_in_between_is_done(day: Any) -> None:
    bad = step("bad", "fail")
    waits = step("waits", "print", after=("bad",))
    first = day()
    RUN.run(first, [bad, waits], 5)
    (first.work / "mended").touch()
    assert RUN.run(day(), [bad, waits], 5) == 1, "what waits was looked at before"
    assert RUN.run(day(), [bad, waits], 5) == 0


def test_a_step_that_hangs_is_ended_with_its_children(day: Any) -> None:
    hanging = step("hangs", "sleep", minutes=0.003)
    first = day()
    assert RUN.run(first, [hanging, MAKE], 5) == 1
    assert first.records["hangs"]["exit_code"] == 124
    assert first.records["hangs"]["seconds"] < 30
    assert first.records["export"]["state"] == "done"


def test_a_step_that_does_not_leave_what_it_should_has_failed(day: Any) -> None:
    first = day()
    RUN.run(
        first, [step("empty", "print", makes=("model.onnx",)), step("mute", "print", result="none.json")], 5
    )
    assert {record["state"] for record in first.records.values()} == {"failed"}


def test_only_steps_of_one_kind_still_make_what_they_read(day: Any) -> None:
    first = day()
    RUN.run(first, [*ROAD, step("other", "print")], 5, "tensorrt")
    assert ran(first) == ["export", "build", "times", "layers"]


def test_the_steps_fit_together() -> None:
    steps = PLAN.steps()
    names = [one.name for one in steps]
    assert len(set(names)) == len(names)
    made: set[str] = set()
    for one in steps:
        assert set(one.after) <= made, f"{one.name} stands before what it reads"
        made.add(one.name)
        folder = one.result is not None and one.result.startswith(f"{one.name}/")
        told = " ".join(one.command)
        for name in one.makes:
            assert name.removesuffix(".json") in told
        assert one.result is None or one.result in told or folder


def test_what_a_step_runs_exists_and_has_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every script and every command of the program, asked for its help once: a script in a process of its own.

    That the program starts as a process like these is in tests/contracts/test_hostile_folder.py.
    """
    monkeypatch.setenv("COLUMNS", "200")
    asked: dict[tuple[str, ...], set[str]] = {}
    for one in PLAN.steps():
        program, *words = one.command
        assert Path(program).is_file()
        names = 3 if words[1] == "data" else 2 if words[0] == "samkr_edge" or words[1] == "compare" else 1
        options = {word for word in words if word.startswith("-")}
        asked.setdefault((program, *words[:names]), set()).update(options)
    assert {head[-1] for head in asked} >= {
        "build",
        "bench",
        "inspect",
        "selftest",
        "quantize",
        "export",
        "synth",
    }
    for (program, name, *words), options in asked.items():
        if name == "samkr_edge":
            assert run([*words, "--help"]) == 0
            shown = capsys.readouterr().out
        else:
            done = subprocess.run(
                [sys.executable, program, name, *words, "--help"],
                capture_output=True,
                text=True,
                env={"COLUMNS": "200", "PATH": ""},
            )
            assert done.returncode == 0, (name, done.stderr)
            shown = done.stdout
        assert all(option in shown for option in options), (name, words, options)


def done(**result: Any) -> dict[str, Any]:
    return {"state": "done", "result": result}


def test_the_summary_says_what_is_reached_what_falls_short_and_what_was_not_measured() -> None:
    records = {
        "times-samkr_w32-fp32-8": done(gpu_ms=26.0, batch=8),
        "times-samkr_w32-fp16-8": done(gpu_ms=12.0, batch=8),
        "times-samkr_w32-int8-8": done(gpu_ms=10.0, batch=8),
        "layers-samkr_w32-int8-8": done(
            layers=[
                {"name": "/offset_head/transition/Conv", "module": "offset_head", "ms": 2.0},
                {"name": "/stem/Conv", "module": "stem", "ms": 7.0},
                {"name": "none", "module": "", "ms": None},
            ],
            unlisted_ms=1.0,
        ),
        "build-dekr_w32-int8-1": {"state": "failed", "result": None, "printed": "error SE-B70: no kernel"},
    }
    found = {goal.what.split(",")[0]: (goal.found, goal.verdict) for goal in SUMMARY.goals(records)}
    assert found == {
        "INT8 against FP16": (1.2, "falls short"),
        "INT8 against FP32": (2.6, "pass"),
        "offset head's share of the INT8 engine": (0.2, "pass"),
        "load and first inference": (None, "not measured"),
    }
    shown = SUMMARY.table(records)
    assert "1.250 ms an image, batch 8" in shown
    assert "failed: build-dekr_w32-int8-1: error SE-B70: no kernel" in shown


def test_a_record_that_failed_is_no_measurement() -> None:
    records = {
        f"times-samkr_w32-{precision}-8": {"state": "failed", "result": {"gpu_ms": 1.0}, "printed": ""}
        for precision in ("fp32", "fp16", "int8")
    }
    assert {goal.verdict for goal in SUMMARY.goals(records)} == {"not measured"}


def test_wheels_are_unpacked_for_the_python_that_they_are_for(tmp_path: Path) -> None:
    folder = tmp_path / "bundle" / "wheels-3.12"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one/__init__.py", "name = 'one'\n")
    site = PREPARE.install(tmp_path / "bundle", "3.12", tmp_path / "work")
    assert (site / "one" / "__init__.py").is_file()
    assert PREPARE.install(tmp_path / "bundle", "3.11", tmp_path / "work") is None
    assert PREPARE.install(tmp_path / "none", "3.12", tmp_path / "work") == site, "an earlier call brought it"
    assert RUN.works(sys.executable, "one", site)
    assert not RUN.works(sys.executable, "one", None)


def test_without_a_gpu_it_ends_with_seven_and_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "run", tmp_path, "--work", tmp_path / "work"],
        capture_output=True,
        text=True,
        env={"PATH": "", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "there is no GPU here" in done.stderr
    assert not (tmp_path / "work").exists()


def gpu_day(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, env={"PATH": ""})


@pytest.mark.parametrize("text", [None, "cut {", "[]", "{}"], ids=["none", "cut", "a-list", "empty"])
def test_records_that_are_none_are_told_in_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "records.json"
    if text is not None:
        file.write_text(text)
    done = gpu_day("summary", file)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"{file} holds no records")
    assert done.stderr.count("\n") == 1


def test_a_bundle_that_is_not_there_is_told_before_anything_is_made(tmp_path: Path) -> None:
    done = gpu_day("run", tmp_path / "bundle", "--work", tmp_path / "work", "--without-gpu")
    assert done.returncode == 2
    assert "gpu_day prepare creates it" in done.stderr
    assert not (tmp_path / "work").exists()


def test_a_network_with_a_map_that_is_not_a_number_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DAY, "errors_of", lambda onnx, reference: {"heatmap": 1e-5, "offset": float("nan")})
    assert DAY.compare_command(SimpleNamespace(onnx=None, reference=None)) == 6
