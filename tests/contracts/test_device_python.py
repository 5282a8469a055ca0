"""The device side runs on the Python that JetPack 6 has (3.10), and JetPack 5 (3.8) gets an answer instead of a crash.

Its grammar is checked here; where a real interpreter of that version is found, so is every name taken from the standard
library. 3.8 is refused by decision: commands and passports are declared with annotations that are evaluated
(`Path | None`, `list[Path]`), so all of them would have to be written in the old form.
"""

import ast
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVICE_SIDE = sorted(
    path for name in ("samkr_edge", "targets", "benchmarks") for path in (ROOT / name).rglob("*.py")
)

# Runs in the old interpreter: compiles every file, and looks up every name imported from a standard module.
PROBE = textwrap.dedent(
    """
    import ast, importlib, sys
    wrong, standard = [], sys.stdlib_module_names
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as stream:
            tree = ast.parse(stream.read(), path)
        compile(tree, path, "exec")
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules.update({(a.asname or a.name.split(".")[0]): a.name.split(".")[0] for a in node.names})
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in standard:
                module = importlib.import_module(node.module)
                wrong += [f"{path}: {node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = modules.get(node.value.id)
                if name in standard and not hasattr(importlib.import_module(name), node.attr):
                    try:
                        importlib.import_module(f"{name}.{node.attr}")
                    except ImportError:
                        wrong.append(f"{path}: {name}.{node.attr}")
    print("\\n".join(wrong))
    """
)


def interpreter(version: str) -> str | None:
    """A working Python of this version: on the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(p) for p in pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        done = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
            return candidate
    return None


@pytest.mark.parametrize("path", DEVICE_SIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_device_side_file_is_python_3_10(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_python_3_10_compiles_the_device_side_and_has_all_it_imports() -> None:
    python = interpreter("3.10")
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    done = subprocess.run(
        [python, "-c", PROBE, *map(str, DEVICE_SIDE)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_what_answers_python_3_8_can_be_read_by_it(name: str) -> None:
    source = (ROOT / "samkr_edge" / name).read_text(encoding="utf-8")
    assert "import" in source
    ast.parse(source, feature_version=(3, 8))


def test_python_3_8_is_told_what_to_do() -> None:
    python = interpreter("3.8")
    if python is None:
        pytest.skip("no Python 3.8 on this machine")
    done = subprocess.run([python, "-m", "samkr_edge"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "needs Python 3.10" in last
    assert "JetPack 6" in last
    assert "trtexec" in last
