"""Scripts of benchmarks start as ``python -m benchmarks.scripts.NAME`` and ``python -m benchmarks.host.NAME``."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SCRIPTS = sorted(
    path
    for folder in ("scripts", "host")
    for path in (BENCHMARKS / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_started_and_leaves_the_import_path_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"python -m benchmarks.{path.parent.name}.{path.stem} " in text
    assert "sys.path" not in text
