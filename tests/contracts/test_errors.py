"""Error codes are stable: one code, one meaning, whichever file raises it."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from samkr_edge.errors import EXIT_CODES, SamkrError

ROOT = Path(__file__).parents[2]


def raised_codes() -> dict[str, set[str]]:
    """code -> the files that raise it, from the source of all packages."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("samkr_edge", "targets", "training", "calibration", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SamkrError" and node.args:
                    code = node.args[0]
                    if isinstance(code, ast.Constant):
                        found[code.value].add(str(path.relative_to(ROOT)))
    return found


def test_a_code_belongs_to_one_file() -> None:
    shared = {code: files for code, files in raised_codes().items() if len(files) > 1}
    assert shared == {}


def test_every_code_constructs() -> None:
    codes = raised_codes()
    assert len(codes) > 20
    for code in codes:
        assert SamkrError(code, "x").exit_code in EXIT_CODES.values()


def test_an_error_reads_as_message_facts_and_fix() -> None:
    error = SamkrError("SE-D99", "nothing was found", ["looked in  here"], fix="samkr-edge doctor")
    assert str(error) == "error SE-D99: nothing was found\n  looked in  here\nfix: samkr-edge doctor"
    assert error.exit_code == 3


def test_a_malformed_code_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="not an error code"):
        SamkrError("SE-Z01", "x")
