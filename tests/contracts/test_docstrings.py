"""A docstring of a public function that takes or returns arrays names their shapes, so that the API's pages do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from own_sources import sources

# Commands, scripts and the stages of the self-test, which are run and not called.
NO_API = {"cli", "host", "scripts", "selftest", "__main__.py"}
ARRAYS = {"ndarray", "NDArray", "Tensor"}
# What a class says of its arrays holds for these: nobody reads the docstring of a forward.
OF_THE_CLASS = {"__init__", "__call__", "forward", "run", "inputs"}
# (N, K, 3), (P,), (..., 2): letters, numbers and what is computed of them; words in parentheses are none. An array may
# also be said to have the same shape as another.
_NUMBER = r"(?:\d*[A-Za-z](?:_\w+|\d)?|\d+)"
_AXIS = rf"(?:\.\.\.|{_NUMBER}(?: ?[-+*/^] ?{_NUMBER})*)"
SHAPE = re.compile(
    rf"\((?=[^)]*(?:[A-Z\d.]|h, w)){_AXIS}(?:, ?{_AXIS})+\)|\({_AXIS},\)|(?<!\w)\(\)"
    "|(?:any|same|given|one) shape|scalar"
)
ARGS = re.compile(r"^Args:\n(.*?)(?=^\S|\Z)", flags=re.DOTALL | re.MULTILINE)


def names_in(node: ast.AST) -> set[str]:
    """All names in an annotation, those within quotes too."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
    return found


def parameters(function: ast.FunctionDef) -> Iterator[ast.arg]:
    arguments = function.args
    every = (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    )
    yield from (one for one in every if one is not None and one.annotation is not None)


def holds_arrays(annotation: ast.expr | None, arrays: set[str]) -> bool:
    """Whether arrays go through here: a function of arrays, handed on, has a docstring of its own."""
    names = set() if annotation is None else names_in(annotation)
    return bool(names & arrays) and "Callable" not in names


def unsaid(function: ast.FunctionDef, said: str, arrays: set[str]) -> list[str]:
    """The arrays that go in or come out whose shapes a docstring does not say."""
    taken = [one.arg for one in parameters(function) if holds_arrays(one.annotation, arrays)]
    result = ["the result"] if holds_arrays(function.returns, arrays) else []
    listed = dict(
        re.findall(r"^    \**(\w+): (.*(?:\n {5,}.*)*)", "".join(ARGS.findall(said)), flags=re.MULTILINE)
    )
    lacking = [name for name in taken if name in listed and not SHAPE.search(listed[name])]
    others = [name for name in taken if name not in listed] + result
    shapes = SHAPE.findall(ARGS.sub("", said))
    if len(shapes) < len(others) and not any("shape" in one for one in shapes):
        lacking += others
    return lacking


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
        said = ast.get_docstring(function) or ""
        if owner is not None and (function.name in OF_THE_CLASS or not said):
            said += "\n" + (ast.get_docstring(owner) or "")
        if arrays_unsaid := unsaid(function, said, arrays):
            name = function.name if owner is None else f"{owner.name}.{function.name}"
            lacking.append(f"{file}:{function.lineno} {name}: {', '.join(arrays_unsaid)}")
    return lacking


def test_functions_of_arrays_say_their_shapes() -> None:
    lacking = []
    for path, source in sources():
        if not NO_API & set(path.split("/")):
            lacking += without_shapes(source, path)
    assert lacking == []


def test_docstrings_are_markdown() -> None:
    """The site shows them as Markdown, where ``:class:`` and the ``::`` of reStructuredText are read as words."""
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                said = ast.get_docstring(node) or ""
                assert not re.search(r"::$|:[a-z]+:`", said, flags=re.MULTILINE), f"{path}: {said[:80]}"


SECTION = re.compile(r"^(?:Args|Attributes|Raises):\n((?: {4}.*\n?|\n)+)", flags=re.MULTILINE)
ITEM = re.compile(r" {4}[\w.*]+(?:, [\w.*]+)*(?: \([^)]*\))?: | {5,}|$")


def strays(said: str) -> list[str]:
    """Lines at the indentation of names that name nothing: the site would drop them."""
    lines = [line for block in SECTION.findall(said) for line in block.splitlines()]
    return [line for line in lines if not ITEM.match(line)]


def test_what_goes_on_is_indented_deeper_than_its_name() -> None:
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                assert strays(ast.get_docstring(node) or "") == [], path
    assert strays("Do.\n\nArgs:\n    a: one,\n        and more.\n    b, c: two.\n") == []
    assert strays("Do.\n\nArgs:\n    a: one,\n    and more.\n") == ["    and more."]


def test_a_function_without_shapes_is_found() -> None:
    bare = 'def area(points: np.ndarray) -> float:\n    """Area of a polygon."""\n'
    assert without_shapes(bare, "x.py") == ["x.py:1 area: points"]
    assert without_shapes(bare.replace("a polygon", "a polygon (convex, or not)"), "x.py") != []
    assert without_shapes(bare.replace("a polygon", "a polygon (x, y)"), "x.py") != []
    assert without_shapes(bare.replace("a polygon", "a polygon (N, 2)"), "x.py") == []
    aliased = 'Image = npt.NDArray[np.uint8]\n\ndef draw(image: Image) -> None:\n    """Draw it."""\n'
    assert without_shapes(aliased, "x.py") == ["x.py:3 draw: image"]
    assert without_shapes('def name(of: str) -> str:\n    """Its name."""\n', "x.py") == []


def test_every_array_has_its_own_shape() -> None:
    moved = 'def move(points: np.ndarray, by: np.ndarray) -> np.ndarray:\n    """Move points (N, 2).%s"""\n'
    assert without_shapes(moved % "", "x.py") == ["x.py:1 move: points, by, the result"]
    assert without_shapes(moved % " All are of one shape.", "x.py") == []
    listed = "\n\n    Args:\n        points: (N, 2).\n        by: %s.\n\n    Returns:\n        (N, 2).\n    "
    assert without_shapes(moved % (listed % "a shift"), "x.py") == ["x.py:1 move: by"]
    assert without_shapes(moved % (listed % "(2,)"), "x.py") == []
