"""Stages of an earlier run that need not be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.selftest.outcome import StageOutcome
from benchmarks.selftest.report import SCHEMA_VERSION
from benchmarks.selftest.stage import Check, Stage
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.artefact import json_of, json_text
from samkr_edge.fixes import quoted


def still_holding(file: Path, facts: Mapping[str, Any], stages: Sequence[Stage]) -> list[StageOutcome]:
    """The stages that passed in ``file``, if machine, versions and code are the same; else none.

    Raises:
        SamkrError: SE-A64 the file exists and is not a self-test's.
    """
    if not file.is_file():
        return []
    wanted = {stage.number for stage in stages}
    try:
        found = json_of(file.read_text(encoding="utf-8"))
        # As read back from JSON, where a tuple is a list.
        if found["schema_version"] != SCHEMA_VERSION or any(
            json_text(found.get(name)) != json_text(fact) for name, fact in facts.items()
        ):
            return []
        passed = [one for one in found["stages"] if one["state"] == "passed" and one["number"] in wanted]
        return [
            StageOutcome(**{**one, "checks": tuple(Check(**check) for check in one["checks"]), "said": ()})
            for one in passed
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SamkrError(
            "SE-A64",
            f"{file} was not written by a self-test, so no stage was run",
            {"reason": f"{type(error).__name__}: {reason_of(error)}"},
            fix=f"mv {quoted(file)} {quoted(f'{file}.old')}   # then the same command runs every stage",
        ) from error
