"""ONNX Runtime is imported without its telemetry: no file, and no word to anybody."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from samkr_edge import child_process
from samkr_edge.machine.onnx_runtime_module import switch_off_telemetry

OPENED = "import sys, samkr_edge; samkr_edge.load(sys.argv[1]).close()"


@pytest.mark.parametrize(
    "command",
    [child_process.code(OPENED), child_process.module("samkr_edge.doctor.trial_import", "onnxruntime")],
    ids=["load", "doctor"],
)
def test_a_session_leaves_no_file_in_the_home_of_its_user(
    command: list[str], red_dot_model: Path, tmp_path: Path
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_DISABLE"))
    }
    subprocess.run(
        [*command, str(red_dot_model)], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=60
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_who_has_chosen_keeps_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    switch_off_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
