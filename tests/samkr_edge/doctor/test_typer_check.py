"""A Typer that cannot drive the command line is named; nothing that did nothing ends with 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from samkr_edge.cli import _application, run
from samkr_edge.doctor import typer_check

ROOT = Path(__file__).parents[3]


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Typer 0.12 beside Click 8.5: every command line prints the version and ends well."""

    class Command:
        def main(self, arguments: list[str], **options: Any) -> int:
            print("samkr-edge 0.1.0")
            return 0

    monkeypatch.setattr(typer.main, "get_command", lambda application: Command())


@pytest.mark.parametrize(
    "line", ["targets", "doctor --json", "data synth out", "bench --help", "nonsense", "-- targets"]
)
def test_a_command_that_was_not_run_does_not_end_well(
    deaf: None, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert run(line.split()) == 2
    shown = capsys.readouterr().err
    assert "SE-U98" in shown
    assert f"found      typer {typer.__version__}, click" in shown
    assert f'pip install --upgrade "typer>={typer_check.LOWEST}"' in shown


@pytest.mark.parametrize("line", ["--version", "targets cpu --json", "data --help", "bench --help", "--help"])
def test_what_was_run_ends_well(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert run(line.split()) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture
def old_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer_check, "_version", lambda distribution: "0.15.0")


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `samkr-edge targets` raises this."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("samkr_edge.cli.targets.targets", fail)


def failing(*given: Any, **named: Any) -> None:
    raise TypeError("make_metavar() lacks an argument")


def test_a_typer_that_fails_while_it_prints_help_is_named(
    old_typer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("typer.rich_utils.rich_format_help", failing)
    assert run(["--help"]) == 2
    shown = capsys.readouterr().err
    assert "SE-U98" in shown
    assert "make_metavar() lacks an argument" in shown


def test_a_typer_that_fails_while_it_prints_a_usage_error_is_named(
    old_typer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class UsageError(Exception):
        show = failing

    raising(UsageError("no such option"), monkeypatch)
    assert run(["targets"]) == 2
    assert "SE-U98" in capsys.readouterr().err


def test_what_fails_in_a_typer_that_works_is_not_blamed_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("typer.rich_utils.rich_format_help", failing)
    assert run(["--help"]) == 1
    assert "SE-U98" not in capsys.readouterr().err


def test_debug_shows_all_that_led_to_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("then") from error

    monkeypatch.setattr("samkr_edge.cli.targets.targets", fail)
    with pytest.raises(RuntimeError) as caught:
        run(["targets", "--debug"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_exception_of_a_command_is_not_taken_for_typers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(TypeError("ours"), monkeypatch)
    assert run(["targets"]) == 1
    assert "SE-X01: TypeError: ours" in capsys.readouterr().err


def test_a_package_that_does_not_import_is_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ImportError("numpy.core.multiarray failed to import"), monkeypatch)
    assert run(["targets"]) == 2
    shown = capsys.readouterr().err
    assert "SE-U99" in shown
    assert "numpy.core.multiarray failed" in shown
    assert "samkr-edge doctor" in shown


def test_the_lowest_typer_is_the_one_that_the_package_asks_for() -> None:
    assert f'"typer>={typer_check.LOWEST}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert _application().info.name == "samkr-edge"
