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
        assert f"{line} 5 images/s" in capsys.readouterr().err
    capsys.readouterr()
    monkeypatch.setattr(bar, "_LOG_EVERY_S", 1e9)
    with bar.progress("looking", total, unit="images") as advance:
        advance()
        assert capsys.readouterr().err == ""
