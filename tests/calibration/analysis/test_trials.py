"""A file of trials that was edited or damaged is refused, and never written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("modelopt", reason="trials are of quantized networks")

from calibration.analysis.trials import SCHEMA_VERSION, TrialStore
from samkr_edge.errors import SamkrError


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"trials": []},
        {"trials": None},
        {"trials": {"k": 5}},
        {"trials": {"k": {}}},
        {"trials": {"k": {"trial": {}}}},
    ],
)
def test_what_holds_no_trials_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    path = tmp_path / "trials.json"
    path.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **content}))
    before = path.read_bytes()
    with pytest.raises(SamkrError) as refused:
        TrialStore(path).get("k")
    assert refused.value.code == "SE-D80"
    assert refused.value.fix is not None
    assert refused.value.fix.startswith(f"mv {path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b'{"trials": {', b"\xff"])
def test_a_file_that_was_cut_off_is_set_aside_not_restored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trials.json"
    path.write_bytes(content)
    with pytest.raises(SamkrError) as refused:
        TrialStore(path)
    assert refused.value.code == "SE-D80"
    assert str(refused.value.fix).startswith(f"mv {path} ")
    assert path.read_bytes() == content
