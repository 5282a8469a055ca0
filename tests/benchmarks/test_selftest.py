"""A run of the self-test: its order, its end, its JSON, its table and its sentence."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.selftest.earlier import still_holding
from benchmarks.selftest.machine import MachineUnderTest
from benchmarks.selftest.outcome import StageOutcome
from benchmarks.selftest.report import SCHEMA_VERSION, passed, summary, verdict
from benchmarks.selftest.selftest import Selftest
from benchmarks.selftest.stage import Check, Stage
from benchmarks.selftest.stages import STAGES, chosen_stages
from benchmarks.selftest.supervise import StoppedByUser
from samkr_edge.cli import run as command_line
from samkr_edge.errors import SamkrError
from samkr_edge.packages import resolve
from targets.device import Device

ORIN = Device(
    machine="aarch64",
    model="NVIDIA Jetson Orin Nano Developer Kit",
    compatible=("nvidia,p3768-0000+p3767-0005",),
)


@pytest.fixture(autouse=True)
def stages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def stages(*names: str) -> list[Stage]:
    return [
        Stage(number, f"the {name} one", f"selftest_stages:{name}", (), 1)
        for number, name in enumerate(names)
    ]


def run_all(
    folder: Path, chosen: Sequence[Stage], machine: MachineUnderTest | None = None, **more: object
) -> Selftest:
    run = Selftest(folder, folder / "shared", chosen, machine or MachineUnderTest(Device()), **more)  # type: ignore[arg-type]
    for stage in chosen:
        run.run(stage, lambda check: None)
    return run


def states(run: Selftest) -> list[str]:
    return [outcome.state for outcome in run.outcomes]


def shown(run: Selftest, width: int = 110) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary(run.outcomes, run.facts))
    return console.export_text()


def test_the_first_stage_that_fails_ends_it(tmp_path: Path) -> None:
    run = run_all(tmp_path, stages("good", "segfaults", "good", "good"))
    assert states(run) == ["passed", "failed", "not run", "not run"]
    assert run.outcomes[3].why == "stage 1 failed"
    sentence = verdict(run.outcomes)
    assert sentence == (
        'Stage 1, the segfaults one, failed: process: died of SIGSEGV after "builder"; stages 2 and 3 were not run.'
    )


def test_unless_it_is_asked_to_go_on(tmp_path: Path) -> None:
    run = run_all(tmp_path, stages("wrong", "good", "wrong"), keep_going=True)
    assert states(run) == ["failed", "passed", "failed"]
    assert verdict(run.outcomes) == "Stage 0, the wrong one, failed, and 2 too: error: 0.3."


def test_a_stage_is_not_run_where_what_it_needs_is_not_there(tmp_path: Path) -> None:
    machine = MachineUnderTest(Device(), {"jetson": "this is not a Jetson"})
    lone = Stage(11, "Jetson", "selftest_stages:good", ("gpu", "jetson"), 1)
    run = run_all(tmp_path, [*stages("good", "good"), lone], machine)
    assert states(run) == ["passed", "passed", "not run"]
    assert run.outcomes[2].why == "this is not a Jetson"
    assert verdict(run.outcomes) == "Stages 0 and 1 passed; stage 11 was not run."


def test_a_stage_that_does_not_fit_the_minutes_is_not_run_and_a_shorter_one_is(tmp_path: Path) -> None:
    first, second = stages("good", "good")
    long = Stage(4, "networks", "selftest_stages:good", (), 15)
    run = run_all(tmp_path, [first, long, Stage(5, second.title, second.checks, (), 0.1)], minutes=3)
    assert states(run) == ["passed", "not run", "passed"]
    assert "it takes about 15 minutes" in run.outcomes[1].why


def test_the_json_has_every_figure_and_the_machine(tmp_path: Path) -> None:
    machine = MachineUnderTest(ORIN, versions={"TensorRT": "10.3.0"})
    run = run_all(tmp_path, stages("good", "wrong"), machine)
    found = json.loads((tmp_path / "selftest.json").read_text(), parse_constant=pytest.fail)
    assert found["schema_version"] == 1
    assert found["environment"]["python"]
    assert found["title"] == "Jetson Orin Nano 8 GB"
    assert found["versions"] == {"TensorRT": "10.3.0"}
    assert found["passed"] is False
    assert found["verdict"] == verdict(run.outcomes)
    assert found["stages"][0]["checks"][0]["figures"] == {"bytes": 4, "largest_error": 0.25}
    assert found["stages"][1]["state"] == "failed"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["selftest.json"]


def test_the_json_is_whole_after_every_check(tmp_path: Path) -> None:
    read: list[list[tuple[str, int]]] = []

    def note(check: Check) -> None:
        found = json.loads((tmp_path / "selftest.json").read_text())
        read.append([(stage["state"], len(stage["checks"])) for stage in found["stages"]])

    chosen = stages("good", "good")
    run = Selftest(tmp_path, tmp_path / "shared", chosen, MachineUnderTest(Device()))
    run.run(chosen[0], note)
    assert read == [[("unfinished", n), ("not run", 0)] for n in (1, 2, 3)]


def test_a_run_of_some_stages_sets_the_file_of_an_earlier_one_aside(tmp_path: Path) -> None:
    chosen = stages("good", "good")
    first = run_all(tmp_path, chosen)
    whole = first.file.read_text()
    run_all(tmp_path, chosen[1:])
    (kept,) = tmp_path.glob("selftest-*.json")
    assert kept.read_text() == whole
    assert [one["number"] for one in json.loads(first.file.read_text())["stages"]] == [1]


def test_ctrl_c_in_a_stage_keeps_what_was_measured(tmp_path: Path) -> None:
    def interrupt(check: Check) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    chosen = stages("good", "hangs", "good")
    run = Selftest(tmp_path, tmp_path / "shared", chosen, MachineUnderTest(Device()))
    run.run(chosen[0], lambda check: None)
    with pytest.raises(StoppedByUser):
        run.run(chosen[1], interrupt)
    found = json.loads((tmp_path / "selftest.json").read_text())
    assert [stage["state"] for stage in found["stages"]] == ["passed", "unfinished", "not run"]
    assert found["stages"][1]["checks"][0]["what"] == "first"
    assert found["verdict"] == "Stage 0 passed; stages 1 and 2 were not finished."


def test_the_table_has_a_row_for_every_check_and_every_stage_not_run(tmp_path: Path) -> None:
    run = run_all(tmp_path, stages("good", "segfaults", "good"))
    text = shown(run)
    rows = [line.rstrip() for line in text.splitlines()]
    assert rows[0].split() == ["stage", "measured", "limit", "verdict"]
    assert any(row.startswith(" 0 the good one") and row.endswith("passed") for row in rows)
    assert any("pycuda is not installed" in row and row.endswith("not run") for row in rows)
    assert any("died of SIGSEGV" in row and row.endswith("failed") for row in rows)
    assert any("stage 1 failed" in row and row.endswith("not run") for row in rows)
    assert "  last words" in rows
    assert rows[-1] == verdict(run.outcomes)[-len(rows[-1]) :]


def test_a_narrow_table_keeps_the_verdict(tmp_path: Path) -> None:
    assert "failed" in shown(run_all(tmp_path, stages("wrong")), width=60)


def outcome(number: int, state: str = "passed", why: str = "") -> StageOutcome:
    return StageOutcome(number, STAGES[number].title, state, (), why)  # type: ignore[arg-type]


def test_the_sentence_speaks_of_engines_only_where_networks_were_compared() -> None:
    known = {"TensorRT": "10.3.0", "torch": "2.8.0"}
    assert verdict([outcome(number) for number in range(13)], "Jetson Orin Nano", known) == (
        "All 13 stages passed: engines built by TensorRT 10.3.0 on Jetson Orin Nano compute what their ONNX does."
    )
    some = [outcome(0), outcome(1), outcome(2), outcome(3), outcome(4, "not run", "no time")]
    assert verdict(some, "RTX 4090", known) == "Stages 0 to 3 passed on RTX 4090; stage 4 was not run."
    assert verdict([outcome(1)], "RTX 4090") == "Stage 1, CUDA backends, passed on RTX 4090."


def test_nothing_run_is_nothing_passed() -> None:
    none = [
        outcome(2, "not run", "TensorRT is not installed"),
        outcome(3, "not run", "TensorRT is not installed"),
    ]
    assert passed(none) is None
    assert verdict(none) == "No stage could be run: TensorRT is not installed."


@pytest.mark.parametrize("text", ['{"stages": [', "[]", "7", '{"schema_version": SCHEMA}', "\xff"])
def test_what_is_no_self_test_is_refused_with_a_way_to_go_on(tmp_path: Path, text: str) -> None:
    file = tmp_path / "selftest.json"
    file.write_text(text.replace("SCHEMA", str(SCHEMA_VERSION)), encoding="latin-1")
    with pytest.raises(SamkrError) as caught:
        still_holding(file, {}, [])
    assert (caught.value.code, caught.value.fix) == (
        "SE-A64",
        f"mv {file} {file}.old   # then the same command runs every stage",
    )


def test_resume_keeps_what_passed_on_the_same_machine_with_the_same_code(tmp_path: Path) -> None:
    machine = MachineUnderTest(ORIN, versions={"TensorRT": "10.3.0"})
    chosen = stages("good", "good", "wrong")
    run = run_all(tmp_path, chosen, machine)
    assert [one.number for one in still_holding(run.file, machine.facts(), chosen)] == [0, 1]
    assert [one.number for one in still_holding(run.file, machine.facts(), chosen[1:])] == [1]
    updated = MachineUnderTest(ORIN, versions={"TensorRT": "10.7.0"})
    assert still_holding(run.file, updated.facts(), chosen) == []
    assert still_holding(run.file, {**machine.facts(), "code": "changed"}, chosen) == []
    assert still_holding(tmp_path / "none.json", machine.facts(), chosen) == []

    again = Selftest(tmp_path, tmp_path / "shared", chosen, machine)
    again.take_over(still_holding(run.file, machine.facts(), chosen))
    assert states(again) == ["passed", "passed", "not run"]
    assert again.outcomes[0].checks == run.outcomes[0].checks


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ([], list(range(13))),
        (["3"], [3]),
        (["0-3"], [0, 1, 2, 3]),
        (["12", "1"], [1, 12]),
        (["1,12", "4-5"], [1, 4, 5, 12]),
        (["0-1 7"], [0, 1, 7]),
    ],
)
def test_stages_are_chosen_by_number(wanted: list[str], numbers: list[int]) -> None:
    assert [stage.number for stage in chosen_stages(wanted)] == numbers


@pytest.mark.parametrize("wanted", ["13", "x", "3-1", "2-", "-2", "", "1-99", "0-99999999999"])
def test_no_such_stage(wanted: str) -> None:
    with pytest.raises(SamkrError) as raised:
        chosen_stages([wanted])
    assert raised.value.code == "SE-U53"


def test_the_stages_are_numbered_in_their_order_and_are_there() -> None:
    assert [stage.number for stage in STAGES] == list(range(13))
    assert all(callable(resolve(stage.checks)) for stage in STAGES)


def test_without_a_gpu_one_line_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver is installed"))
    assert command_line(["selftest", "--out", str(tmp_path / "out")]) == 7
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        shown.err
        == "error SE-V61: the self-test needs an NVIDIA GPU, and there is none: no driver is installed\n"
    )
    assert not (tmp_path / "out").exists()


def start_tests(tmp_path: Path, stand_ins: str, **more: str) -> subprocess.Popen[str]:
    """`tests/gpu` in a process of its own, with these stages in place of the real ones."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-x", "-vv", "-m", "gpu or jetson"]
    command += ["-p", "selftest_stand_in", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(here), "STAND_INS": stand_ins, "OUT": str(tmp_path), **more}
    return subprocess.Popen(
        command, cwd=here.parents[1], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def as_tests(tmp_path: Path, stand_ins: str, **more: str) -> tuple[int, str]:
    """Exit code and stdout of ``start_tests``."""
    with start_tests(tmp_path, stand_ins, **more) as running:
        printed, _ = running.communicate()
    return running.returncode, printed


def test_as_tests_it_ends_at_the_first_stage_that_fails(tmp_path: Path) -> None:
    code, printed = as_tests(tmp_path, "good wrong good")
    assert code == 6, printed
    assert "test_stage[00-the-good-one] PASSED" in printed
    assert "test_stage[01-the-wrong-one] FAILED" in printed
    assert "[02-" not in printed
    lines = printed.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("stage  "))
    assert lines[at + 1].startswith(" 0 the good one")
    assert any("Stage 1, the wrong one, failed: error: 0.3; stage 2 was not run." in line for line in lines)
    assert json.loads((tmp_path / "selftest.json").read_text())["passed"] is False


def test_as_tests_a_part_can_be_asked_for(tmp_path: Path) -> None:
    code, printed = as_tests(tmp_path, "good good wrong", STAGE="1")
    assert code == 0, printed
    assert "Stage 1, the good one, passed on GeForce RTX 4090." in printed
    stages = json.loads((tmp_path / "selftest.json").read_text())["stages"]
    assert [stage["number"] for stage in stages] == [1]


def test_as_tests_nothing_run_is_nothing_passed(tmp_path: Path) -> None:
    code, printed = as_tests(tmp_path, "good", MINUTES="0.1")
    assert code == 7, printed
    assert "No stage could be run: it takes about 1 minutes" in printed


@pytest.mark.parametrize("minutes", ["0", "soon"])
def test_as_tests_a_time_that_is_none_is_one_line(tmp_path: Path, minutes: str) -> None:
    with start_tests(tmp_path, "good", MINUTES=minutes) as running:
        printed, said = running.communicate()
    assert (running.returncode, printed) == (2, "")
    assert said == f"error SE-U55: MINUTES={minutes} is no time\nfix: make test-gpu MINUTES=10\n"


def test_as_tests_no_gpu_is_one_line(tmp_path: Path) -> None:
    with start_tests(tmp_path, "good", NO_GPU="no driver is installed") as running:
        printed, said = running.communicate()
    assert (running.returncode, printed) == (7, "")
    assert said == (
        "error SE-V61: the self-test needs an NVIDIA GPU, and there is none: no driver is installed\n"
    )
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_the_tests_shows_the_table_and_ends_with_130(tmp_path: Path) -> None:
    with start_tests(tmp_path, "hangs good") as running:
        assert running.stderr is not None
        assert "first: fine" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate()
    assert running.returncode == 130, printed
    assert "stopped by Ctrl-C after" in printed
    assert "No stage finished" in printed


def test_as_a_command_it_tells_what_it_measures_and_how_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.selftest.machine.require_gpu", lambda: None)
    monkeypatch.setattr("benchmarks.selftest.machine.running_device", Device)
    monkeypatch.setattr("benchmarks.selftest.stages.STAGES", tuple(stages("good", "wrong", "good")))
    assert command_line(["selftest", "--out", str(tmp_path)]) == 6
    shown = capfd.readouterr()
    assert "Stage 1, the wrong one, failed: error: 0.3; stage 2 was not run." in shown.out
    assert "[2/3] stage 1, the wrong one" in shown.err
    assert "NO  error: 0.3" in shown.err
    assert command_line(["selftest", "--out", str(tmp_path), "--stage", "0", "--resume", "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["stages"][0]["why"] == "kept from an earlier run"
    assert "[1/1]" not in shown.err


def test_ctrl_c_shows_the_table_and_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(check: Check) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr("benchmarks.selftest.machine.require_gpu", lambda: None)
    monkeypatch.setattr("benchmarks.selftest.machine.running_device", Device)
    monkeypatch.setattr("benchmarks.selftest.stages.STAGES", tuple(stages("hangs", "good")))
    monkeypatch.setattr("benchmarks.cli.selftest.tell", interrupt)
    assert command_line(["selftest", "--out", str(tmp_path)]) == 130
    shown = capfd.readouterr()
    assert 'stopped by Ctrl-C after "first"' in shown.out
    assert shown.err.endswith("stopped by Ctrl-C\n")
    assert json.loads((tmp_path / "selftest.json").read_text())["stages"][0]["state"] == "unfinished"
