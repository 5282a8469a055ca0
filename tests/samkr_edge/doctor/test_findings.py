"""`samkr-edge doctor` calls ok what it has imported, names what is broken, and says how to fix it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samkr_edge.cli import run
from samkr_edge.doctor.environment import PACKAGES, environment
from samkr_edge.doctor.findings import findings
from samkr_edge.doctor.trial_import import ImportTrial, trial_imports

WORKS = {name: ImportTrial(True, "99.0") for name in PACKAGES}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path of every child process."""
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    return tmp_path


def test_an_import_that_works_gives_its_version(modules: Path) -> None:
    (modules / "sound.py").write_text("__version__ = '1.2'\nprint('hello from an import', end='')\n")
    assert trial_imports(["sound"]) == {"sound": ImportTrial(True, "1.2")}


def test_what_is_missing_and_what_is_broken_are_told_apart(modules: Path) -> None:
    (modules / "half.py").write_text("import a_library.of_its_own\n")
    (modules / "leftover").mkdir()
    (modules / "silent.py").write_text(
        "import sys\nprint('compiled for\\nanother NumPy', file=sys.stderr)\nraise ImportError\n"
    )
    found = trial_imports(["nowhere", "half", "silent", "leftover", "json"])
    assert found["nowhere"] == ImportTrial(False)
    assert found["leftover"] == ImportTrial(False)
    assert found["half"].lacks == "a_library"
    assert found["silent"].error == "ImportError: compiled for another NumPy"
    assert found["json"].works


def test_an_import_that_ends_the_process_is_named_and_the_rest_is_tried(modules: Path) -> None:
    (modules / "deadly.py").write_text("import os\nos._exit(9)\n")
    (modules / "leaving.py").write_text("raise SystemExit(3)\n")
    found = trial_imports(["json", "deadly", "leaving", "math"])
    assert found["json"].works
    assert found["math"].works
    assert "crashes the process (exit code 9)" in str(found["deadly"].error)
    assert "SystemExit" in str(found["leaving"].error)


def test_everything_that_imports_is_ok() -> None:
    found = {finding.what: finding for finding in findings(environment(), WORKS)}
    assert found["run and score models"].works
    assert found["quantize"].works


def test_a_package_that_is_installed_and_does_not_import_is_not_ok() -> None:
    broken = {**WORKS, "onnxruntime": ImportTrial(True, error="ImportError: compiled for NumPy 1")}
    found = {finding.what: finding for finding in findings(environment(), broken)}
    assert not found["run and score models"].works
    assert "compiled for NumPy 1" in found["run and score models"].detail
    assert found["run and score models"].fix.endswith('"onnxruntime>=1.22"')
    # It stands on the same: to check what it has built, it runs it.
    assert not found["build for the CPU"].works
    assert found["read its own files"].works


def test_a_locale_that_a_package_cannot_be_read_by_is_no_reason_to_install_it_again() -> None:
    trials = {
        **WORKS,
        "nvidia-modelopt": ImportTrial(True, error="UnicodeDecodeError: 'ascii' codec can't decode"),
    }
    found = {finding.what: finding for finding in findings(environment(), trials)}
    assert found["quantize"].fix.startswith("export PYTHONUTF8=1")


def test_a_package_that_misses_another_names_the_extra_that_brings_it() -> None:
    lacking = {
        **WORKS,
        "nvidia-modelopt": ImportTrial(True, error="No module named 'requests'", lacks="requests"),
    }
    found = {finding.what: finding for finding in findings(environment(), lacking)}
    assert found["quantize"].detail == "missing: requests (nvidia-modelopt imports it)"
    assert found["quantize"].fix == 'pip install "samkr-edge[quantize]"'


def test_what_only_some_videos_need_is_named_with_its_extra() -> None:
    found = {
        finding.what: finding for finding in findings(environment(), {**WORKS, "av": ImportTrial(False)})
    }
    assert found["read AV1, write H.264"].fix == 'pip install "samkr-edge[video]"'
    assert found["run and score models"].works


def test_a_missing_package_names_the_extra_also_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {**WORKS, "torch": ImportTrial(False)}
    monkeypatch.setattr("samkr_edge.doctor.findings.try_packages", lambda: missing)
    assert run(["doctor"]) == 0
    assert "samkr-edge[train]" in capsys.readouterr().out.replace("\n", "")


def test_it_needs_the_standard_library_alone() -> None:
    code = """
import json, sys
others = ("numpy", "cv2", "onnxruntime", "pycocotools", "scipy", "pydantic", "yaml", "typer", "rich", "torch", "onnx")
for name in others:
    sys.modules[name] = None
from samkr_edge.doctor.environment import PACKAGES, environment
from samkr_edge.doctor.findings import findings
from samkr_edge.doctor.trial_import import ImportTrial
found = findings(environment(), {name: ImportTrial(False) for name in PACKAGES})
print(json.dumps([finding.detail for finding in found]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    details = json.loads(done.stdout)
    assert details[0] == "missing: pydantic, pyyaml, typer, rich"
    assert details[1].startswith("missing: pydantic, pyyaml, typer, rich, numpy")


def test_a_typer_that_is_too_old_is_not_ok() -> None:
    old = {**WORKS, "typer": ImportTrial(True, "0.15.0")}
    found = {finding.what: finding for finding in findings({**environment(), "packages": {}}, old)}
    assert not found["read its own files"].works
    assert "typer 0.15.0" in found["read its own files"].detail
