"""Error codes are stable: one mistake has one code, wherever it is made."""

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

from samkr_edge.errors import EXIT_CODES, SamkrError, reason_of, words_of

ROOT = Path(__file__).parents[2]


# Every code that a user may have seen, by family. A new one is added here, and none is ever taken away.
EVER = {
    "U": "00 01 02 03 04 05 06 07 08 09 10 11 12 24 25 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 50 51 "
    "52 53 54 55 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 "
    "93 94 95 96 97 98 99",
    "D": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 23 26 27 28 29 30 31 36 37 38 40 41 42 43 "
    "44 45 47 48 49 55 56 57 58 60 61 64 65 70 71 72 73 74 75 77 78 79 80 81 87 92 93 94 95 96 97 98",
    "A": "05 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 38 39 40 41 44 45 46 47 51 52 53 54 55 56 57 58 60 "
    "61 62 63 64 65 66 67 68 69 74 75 76 77 78 79 80 81 82 83 86 87 88 89 90 92 93 94 95 96 97 98",
    "B": "04 50 51 52 53 54 55 56 57 61 62 65 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96",
    "Q": "60 61 62 63 65 66 67 68 69 82 83 84",
    "V": "06 50 52 59 61 62 64 65 73 80 81 83 85 86 87 88 89 90 91 92 93 94 95 96 97 98 99",
}
# Code of an error without a way out -> why there can be none.
WITHOUT_FIX = {"SE-V61": "one line, on purpose: it says why there is no GPU, and no command brings one"}


@functools.cache
def raised() -> tuple[tuple[str, ast.Call], ...]:
    """(file, call) of every error that the source of all packages makes."""
    names = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
    return tuple(
        (str(path.relative_to(ROOT)), node)
        for path in (path for name in names for path in sorted((ROOT / name).rglob("*.py")))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SamkrError" and node.args
    )


def raised_codes() -> dict[str, set[str]]:
    """code -> the files that raise it."""
    found: dict[str, set[str]] = defaultdict(set)
    for file, call in raised():
        code = call.args[0]
        if isinstance(code, ast.Constant):
            found[str(code.value)].add(file)
    return found


def has_fix(call: ast.Call) -> bool:
    fix = {keyword.arg: keyword.value for keyword in call.keywords}.get("fix", (call.args + 4 * [None])[3])
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    return starred or not (fix is None or (isinstance(fix, ast.Constant) and not fix.value))


def test_every_error_has_a_way_out() -> None:
    assert {ast.unparse(call.args[0]).strip("'") for _, call in raised() if not has_fix(call)} == {
        *WITHOUT_FIX
    }


def shapes() -> set[tuple[str, str]]:
    """(shape, code) of every message: what it says happened, with ``_`` for values and without what was done then."""
    return {
        (shape, code.value)
        for _, call in raised()
        if len(call.args) > 1 and isinstance(code := call.args[0], ast.Constant)
        for text in texts_of(call.args[1])
        if re.search("[a-z]", shape := text.partition(", so ")[0].removeprefix("the "))
    }


def texts_of(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*texts_of(node.body), *texts_of(node.orelse)]
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return ["".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in parts)]


def test_a_mistake_has_one_code() -> None:
    """Two codes with one message are one mistake: raise it by one function, and list the other in the changelog."""
    codes = defaultdict(set)
    for shape, code in shapes():
        codes[shape].add(code)
    assert {shape: found for shape, found in codes.items() if len(found) > 1} == {}


def merged_away() -> dict[str, list[str]]:
    """code -> what the changelog's table gives in its place."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Error codes merged away")[2]
    rows = re.findall(r"^\| (SE-\w\d\d) \| (.*) \|$", changes, re.MULTILINE)
    return {code: re.findall(r"SE-\w\d\d", now) for code, now in rows}


def test_a_code_that_was_ever_used_is_raised_or_the_changelog_says_what_took_its_place() -> None:
    ever = {f"SE-{family}{number}" for family, numbers in EVER.items() for number in numbers.split()}
    raised_now, gone = raised_codes().keys(), merged_away()
    assert raised_now - ever == set(), "add it to EVER"
    assert ever - raised_now == gone.keys()


def test_what_took_a_codes_place_is_raised() -> None:
    for code, now in merged_away().items():
        assert now, code
        assert set(now) <= raised_codes().keys(), code


def test_every_code_constructs() -> None:
    codes = raised_codes()
    assert len(codes) > 20
    for code in codes:
        assert SamkrError(code, "x").exit_code in EXIT_CODES.values()


def test_an_error_reads_as_message_facts_and_fix() -> None:
    error = SamkrError("SE-D99", "nothing was found", {"looked in": "here"}, fix="samkr-edge doctor")
    assert str(error) == "error SE-D99: nothing was found\n  looked in  here\nfix: samkr-edge doctor"
    assert error.exit_code == 3


def test_facts_are_padded_when_printed_and_never_in_json() -> None:
    facts = {"found": 3, "missing": [Path("a.jpg"), "b.jpg"], "empty": [], "none": None}
    error = SamkrError("SE-D99", "a message", facts)
    assert str(error).splitlines()[1:] == ["  found      3", "  missing    a.jpg", "  missing    b.jpg"]
    assert error.to_dict()["facts"] == {"found": 3, "missing": ["a.jpg", "b.jpg"]}
    assert error.sentence() == "a message; found 3; missing a.jpg; missing b.jpg"


def test_a_label_longer_than_the_column_moves_all_values() -> None:
    error = SamkrError("SE-D99", "a message", {"weights": "4 bits", "activations": "8 bits"})
    assert str(error).splitlines()[1:] == ["  weights     4 bits", "  activations 8 bits"]


def test_no_fact_is_padded_by_hand() -> None:
    """A value that begins with its label and blanks is of the time when facts were lines."""
    padded = [
        f"{file}:{node.lineno}"
        for file, call in raised()
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and re.match(r"\w[\w ]{0,9} {2,}\S", str(node.value))
    ]
    assert padded == []


def test_a_malformed_code_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="not an error code"):
        SamkrError("SE-Z01", "x")


@pytest.mark.parametrize(
    ("error", "first", "all_of_it"),
    [
        (EOFError(), "EOFError", "EOFError"),
        (ValueError("  \n "), "ValueError", "ValueError"),
        (RuntimeError("\nfirst \n second"), "first", "first second"),
        (KeyError("x" * 200), f"'{'x' * 159}", f"'{'x' * 159}"),
    ],
)
def test_what_another_library_says_is_one_line_and_never_nothing(
    error: Exception, first: str, all_of_it: str
) -> None:
    assert reason_of(error) == first
    assert words_of(error) == all_of_it


def test_nobody_else_takes_the_first_line_of_a_message() -> None:
    """An error without words has none: `torch.load` of an empty file."""
    taken = re.compile(r"str\(\w+\)\.split|(?<!__doc__)\.splitlines\(\)\[0\]|\.args\[0\]")
    names = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
    packages = (path for name in names for path in (ROOT / name).rglob("*.py"))
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in packages
        if path.name != "errors.py" or path.parent.name != "samkr_edge"
        for line in path.read_text(encoding="utf-8").splitlines()
        if taken.search(line) and "[1:4]] or reason_of" not in line and "others = " not in line
    }
    assert found == set()
