"""Stages of an earlier run that need not be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.selftest.outcome import Outcome
from benchmarks.selftest.report import SCHEMA_VERSION
from benchmarks.selftest.stage import Check, Stage
from samkr_edge.artefact import json_text, read_json


def still_holding(file: Path, facts: Mapping[str, Any], stages: Sequence[Stage]) -> list[Outcome]:
    """Those of these stages that passed in ``file``, where machine, versions and code are the same; else none.

    Raises:
        SamkrError: SE-D02, SE-D03 the file is there and cannot be read.
    """
    if not file.is_file():
        return []
    found = read_json(file, "the self-test's results")
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        return []
    # As they are after a way through JSON, where a tuple is a list.
    if any(json_text(found.get(name)) != json_text(fact) for name, fact in facts.items()):
        return []
    wanted = {stage.number for stage in stages}
    return [
        Outcome(**{**one, "checks": tuple(Check(**check) for check in one["checks"]), "said": ()})
        for one in found["stages"]
        if one["state"] == "passed" and one["number"] in wanted
    ]
