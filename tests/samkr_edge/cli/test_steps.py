"""Repeating a sequence of commands reuses what is there, by content."""

import json
from pathlib import Path

import pytest

from samkr_edge.cli import steps as steps_module
from samkr_edge.cli.steps import CommandStep, StepFailed, StepLog, run_steps
from samkr_edge.pose.skeleton import COCO17


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Commands that ran; `copy A B` copies, `fail` fails, `stop` is Ctrl-C."""
    made: list[tuple[str, ...]] = []

    def run(arguments: tuple[str, ...]) -> int:
        made.append(arguments)
        if arguments[0] == "copy":
            Path(arguments[2]).write_bytes(Path(arguments[1]).read_bytes())
        if arguments[0] == "stop":
            raise KeyboardInterrupt
        return 3 if arguments[0] == "fail" else 0

    monkeypatch.setattr(steps_module, "_run", run)
    return made


def copy(source: Path, target: Path, workspace: Path | None = None) -> CommandStep:
    return CommandStep("copy", ("copy", str(source), str(target)), (source,), (target,), workspace)


def test_a_repeated_run_makes_nothing_again(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    (tmp_path / "a").write_text("1")
    steps = [copy(tmp_path / "a", tmp_path / "b"), copy(tmp_path / "b", tmp_path / "c")]
    run_steps(steps, StepLog(tmp_path / "log.json"))
    assert run_steps(steps, StepLog(tmp_path / "log.json")) == [0.0, 0.0]
    assert len(calls) == 2


def test_a_changed_input_remakes_what_depends_on_it(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    (tmp_path / "a").write_text("1")
    steps = [copy(tmp_path / "a", tmp_path / "b"), copy(tmp_path / "b", tmp_path / "c")]
    run_steps(steps, StepLog(tmp_path / "log.json"))
    (tmp_path / "a").write_text("2")
    run_steps(steps, StepLog(tmp_path / "log.json"))
    assert (tmp_path / "c").read_text() == "2"
    assert len(calls) == 4


def test_a_damaged_output_is_made_again_and_nothing_else(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    (tmp_path / "a").write_text("1")
    steps = [copy(tmp_path / "a", tmp_path / "b"), copy(tmp_path / "b", tmp_path / "c")]
    run_steps(steps, StepLog(tmp_path / "log.json"))
    (tmp_path / "b").write_text("damaged")
    run_steps(steps, StepLog(tmp_path / "log.json"))
    assert (tmp_path / "b").read_text() == "1"
    assert len(calls) == 3


def test_a_failed_step_keeps_what_was_made_before(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    (tmp_path / "a").write_text("1")
    first = copy(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StepFailed) as failed:
        run_steps([first, CommandStep("fail", ("fail",))], StepLog(tmp_path / "log.json"))
    assert failed.value.exit_code == 3
    assert run_steps([first], StepLog(tmp_path / "log.json")) == [0.0]


def test_an_interrupted_step_resumes_in_its_workspace(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    step = CommandStep("stop", ("stop",), workspace=work)
    # The log has not seen this step yet, so what lies in its workspace belongs to other settings.
    with pytest.raises(KeyboardInterrupt):
        run_steps([step], StepLog(tmp_path / "log.json"))
    assert not work.exists()
    work.mkdir()
    with pytest.raises(KeyboardInterrupt):
        run_steps([step], StepLog(tmp_path / "log.json"))
    assert work.exists()


def test_unfinished_work_of_other_settings_is_set_aside_not_deleted(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    (tmp_path / "a").write_text("1")
    work = tmp_path / "work"
    run_steps([copy(tmp_path / "a", tmp_path / "b", work)], StepLog(tmp_path / "log.json"))
    work.mkdir()
    (work / "last.pt").write_text("hours of training")
    (tmp_path / "a").write_text("2")
    run_steps([copy(tmp_path / "a", tmp_path / "b", work)], StepLog(tmp_path / "log.json"))
    (kept,) = tmp_path.glob("work.*")
    assert (kept / "last.pt").read_text() == "hours of training"


def test_an_unreadable_log_means_that_everything_is_made_again(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "log.json").write_text("{ cut off")
    run_steps([copy(tmp_path / "a", tmp_path / "b")], StepLog(tmp_path / "log.json"))
    assert len(calls) == 1
    assert json.loads((tmp_path / "log.json").read_text())["steps"]


@pytest.mark.parametrize("entry", [5, {"finished": True, "outputs": [1]}])
def test_a_log_whose_steps_are_something_else_is_not_reused(
    tmp_path: Path, calls: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], entry: object
) -> None:
    (tmp_path / "a").write_text("1")
    steps = [copy(tmp_path / "a", tmp_path / "b")]
    run_steps(steps, StepLog(tmp_path / "log.json"))
    state = json.loads((tmp_path / "log.json").read_text())
    key = state["steps"]["01 copy"]["key"]
    state["steps"]["01 copy"] = {**entry, "key": key} if isinstance(entry, dict) else entry
    (tmp_path / "log.json").write_text(json.dumps(state))
    run_steps(steps, StepLog(tmp_path / "log.json"))
    assert len(calls) == 2
    assert "log.json is not readable, so nothing is reused" in capsys.readouterr().err


def test_a_picture_changed_in_place_remakes_what_was_made_from_it(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    folder = tmp_path / "data" / "images" / "train2017"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(b"white")
    truth = tmp_path / "data" / "annotations" / "person_keypoints_train2017.json"
    truth.parent.mkdir()
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    images = [{"id": 1, "file_name": "1.png", "width": 8, "height": 8}]
    truth.write_text(json.dumps({"images": images, "annotations": [], "categories": [category]}))
    step = CommandStep("look", ("look",), splits=((tmp_path / "data", "train"),))
    for expected in (1, 1):
        run_steps([step], StepLog(tmp_path / "log.json"))
        assert len(calls) == expected
    (folder / "1.png").write_bytes(b"black")
    run_steps([step], StepLog(tmp_path / "log.json"))
    assert len(calls) == 2
