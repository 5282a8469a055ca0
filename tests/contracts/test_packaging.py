"""What the wheel and the sdist ship, and what they say of themselves."""

import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[2]
PACKAGES = {"samkr_edge", "targets", "training", "calibration", "benchmarks"}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_the_five_packages_and_no_tests(shipped: set[str]) -> None:
    top = {name.split("/")[0] for name in shipped}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_scripts_that_need_a_checkout_and_kept_runs_stay_in_it(shipped: set[str]) -> None:
    assert not [name for name in shipped if name.startswith(("benchmarks/host/", "benchmarks/results/"))]


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [
        ("targets", ".yaml"),
        ("training/recipes", ".yaml"),
        ("calibration/policies", ".yaml"),
        ("benchmarks/report", ".j2"),
        ("samkr_edge/serve/page", ".html"),
        ("samkr_edge/serve/page", ".css"),
        ("samkr_edge/serve/page", ".js"),
        ("benchmarks/sweep/suites", ".yaml"),
        ("benchmarks/selftest/carried", ".gz"),
        ("benchmarks/selftest/carried", ".npz"),
        ("training/ready/shipped", ".npz"),
    ],
)
def test_the_wheel_holds_every_data_file(shipped: set[str], folder: str, suffix: str) -> None:
    here = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(f"*{suffix}")}
    assert here
    assert here <= shipped


def test_every_package_is_marked_as_typed(shipped: set[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped


def test_the_licence_travels_with_the_wheel(shipped: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in shipped)


def test_the_sdist_can_be_built_and_tested_by_whoever_gets_it(tmp_path: Path) -> None:
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CONTRIBUTING.md", "Makefile"} <= names
    assert {"install.sh", "constraints.txt", "tests/conftest.py", "mkdocs.yml", "CHANGELOG.md"} <= names
    assert {f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.is_file()} <= names
    assert {f"{package}/__init__.py" for package in PACKAGES} <= names


@pytest.fixture(scope="module")
def project() -> ProjectMetadata:
    return ProjectMetadata(str(ROOT), PluginManager())


def test_the_wheel_says_what_it_is(project: ProjectMetadata) -> None:
    core = project.core
    assert "INT8" in core.description
    assert core.readme_content_type == "text/markdown"
    assert core.license_expression == "Apache-2.0"
    assert {"SAMKR", "TensorRT", "Jetson", "INT8", "pose estimation"} <= set(core.keywords)
    assert "Topic :: Scientific/Engineering :: Image Recognition" in core.classifiers
    assert all(url.startswith("https://") for url in core.urls.values())
    assert core.urls


def test_the_range_of_pythons_is_the_same_wherever_it_stands(project: ProjectMetadata) -> None:
    found = re.fullmatch(r"<3\.(\d+),>=3\.(\d+)", project.core.requires_python)
    assert found is not None, project.core.requires_python
    oldest, newest = int(found[2]), int(found[1]) - 1
    prefix = "Programming Language :: Python :: 3."
    minors = [c.removeprefix(prefix) for c in project.core.classifiers if c.startswith(prefix)]
    assert minors == [str(minor) for minor in range(oldest, newest + 1)]
    assert f"OLDEST={oldest} NEWEST={newest}" in (ROOT / "install.sh").read_text()
    for document in ("README.md", "CONTRIBUTING.md", "samkr_edge/__init__.py"):
        text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
        assert f"Python 3.{oldest} to 3.{newest}" in text, document
    assert os.access(ROOT / "install.sh", os.X_OK)
