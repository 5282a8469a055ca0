"""Pages that are made from the code when the site is built, so that they cannot differ from it. A hook of MkDocs.

- ``errors.md``: every error by its code, with message and fix, read from the sources without running them.
- ``api/PACKAGE.md``: the modules of every package, for mkdocstrings to fill.
- ``changelog.md``: CHANGELOG.md.
- ``repository/...``: the files outside docs/ that pages link to, so that the links lead somewhere on the site too.
"""

from __future__ import annotations

import ast
import itertools
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
# Commands are described by their --help; scripts and the stages of the self-test are called by nobody.
NO_API = ("cli", "host", "scripts", "selftest", "results", "doctor", "__main__")
FAMILIES = {
    "U": "Usage: exit code 2",
    "D": "Data: exit code 3",
    "A": "Artefacts: exit code 4",
    "B": "Builds: exit code 5",
    "Q": "Quality gates: exit code 6",
    "V": "Devices: exit code 7",
    "X": "Unexpected: exit code 1",
}
# What these say is written by others, while a command runs: an example of each.
SAID_BY_OTHERS = (
    (
        "SE-U00",
        "samkr_edge.cli.usage_errors",
        "Missing argument '…'.\0No such option: …\0Invalid value for '…': …",
        "samkr-edge … --help",
    ),
    (
        "SE-X01",
        "samkr_edge.cli",
        "…: what Python says of a bug in samkr-edge, or of a case that it does not handle yet",
        "samkr-edge --debug …   # and send the traceback",
    ),
)
_VALUE = "…"
_OR = "\0"  # between wordings; they are shown one below the other
_MOST_WORDINGS = 3
_OUTSIDE = re.compile(r"\]\((\.\./[^)#]+)\)")


@dataclass(frozen=True)
class Raised:
    """One place that raises an error: texts hold ``…`` where a value is put in."""

    code: str
    module: str
    message: str
    fix: str


def raised() -> list[Raised]:
    """Every error of all packages, in order of code."""
    found = [Raised(*one) for one in SAID_BY_OTHERS]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += list(raised_in(path))
    return sorted(found, key=lambda error: (error.code, error.module))


def raised_in(path: Path) -> Iterator[Raised]:
    """Every ``SamkrError(...)`` of a file whose code is a constant; each call of a function that is given its words."""
    source = path.read_text(encoding="utf-8")
    if "SamkrError(" not in source:
        return
    tree = ast.parse(source)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    outside = texts_in([one for one in tree.body if isinstance(one, ast.Assign)])
    for scope in ast.walk(tree):
        if not isinstance(scope, (ast.FunctionDef, ast.Module)):
            continue
        texts = {**outside, **(texts_in(scope.body) if isinstance(scope, ast.FunctionDef) else {})}
        for call in calls_in(scope, "SamkrError"):
            given = arguments(call, ("code", "message", "facts", "fix"))
            if not isinstance(code := given.get("code"), ast.Constant):
                continue
            wordings = [(given, texts)]
            parameters = [one.arg for one in scope.args.args] if isinstance(scope, ast.FunctionDef) else []
            if isinstance(words := given.get("message"), ast.Name) and words.id in parameters:
                name = scope.name if isinstance(scope, ast.FunctionDef) else ""
                others = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
                wordings = [
                    (arguments(one, parameters), {**outside, **texts_in(other.body)})
                    for other in others
                    for one in calls_in(other, name)
                ]
            for one, known in wordings:
                message, fix = (
                    text_of(one[name], known) if name in one else "" for name in ("message", "fix")
                )
                if has_words(message):
                    yield Raised(str(code.value), module, message, fix if has_words(fix) else "")


def calls_in(scope: ast.AST, name: str) -> Iterator[ast.Call]:
    """Calls of a function by its bare name, those of functions inside the scope left out."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name and node.args:
            yield node
        yield from calls_in(node, name)


def arguments(call: ast.Call, names: Sequence[str]) -> dict[str, ast.expr]:
    """Name -> argument of a call, by place or by keyword."""
    given = dict(zip(names, call.args, strict=False))
    return given | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def texts_in(body: Sequence[ast.stmt]) -> dict[str, str]:
    """Variable -> what it is set to say, all its wordings; none where they are many."""
    said: dict[str, list[str]] = defaultdict(list)
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Assign) and isinstance(
            node.value, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.IfExp)
        ):
            text = text_of(node.value, {})
            for name in (target.id for target in node.targets if isinstance(target, ast.Name)):
                said[name] += [text] if has_words(text) and text not in said[name] else []
    return {name: _OR.join(texts) for name, texts in said.items() if texts}


def has_words(text: str) -> bool:
    """Whether anything is said beside values."""
    return re.search(r"[A-Za-z-]{2}", text) is not None


def text_of(node: ast.expr, texts: dict[str, str]) -> str:
    """What an expression says: ``…`` for values that are put in, and every wording of a condition."""
    if isinstance(node, ast.Constant):
        return str(node.value) if node.value is not None else ""
    if isinstance(node, (ast.JoinedStr, ast.BinOp)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node.left, node.right]
        wordings = [text_of(part, texts).split(_OR) for part in parts]
        if math.prod(map(len, wordings)) > _MOST_WORDINGS:
            wordings = [[_VALUE] if len(several) > 1 else several for several in wordings]
        return _OR.join("".join(each).replace(2 * _VALUE, _VALUE) for each in itertools.product(*wordings))
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, texts)
    if isinstance(node, ast.IfExp):
        ways = [text_of(node.body, texts), text_of(node.orelse, texts)]
        return "" if "" in ways else _OR.join(filter(has_words, ways)) or _VALUE
    if isinstance(node, ast.Name) and node.id in texts:
        return texts[node.id]
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "counted":
        return f"{_VALUE} {text_of(node.args[-1], texts)}{'s' * (len(node.args) == 2)}"
    return _VALUE


def errors_page() -> str:
    """All errors, by family and code."""
    by_code: dict[str, list[Raised]] = defaultdict(list)
    for error in raised():
        by_code[error.code].append(error)
    lines = [
        "# Errors by code",
        "",
        "A mistake that is not ours ends with one error: what happened, two to four facts, and a fix, most of them a "
        "command that can be pasted; where none is shown here, it depends on what was given. Codes are stable. `…` "
        "stands for a value; several lines are several wordings of the same. `--debug` shows the traceback, "
        "`--json` prints the error as one object.",
        "",
    ]
    for family, title in FAMILIES.items():
        lines += [f"## {title}", ""]
        for code in sorted(code for code in by_code if code[3] == family):
            lines += [f"### {code}", ""]
            # Two places that say the same in different functions are shown once.
            for message, fix, module in dict.fromkeys((e.message, e.fix, e.module) for e in by_code[code]):
                lines += [
                    "```text",
                    *map(one_line, message.split(_OR)),
                    *(f"fix: {one_line(way)}" for way in fix.split(_OR) if way),
                    "```",
                    "",
                ]
                lines += [f"raised in `{module}`", ""]
    return "\n".join(lines)


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def api_pages() -> dict[str, str]:
    """Page -> Markdown that mkdocstrings fills: a page for each package that has modules of its own."""
    pages: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if any(part in NO_API for part in parts):
                continue
            if parts[-1] == "__init__":
                parts = parts[:-1]
                if parts != ("samkr_edge",):  # the others hold a docstring at most
                    continue
            page = ".".join(parts[:-1]) or parts[0]
            pages[page].append(".".join(parts))
    order = sorted(pages, key=lambda page: (PACKAGES.index(page.partition(".")[0]), page))
    return {page: _api_page(page, pages[page]) for page in order}


def _api_page(page: str, modules: list[str]) -> str:
    # What samkr_edge itself hands out is described where it is written, all but `load`.
    only = {"samkr_edge": "    options:\n      members: [load]\n"}
    return "\n".join([f"# {page}", "", *(f"::: {module}\n{only.get(module, '')}" for module in modules)])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and put them into the navigation."""
    from mkdocs.structure.files import File

    made = {"errors.md": errors_page(), "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}
    api = api_pages()
    made |= {f"api/{page}.md": text for page, text in api.items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    nav: list[Any] = config.nav or []
    config.nav = [
        *nav,
        {"Python API": [{page: f"api/{page}.md"} for page in api]},
        {"Changelog": "changelog.md"},
    ]
    for name in sorted(linked_outside(Path(config.docs_dir))):
        if (ROOT / name).is_file():  # what is not there stays a broken link, and the build fails
            files.append(File.generated(config, f"repository/{name}.txt", abs_src_path=str(ROOT / name)))
    return files


def linked_outside(docs: Path) -> set[str]:
    """Files of the repository that pages link to, relative to its root."""
    pages = docs.glob("*.md")
    return {link[3:] for page in pages for link in _OUTSIDE.findall(page.read_text(encoding="utf-8"))}


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to files of the repository lead to their copies on the site, which browsers show as text."""
    here = posixpath.dirname(page.file.src_uri)

    def on_site(found: re.Match[str]) -> str:
        name = found[1][3:]
        return (
            f"]({posixpath.relpath(f'repository/{name}.txt', here or '.')})"
            if (ROOT / name).is_file()
            else found[0]
        )

    return _OUTSIDE.sub(on_site, markdown)
