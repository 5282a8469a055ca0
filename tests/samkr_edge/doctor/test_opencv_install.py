"""Any OpenCV that imports will do: whose it is, what it can do, and how to get another, for a desktop and a Jetson."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import samkr_edge
from samkr_edge.cli import missing_package
from samkr_edge.doctor import opencv_install
from samkr_edge.doctor.environment import PACKAGES, environment
from samkr_edge.doctor.findings import findings
from samkr_edge.doctor.trial_import import ImportTrial
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import described_by_files

WORKS = {name: ImportTrial(True, "99.0") for name in PACKAGES}
GTK = "\n  GUI:                           GTK3\n    GTK+:                        YES (ver 3.24.33)\n\n"
OLD_GTK = (
    "\n  GUI: \n    GTK+:                        YES (ver 2.24.32)\n      GThread :                  YES\n\n"
)
NO_GTK = "\n  GUI: \n    GTK+:                        NO\n    VTK support:                 NO\n\n"
HEADLESS = "\n  GUI:                           NONE\n    VTK support:                 NO\n\n"
GSTREAMER = "\n    GStreamer:                   YES (1.20.3)\n"
PIPS, JETPACKS = HEADLESS + "\n    GStreamer:                   NO\n", GTK + GSTREAMER


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``pip("opencv-python")``: what pip has installed of OpenCV."""

    def has(*names: str) -> None:
        monkeypatch.setattr(opencv_install, "distribution_version", lambda n: "4.13" if n in names else None)

    has()
    return has


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """The files of a Jetson with JetPack's OpenCV."""
    package = tmp_path / "usr/lib/python3.10/dist-packages/cv2"
    package.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"
    )
    return tmp_path


def imported(information: str, folder: str = "/usr/lib/python3.10/dist-packages") -> Any:
    """A cv2 that was built so."""
    return SimpleNamespace(
        __version__="4.8.0", __file__=f"{folder}/cv2/__init__.py", getBuildInformation=lambda: information
    )


def test_the_systems_own_is_as_good_as_pips(pip: Any, jetson: Path) -> None:
    found = opencv_install.opencv_finding(imported(JETPACKS), jetson)
    assert found.works
    assert found.detail == (
        "4.8.0 in /usr/lib/python3.10/dist-packages/cv2, not by pip; has GStreamer (csi, pipelines), windows (--show)"
    )


@pytest.mark.parametrize(("text", "has"), [(GTK, True), (OLD_GTK, True), (NO_GTK, False), (HEADLESS, False)])
def test_windows_are_read_from_how_it_was_built(pip: Any, tmp_path: Path, text: str, has: bool) -> None:
    detail = opencv_install.opencv_finding(imported(text), tmp_path).detail
    assert ("has windows" in detail) == has


def test_pips_over_jetpacks_is_named_with_the_command_that_takes_it_away(pip: Any, jetson: Path) -> None:
    pip("opencv-python-headless")
    found = opencv_install.opencv_finding(imported(PIPS, "/venv"), jetson)
    assert not found.works
    assert "hides JetPack's own" in found.detail
    assert found.fix.startswith("pip uninstall -y opencv-python-headless   #")
    assert opencv_install.opencv_finding(imported(PIPS, "/venv"), jetson / "nowhere").works  # a desktop


def test_two_of_pips_are_named(pip: Any, tmp_path: Path) -> None:
    pip("opencv-python", "opencv-python-headless")
    found = opencv_install.opencv_finding(imported(PIPS), tmp_path)
    assert not found.works
    assert "write into one folder" in found.detail


def test_the_way_to_one_depends_on_the_device(pip: Any, jetson: Path, tmp_path: Path) -> None:
    desktop = tmp_path / "nowhere"
    assert opencv_install.how_to_get(desktop) == 'pip install "samkr-edge[opencv]"'
    assert "--system-site-packages" in opencv_install.how_to_get(jetson)
    (jetson / "usr/lib/python3.10/dist-packages/cv2").rmdir()
    assert opencv_install.how_to_get(jetson).startswith("sudo apt install nvidia-opencv")
    pip("opencv-python-headless")
    windows = opencv_install.how_to_get_more(gstreamer=False, root=desktop)
    assert windows == "pip uninstall -y opencv-python-headless && pip install opencv-python"
    assert "python3-opencv" in opencv_install.how_to_get_more(gstreamer=True, root=desktop)


def test_one_that_does_not_import_is_mended_where_it_came_from(pip: Any) -> None:
    numpy = "ImportError: numpy.core.multiarray failed to import"
    broken = {**WORKS, "opencv": ImportTrial(True, error=numpy)}
    found = {finding.what: finding for finding in findings(environment(), broken)}
    assert found["run and score models"].fix.startswith('pip install "numpy<2"')
    assert "OpenCV" not in found
    pip("opencv-python")
    assert opencv_install.how_to_mend(numpy).startswith("pip uninstall -y opencv-python && pip install")


def test_one_of_nobody_that_does_not_import_is_mended_by_that_devices_own(pip: Any, jetson: Path) -> None:
    assert opencv_install.how_to_mend("broken", jetson) == opencv_install.how_to_get(jetson)
    assert opencv_install.how_to_mend("broken", jetson / "nowhere") == opencv_install.EXTRA


def test_a_missing_one_is_told_with_the_extra() -> None:
    nothing = {**WORKS, "opencv": ImportTrial(False)}
    found = {finding.what: finding for finding in findings(environment(), nothing)}
    assert found["run and score models"].fix == 'pip install "samkr-edge[opencv]"'
    without = {**nothing, "onnx": ImportTrial(False)}
    found = {finding.what: finding for finding in findings(environment(), without)}
    assert found["build for the CPU"].fix == 'pip install "samkr-edge[opencv,build]"'
    error = missing_package("predict", ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert isinstance(error, SamkrError)
    assert (error.code, error.fix) == ("SE-U71", 'pip install "samkr-edge[opencv]"')


def test_a_script_gets_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("samkr_edge.pose_model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SamkrError) as caught:
        samkr_edge.load("m.onnx")
    assert caught.value.code == "SE-U71"


def test_no_fix_lays_pips_over_a_jetsons_own(pip: Any, jetson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opencv_install.pip_line("train", True, jetson) == 'pip install "samkr-edge[train]"'
    assert (
        opencv_install.pip_line("train", True, jetson / "nowhere") == 'pip install "samkr-edge[opencv,train]"'
    )
    pip("opencv-python")
    assert opencv_install.how_to_mend("broken", jetson).endswith(
        "opencv-python   # JetPack's own is then found"
    )
    pip("opencv-python", "opencv-contrib-python")
    two = opencv_install.opencv_finding(imported(PIPS), jetson)
    assert two.fix.endswith("opencv-python opencv-contrib-python   # JetPack's own is then found")
    pip()
    monkeypatch.setattr(opencv_install, "described_by_files", lambda root: described_by_files(jetson))
    lacks = dict.fromkeys(
        ("opencv", "torch", "onnx", "nvidia-modelopt", "jinja2", "tensorrt-rtx"), ImportTrial(False)
    )
    for finding in findings(environment(), {**WORKS, **lacks}):
        assert "samkr-edge[opencv" not in finding.fix, finding


def test_no_extra_but_its_own_brings_opencv() -> None:
    """pip would lay it over a Jetson's own; `all` and `dev`, which are not for devices, say so by name."""
    tables = re.findall(
        r"^([\w-]+) = \[(.*?)\]$",
        (Path(__file__).parents[3] / "pyproject.toml")
        .read_text(encoding="utf-8")
        .partition("\ndependencies")[2]
        .partition("[project.urls]")[0],
        flags=re.MULTILINE | re.DOTALL,
    )
    assert {name for name, wants in tables if "opencv" in wants} == {"opencv", "all"}
