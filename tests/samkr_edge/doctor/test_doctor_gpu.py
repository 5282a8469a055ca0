"""What `samkr-edge doctor` says of CUDA and TensorRT: the names they are installed under, and what opening them gave.

The stand-ins fail as users' logs of the real ones do; no GPU is needed, since each is tried in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from samkr_edge.doctor import findings as doctor
from samkr_edge.doctor import gpu_findings
from samkr_edge.doctor.diagnosis import Diagnosis
from samkr_edge.doctor.environment import PACKAGES, environment
from samkr_edge.doctor.findings import findings
from samkr_edge.doctor.gpu_trial import BACKENDS, GpuTrial, try_on_gpu
from samkr_edge.doctor.tensorrt_install import TensorRTInstall, systems_tensorrt, tensorrt_install
from samkr_edge.doctor.trial_import import ImportTrial
from samkr_edge.machine.driver import gpu_count
from samkr_edge.runtime import cuda

WORKS = {name: ImportTrial(True, "99.0") for name in PACKAGES}
WITHOUT = {**WORKS, "tensorrt": ImportTrial(False)}
CARD = {"gpus": 1, "cuda": "12.6", "jetson": None}
ORIN = {"gpus": 1, "cuda": "12.6", "jetson": "NVIDIA Jetson Orin NX R36 (release), REVISION: 4.3"}
ERROR_35 = "CUDA initialization failure with error: 35. Please check your CUDA installation"


def install(folder: Path, **distributions: list[str]) -> None:
    """Metadata as pip leaves it: ``tensorrt_cu12-10.3.0.dist-info``, by name with what each asks for."""
    for name, asked in distributions.items():
        path = folder / f"{name}-10.3.0.dist-info" / "METADATA"
        path.parent.mkdir(parents=True)
        lines = [f"Name: {name}", "Version: 10.3.0", *(f"Requires-Dist: {one}" for one in asked)]
        path.write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


# What each kind of installation leaves in the metadata.
NVIDIA = {
    "pip tensorrt-cu12": (
        {"tensorrt_cu12": ["tensorrt_cu12_libs"], "tensorrt_cu12_libs": [], "tensorrt_cu12_bindings": []},
        (12,),
    ),
    "pip tensorrt": ({"tensorrt": ["tensorrt_cu13==10.3.0"], "tensorrt_cu13": []}, (13,)),
    "pip, without its front": ({"tensorrt_cu12_bindings": []}, (12,)),
    "pip tensorrt 8.6": ({"tensorrt": [], "tensorrt_libs": ["nvidia-cuda-runtime-cu12"]}, (12,)),
    "JetPack 6": ({"tensorrt": [], "tensorrt_lean": [], "tensorrt_dispatch": []}, ()),
    "two of them": ({"tensorrt_cu12": [], "tensorrt_cu13": []}, (12, 13)),
}


@pytest.mark.parametrize("kind", NVIDIA)
def test_every_name_of_tensorrt_is_known(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributions, cuda = NVIDIA[kind]
    install(tmp_path, **distributions)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = tensorrt_install("tensorrt")
    assert (found.version, found.cuda) == ("10.3.0", cuda)
    assert environment()["packages"]["tensorrt"] == "10.3.0"


def test_a_tensorrt_without_metadata_has_its_version_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt/__init__.py").write_text(
        '__version__ = "8.5.2.2"\nraise ImportError("is not imported")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt")  # the suite hides what is installed
    assert tensorrt_install("tensorrt") == TensorRTInstall((), "8.5.2.2", ())


def test_none_is_none() -> None:
    assert tensorrt_install("tensorrt") == TensorRTInstall((), None, ())
    assert "tensorrt" not in environment()["packages"]


# -- Opening, in a process of its own ------------------------------------------------------------------------------

STAND_IN = """
import os, sys
__version__ = "10.14.1"
class Logger:
    WARNING = 1
    def __init__(self, severity): pass
class Builder:
    def __new__(cls, logger):
        {body}
"""
BODIES = {
    "works": ("return object.__new__(cls)", GpuTrial(True, "tensorrt 10.14.1, Builder made")),
    # Lines and exception as in the logs of TensorRT 10's users.
    "error 35": (
        f'print("[TRT] [E] createInferBuilder: Error Code 6: API Usage Error ({ERROR_35})", file=sys.stderr); '
        'raise TypeError("pybind11::init(): factory function returned nullptr")',
        GpuTrial(False, "pybind11::init(): factory function returned nullptr", 35),
    ),
    "gives nothing": ("return None", GpuTrial(False, "Builder returned nothing")),
    "ends the process": (
        f'print("[TRT] [W] {ERROR_35}", file=sys.stderr, flush=True); os._exit(134)',
        GpuTrial(False, f"it crashes the process (exit code 134): [TRT] [W] {ERROR_35}", 35),
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_builder_is_really_made(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, expected = BODIES[kind]
    (tmp_path / "tensorrt.py").write_text(STAND_IN.format(body=body))
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    assert try_on_gpu(["tensorrt"]) == {"tensorrt": expected}


def test_an_engine_of_tensorrt_for_rtx_is_really_loaded() -> None:
    """The real one: it makes builder, engine and runtime without a driver, and tells at loading."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("TensorRT for RTX is not installed")
    trial = try_on_gpu(["tensorrt-rtx"])["tensorrt-rtx"]
    if gpu_count() == 0:
        assert trial == GpuTrial(False, "a one-layer engine could not be loaded", 35)


def test_every_way_to_cuda_is_known() -> None:
    assert tuple(cuda.BACKENDS) == BACKENDS


def test_the_drivers_own_way_is_tried_and_says_why_it_fails() -> None:
    trial = try_on_gpu(["driver"])["driver"]
    assert trial.works == (gpu_count() > 0)
    assert trial.said.startswith("opened" if trial.works else "there is no NVIDIA GPU")


def test_without_a_gpu_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "try_on_gpu", lambda names: pytest.fail("opened"))
    assert doctor.try_gpu({"gpus": 0}, WORKS) == {}


def test_what_is_installed_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, cuda_bindings=[])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "try_on_gpu", lambda names: dict.fromkeys(names, GpuTrial(True, "")))
    assert list(doctor.try_gpu({"gpus": 1}, {**WORKS, "tensorrt-rtx": ImportTrial(False)})) == [
        "driver", "cuda-python", "tensorrt",
    ]  # fmt: skip


# -- What is said ------------------------------------------------------------------------------------------------


def row(
    what: str, facts: dict[str, Any], trials: dict[str, ImportTrial] = WORKS, **opened: GpuTrial
) -> Diagnosis:
    by_name = {name.replace("_", "-"): trial for name, trial in opened.items()}
    found = {finding.what: finding for finding in findings({**environment(), **facts}, trials, by_name)}
    return found[what]


def test_a_builder_that_was_made_is_ok() -> None:
    found = row("TensorRT engines", CARD, tensorrt=GpuTrial(True, "tensorrt 10.3.0, Builder made"))
    assert found.works
    assert found.detail.endswith("Builder made")


def test_a_driver_that_is_too_old_says_what_it_knows_and_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, tensorrt_cu13=[], tensorrt_cu13_libs=[])
    monkeypatch.syspath_prepend(str(tmp_path))
    found = row("TensorRT engines", CARD, tensorrt=GpuTrial(False, "returned nullptr", 35))
    assert not found.works
    assert found.detail == (
        "the driver is too old for this TensorRT: it supports CUDA 12.6, tensorrt-cu13 needs CUDA 13"
    )
    assert found.fix.startswith("update the driver to 580.65 or newer, or: pip uninstall tensorrt-cu13 ")
    assert found.fix.endswith("pip install tensorrt-cu12")
    # It is seen from the names alone too, and a Jetson's driver is not updated by itself.
    assert row("one TensorRT", CARD).detail == found.detail
    assert "JetPack's own fits" in row("one TensorRT", ORIN).fix


def test_a_driver_that_fits_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, tensorrt_cu12=[])
    monkeypatch.syspath_prepend(str(tmp_path))
    for known in ("12.0", "13.1"):
        facts = {**environment(), **CARD, "cuda": known}
        assert "one TensorRT" not in {finding.what for finding in findings(facts, WORKS)}


def test_of_two_tensorrts_the_one_that_fits_the_driver_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, tensorrt_cu12=[], tensorrt_cu13=[], tensorrt_cu13_libs=[])
    monkeypatch.syspath_prepend(str(tmp_path))
    found = row("one TensorRT", CARD)
    assert found.detail.startswith("tensorrt-cu12 and tensorrt-cu13 write into the same folder")
    assert found.fix == (
        "pip uninstall tensorrt-cu13 tensorrt-cu13-libs && pip install --force-reinstall tensorrt-cu12"
    )
    newer = row("one TensorRT", {**CARD, "cuda": "13.0"})
    assert newer.fix == "pip uninstall tensorrt-cu12 && pip install --force-reinstall tensorrt-cu13"


def test_another_failure_is_told_in_its_own_words() -> None:
    busy = row("TensorRT engines", CARD, tensorrt=GpuTrial(False, "returned nullptr", 46))
    assert busy.detail.endswith("returned nullptr (another program uses the GPU exclusively)")
    rtx = row("run engines for GeForce RTX", CARD, tensorrt_rtx=GpuTrial(False, "returned nullptr", 35))
    assert "the driver is too old for this TensorRT for RTX" in rtx.detail


@pytest.mark.parametrize(
    ("facts", "fix"),
    [
        (CARD, "pip install tensorrt-cu12"),
        ({**CARD, "cuda": "13.2"}, "pip install tensorrt-cu13"),
        ({**CARD, "cuda": None}, 'pip install "samkr-edge[tensorrt]"'),
        (ORIN, "sudo apt install python3-libnvinfer"),
    ],
)
def test_a_missing_tensorrt_is_installed_for_the_drivers_cuda(facts: dict[str, Any], fix: str) -> None:
    found = row("TensorRT engines", facts, WITHOUT)
    assert found.detail == "missing: tensorrt"
    assert found.fix.startswith(fix)


def test_the_lean_runtime_is_no_substitute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, tensorrt_lean_cu12=[])
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "without a builder" in row("TensorRT engines", CARD, WITHOUT).detail


def test_a_package_for_cuda_that_does_not_open_is_not_needed() -> None:
    said = 'a CUDA call failed; answer Function "cuEventElapsedTime_v2" not found'
    opened = {"driver": GpuTrial(True, "opened; 5.1 of 7.4 GB free"), "cuda_python": GpuTrial(False, said)}
    assert row("CUDA by the driver", CARD, **opened).works
    found = row("CUDA by cuda-python", CARD, **opened)
    assert (found.works, found.detail) == (False, said)
    assert found.fix == 'ignore it: samkr-edge needs only the driver; or: pip install "cuda-python==12.*"'


# -- JetPack -----------------------------------------------------------------------------------------------------


def jetpacks_python(root: Path, version: str) -> Path:
    package = root / f"usr/lib/python{version}/dist-packages/tensorrt/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text('__version__ = "10.3.0"\n')
    return package.parent.parent


def test_jetpacks_tensorrt_is_found_where_the_environment_does_not_look(tmp_path: Path) -> None:
    assert systems_tensorrt(tmp_path) is None
    systems = jetpacks_python(tmp_path, "3.10")
    assert systems_tensorrt(tmp_path) == systems
    (tmp_path / "env").mkdir()
    (tmp_path / "env/pyvenv.cfg").write_text("include-system-site-packages = false\n")

    venv = gpu_findings.hidden_tensorrt(systems, str(tmp_path / "env"), (3, 10))
    assert "made without --system-site-packages" in venv.detail
    assert venv.fix.startswith(f"python3 -m venv --system-site-packages {tmp_path}/env")

    other = gpu_findings.hidden_tensorrt(systems, str(tmp_path / "env"), (3, 12))
    assert "it is for Python 3.10, and this is Python 3.12" in other.detail
    assert other.fix.startswith("/usr/bin/python3.10 -m venv --system-site-packages")

    conda = gpu_findings.hidden_tensorrt(systems, str(tmp_path / "conda"), (3, 10))
    assert "is not the system's" in conda.detail


def test_doctor_says_so_before_it_says_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = jetpacks_python(tmp_path, "3.10")
    monkeypatch.setattr(doctor, "systems_tensorrt", lambda: systems)
    assert str(systems) in row("TensorRT engines", ORIN, WITHOUT).detail
    assert str(systems) not in row("TensorRT engines", ORIN).detail


def test_a_jetson_whose_release_is_hidden_is_told_how_to_show_it() -> None:
    hidden = {**ORIN, "jetson": "tegra234 L4T unknown"}
    assert "-v /etc/nv_tegra_release" in row("JetPack version", hidden).fix
    assert "JetPack version" not in {finding.what for finding in findings({**environment(), **ORIN}, WORKS)}


def test_a_container_without_nvidias_runtime_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "why_no_gpu", lambda: "libcuda.so.1 cannot be loaded: a container hides it")
    found = row("TensorRT engines", {**ORIN, "gpus": 0})
    assert (found.works, found.detail) == (False, "libcuda.so.1 cannot be loaded: a container hides it")
    assert found.fix.startswith("docker run --runtime nvidia")


def test_the_whole_is_plain_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from samkr_edge.cli import run

    monkeypatch.setattr(doctor, "try_packages", lambda: WORKS)
    monkeypatch.setattr("samkr_edge.doctor.environment.gpu_count", lambda: 1)
    monkeypatch.setattr(doctor, "try_on_gpu", lambda names: dict.fromkeys(names, GpuTrial(False, "no", 35)))
    assert run(["doctor", "--json"]) == 0
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["findings"]}
    assert not rows["TensorRT engines"]["works"]
    assert not rows["CUDA by the driver"]["works"]
