"""An input that no network can have is answered with the nearest one that it can, before anything is read."""

from pathlib import Path

import pytest

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.input_size import parse_size
from training.loop.recipe_file import load_recipe


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("250x250", "256x256"),
        ("16x1000", "32x992"),
        ("0x48", "32x64"),
        ("99999x99999", "8192x8192"),
        ("9999999x64", "8192x64"),
        ("big", "256x192"),
    ],
)
def test_the_nearest_size_is_in_the_fix(text: str, better: str) -> None:
    with pytest.raises(SamkrError) as caught:
        parse_size(text)
    assert str(caught.value.fix).endswith(f"--size {better}")
    parse_size(better)


def test_a_size_is_looked_at_before_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "no.pt")
    assert run(["export", missing, "-o", str(tmp_path / "x.onnx"), "--size", "250x250"]) == 2
    assert "SE-U03" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.input_size=[250,250]"], "nearest: [256, 256]"),
        (["data.input_size=[32,32]", "batch_size=1"], "batch_size must be at least 2"),
    ],
)
def test_a_recipe_says_what_would_do(settings: list[str], words: str) -> None:
    with pytest.raises(SamkrError) as caught:
        load_recipe("samkr_tiny", settings)
    assert caught.value.code == "SE-U31"
    assert words in caught.value.sentence()
    assert load_recipe("samkr_tiny", ["data.input_size=[32,64]", "batch_size=1"]).batch_size == 1
