"""A docstring of a public function that takes or returns arrays names their shapes, so that the API's pages do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
# Commands, scripts and the stages of the self-test, which are run and not called.
NO_API = {"cli", "host", "scripts", "selftest", "__main__.py"}
ARRAYS = {"ndarray", "NDArray", "Tensor"}
# What a class says of its arrays holds for these: nobody reads the docstring of a forward.
OF_THE_CLASS = {"__init__", "__call__", "forward", "run", "inputs"}
# (N, K, 3), (P,), (..., 2), () of a scalar: dimensions in parentheses with a comma, or the word that any will do.
SHAPE = re.compile(r"\((?:[A-Za-z0-9_.*+/^ -]+,)+(?: ?[A-Za-z0-9_.*+/^ -]+)?\)|\(\)|any shape|given shape")


def names_in(node: ast.AST) -> set[str]:
    """All names in an annotation, those within quotes too."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
    return found


def annotations(function: ast.FunctionDef) -> Iterator[ast.expr]:
    arguments = function.args
    for one in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ):
        if one is not None and one.annotation is not None:
            yield one.annotation
    if function.returns is not None:
        yield function.returns


def functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, ast.ClassDef | None]]:
    """Public functions and the public methods of public classes; both with the class, where there is one."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node, None
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    not method.name.startswith("_") or method.name in OF_THE_CLASS
                ):
                    yield method, node


def aliases(tree: ast.Module) -> set[str]:
    """Names that a module gives to types of arrays: ``Image = npt.NDArray[np.uint8]``."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and names_in(node.value) & ARRAYS
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Subscript)
    }


def without_shapes(source: str, file: str) -> list[str]:
    tree = ast.parse(source)
    arrays = ARRAYS | aliases(tree)
    lacking = []
    for function, owner in functions(tree):
        if not any(names_in(annotation) & arrays for annotation in annotations(function)):
            continue
        said = ast.get_docstring(function) or ""
        if owner is not None and (function.name in OF_THE_CLASS or not said):
            said += ast.get_docstring(owner) or ""
        if not SHAPE.search(said):
            name = function.name if owner is None else f"{owner.name}.{function.name}"
            lacking.append(f"{file}:{function.lineno} {name}")
    return lacking


def test_functions_of_arrays_say_their_shapes() -> None:
    lacking = []
    for path in (path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))):
        if not NO_API & set(path.relative_to(ROOT).parts):
            lacking += without_shapes(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    assert lacking == []


def test_docstrings_are_markdown() -> None:
    """The site shows them as Markdown, where ``:class:`` and the ``::`` of reStructuredText are read as words."""
    for path in (path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                said = ast.get_docstring(node) or ""
                assert not re.search(r"::$|:[a-z]+:`", said, flags=re.MULTILINE), f"{path}: {said[:80]}"


def test_a_function_without_shapes_is_found() -> None:
    bare = 'def area(points: np.ndarray) -> float:\n    """Area of a polygon."""\n'
    assert without_shapes(bare, "x.py") == ["x.py:1 area"]
    assert without_shapes(bare.replace("a polygon", "a polygon (n, 2)"), "x.py") == []
    aliased = 'Image = npt.NDArray[np.uint8]\n\ndef draw(image: Image) -> None:\n    """Draw it."""\n'
    assert without_shapes(aliased, "x.py") == ["x.py:3 draw"]
    assert without_shapes('def name(of: str) -> str:\n    """Its name."""\n', "x.py") == []
