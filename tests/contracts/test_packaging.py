"""What the wheel ships: the five packages with their data files, and nothing else."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

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


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [
        ("targets", ".yaml"),
        ("training/recipes", ".yaml"),
        ("calibration/policies", ".yaml"),
        ("benchmarks/templates", ".j2"),
        ("benchmarks/suites", ".yaml"),
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
