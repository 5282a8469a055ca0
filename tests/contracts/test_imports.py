"""The device side runs without torch, modelopt and onnx: checked in a process where they cannot be imported."""

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
from own_sources import sources

BLOCK = textwrap.dedent(
    """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {"torch", "modelopt", "onnx", "training", "calibration"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocked())
    """
)


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, timeout=60)


def test_every_device_side_module_imports_without_torch_modelopt_and_onnx() -> None:
    done = run_without_torch(
        textwrap.dedent(
            """
            import importlib, pkgutil
            import samkr_edge, targets, benchmarks
            names = []
            for package in (samkr_edge, targets, benchmarks):
                for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                    if not module.name.endswith("__main__"):
                        importlib.import_module(module.name)
                        names.append(module.name)
            print(len(names))
            """
        )
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_results_are_read_and_drawn_without_opencv() -> None:
    code = (
        BLOCK.replace('{"torch"', '{"cv2", "torch"')
        + "import benchmarks.report.page, benchmarks.sweep.run, benchmarks.judge.regression"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command_without_torch() -> None:
    done = run_without_torch("from samkr_edge.cli import run; sys.exit(run(['--help']))")
    assert done.returncode == 0, done.stderr
    for command in ("demo", "train", "quantize", "export", "build", "bench", "report"):
        assert command in done.stdout


def test_a_command_whose_package_is_missing_names_the_extra() -> None:
    code = BLOCK.replace('"training", "calibration"', '"calibration"')
    done = subprocess.run(
        [sys.executable, "-c", code + "from samkr_edge.cli import run; sys.exit(run(['models']))"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "SE-U70" in done.stderr
    assert 'pip install "samkr-edge[train]"' in done.stderr


@pytest.mark.parametrize("heavy", ["numpy", "cv2", "rich", "onnxruntime", "pycocotools", "pydantic", "scipy"])
def test_importing_the_package_loads_nothing_heavy(heavy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, samkr_edge; print({heavy!r} in sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("heavy", ["numpy", "cv2", "torch"])
def test_reading_a_recipe_loads_nothing_heavy(heavy: str) -> None:
    code = (
        f"import sys; from training.loop.recipe_file import load_recipe; load_recipe('samkr_tiny'); "
        f"print({heavy!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


ONE_HOME = "samkr_edge/machine/onnx_runtime_module.py"
# Programs, which start commands or measure them.
WAYS_IN = ("samkr_edge/launch.py", "benchmarks/scripts/", "benchmarks/host/")


def imported(source: str) -> Iterator[str]:
    """Modules, by a statement, by name, or ONNX Runtime in the text of a program for another process."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module
            case ast.Constant(value=str(text)):
                yield from re.findall(r"\b(?:import|from) (?:[\w., ]+, *)?(onnxruntime)\b", text)


def test_onnx_runtime_is_imported_in_one_place_which_switches_its_telemetry_off() -> None:
    naming = ((path, source) for path, source in sources() if "onnxruntime" in source)
    found = [path for path, source in naming if "onnxruntime" in {*map(_top, imported(source))}]
    assert found == [ONE_HOME]


def test_nothing_below_a_command_line_imports_one() -> None:
    found = {
        f"{path}: {module}"
        for path, source in sources()
        if "cli" not in path.split("/") and not path.startswith(WAYS_IN)
        for module in imported(source)
        if "cli" in module.split(".")
    }
    assert found == set()


def _top(module: str) -> str:
    return module.partition(".")[0]


def test_a_class_shares_its_name_with_no_other() -> None:
    """Two concepts of one name have to be told apart by their modules, in every sentence about them."""
    homes: dict[str, list[str]] = {}
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
