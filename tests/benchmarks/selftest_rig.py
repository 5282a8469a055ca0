"""A rig for stages of the self-test, and their checks by name."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.selftest.stage import Check, Rig


def rig_in(folder: Path) -> Rig:
    rig = Rig(folder / "stage", folder / "shared")
    rig.folder.mkdir()
    rig.shared.mkdir()
    return rig


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    found = list(checks)
    named = {check.what: check for check in found}
    assert len(named) == len(found), "two checks have one name"
    return named
