"""What a log holds of a long run: how far it is, before it is over."""

import pytest

from samkr_edge import progress as bar


@pytest.mark.parametrize(("total", "line"), [(3, "looking: 2 of 3 images"), (None, "looking: 2 images")])
def test_a_log_says_how_far_it_is_while_it_runs(
    total: float | None, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bar, "_LOG_EVERY_S", 0.0)
    with bar.progress("looking", total, unit="images") as advance:
        advance()
        advance(note="5 images/s")
        assert f"{line}, 5 images/s, 0:00:0" in capsys.readouterr().err
    capsys.readouterr()
    monkeypatch.setattr(bar, "_LOG_EVERY_S", 1e9)
    with bar.progress("looking", total, unit="images") as advance:
        advance()
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("total", "unit", "done", "line"),
    [
        (20.0, "s", 9.7117, "10 of 20 s"),
        (0.5, "s", 0.2549, "0.3 of 0.5 s"),
        (100, "%", 37.512, "38 %"),
        (1_234_567, "images", 1_000_001, "1000001 of 1234567 images"),
        (4, "", 3, "3 of 4"),
    ],
)
def test_numbers_are_rounded_to_what_a_reader_needs(
    total: float, unit: str, done: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar.progress("working", total, unit=unit) as advance:
        advance(done)
    assert capsys.readouterr().err.startswith(f"working: {line}, 0:00:0")


def test_the_end_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bar, "_LOG_EVERY_S", 0.0)
    with bar.progress("training", 100, unit="%") as advance:
        for _ in range(3):
            advance(100 / 3)
    assert [line.rsplit(",", 1)[0] for line in capsys.readouterr().err.splitlines()] == [
        "training: 33 %",
        "training: 67 %",
        "training: 100 %",
    ]


def test_a_log_holds_no_bar_and_no_count_where_nothing_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with bar.progress("building", None) as advance:
        advance(0, "choosing tactics 2/5")
    assert capsys.readouterr().err.startswith("building: choosing tactics 2/5, 0:00:0")


def test_a_log_says_how_far_a_run_came_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with bar.progress("reading", 3, unit="images") as advance:
            advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert capsys.readouterr().err.startswith("reading: 1 of 3 images, ")


def test_a_log_says_nothing_of_what_was_refused_before_it_began(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="refused"), bar.progress("rendering", 6, unit="images"):
        raise ValueError("refused")
    assert capsys.readouterr().err == ""
