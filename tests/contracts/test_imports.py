"""The device side runs without torch, modelopt and onnx: checked in a process where they cannot be imported."""

import subprocess
import sys
import textwrap

import pytest

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


@pytest.mark.parametrize("heavy", ["numpy", "cv2", "rich", "onnxruntime", "pycocotools", "pydantic"])
def test_importing_the_package_loads_nothing_heavy(heavy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, samkr_edge; print({heavy!r} in sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "False", done.stderr
