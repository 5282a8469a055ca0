"""Pages that are made from the code when the site is built, so that they cannot differ from it. A hook of MkDocs.

- ``errors.md``: every error by its code, with message and fix, read from the sources without running them.
- ``api/PACKAGE.md``: the modules of every package, for mkdocstrings to fill.
- ``changelog.md``: CHANGELOG.md.
- ``repository/...``: the files outside docs/ that pages link to, so that the links lead somewhere on the site too.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
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
}
_OUTSIDE = re.compile(r"\]\((\.\./[^)#]+)\)")


@dataclass(frozen=True)
class Raised:
    """One place that raises an error: texts hold ``{name}`` where a value is put in."""

    code: str
    module: str
    message: str
    fix: str


def raised() -> list[Raised]:
    """Every error of all packages, in order of code."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += list(raised_in(path))
    return sorted(found, key=lambda error: (error.code, error.module))


def raised_in(path: Path) -> Iterator[Raised]:
    """Every ``SamkrError(...)`` of one file whose code is a constant."""
    source = path.read_text(encoding="utf-8")
    if "SamkrError(" not in source:
        return
    nodes = list(ast.walk(ast.parse(source)))
    texts = {
        target.id: text_of(node.value, {})
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
        and isinstance(node.value, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.IfExp))
    }
    for node in nodes:
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "SamkrError" or not node.args:
            continue
        given: dict[str, ast.expr] = dict(zip(("code", "message", "facts", "fix"), node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        code = given["code"]
        if isinstance(code, ast.Constant):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            message, fix = (
                text_of(given[name], texts) if name in given else "" for name in ("message", "fix")
            )
            yield Raised(str(code.value), module, message, fix)


def text_of(node: ast.expr, texts: dict[str, str]) -> str:
    """What an expression says: values that are put in as ``{name}``, both ways of a condition as ``one | other``."""
    if isinstance(node, ast.Constant):
        return str(node.value) if node.value is not None else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, texts) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{_name_of(node.value)}}}"
    if isinstance(node, ast.BinOp):
        return text_of(node.left, texts) + text_of(node.right, texts)
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body, texts)} | {text_of(node.orelse, texts)}"
    if isinstance(node, ast.Name) and node.id in texts:
        return texts[node.id]
    return f"{{{_name_of(node)}}}"


def _name_of(node: ast.expr) -> str:
    """A word for a value: the outermost name in its expression that is not a function's."""
    if isinstance(node, ast.IfExp):
        return _name_of(node.body)
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    words = [
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(node)
        if isinstance(part, (ast.Attribute, ast.Name)) and id(part) not in called
    ]
    return words[0].strip("_") if words else getattr(getattr(node, "func", None), "id", "...").strip("_")


def errors_page() -> str:
    """All errors, by family and code."""
    by_code: dict[str, list[Raised]] = defaultdict(list)
    for error in raised():
        by_code[error.code].append(error)
    lines = [
        "# Errors by code",
        "",
        "A mistake that is not ours ends with one error: what happened, two to four facts, and a fix, most of them a "
        "command that can be pasted. Codes are stable. `{path}` stands for a value, and ` | ` between two wordings of "
        "the same. `--debug` shows the traceback, `--json` prints the error as one object.",
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
                    f"{one_line(message)}",
                    *([f"fix: {fix.strip()}"] if fix else []),
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
