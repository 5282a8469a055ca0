"""Two processes, started as a user does with torchrun, train like one that makes all their batches itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from training.checkpoint import load_checkpoint
from training.loop.processes import processes

RECIPE = """
model: samkr_tiny
batch_size: 2
accumulate: 2
precision: fp32
log_steps: 1
data: {input_size: [64, 64], sigma: 1.0, center_sigma: 1.5, offset_radius: 2}
optimizer: {lr: 1.0e-3, clip_norm: 5.0}
schedule: {steps: 4}
validation: {every_epochs: 100, images: 1}
"""


def curve(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["heatmap"] + line["offset"] for line in lines if "heatmap" in line]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, people_folder: Path) -> Path:
    """``one``: one process; ``two``: two, with ``printed.json`` and ``told.txt``; ``half``: half of their batches."""
    root = tmp_path_factory.mktemp("processes")
    (root / "short.yaml").write_text(RECIPE)

    def arguments(name: str, *more: str) -> list[str]:
        where = ["--data", str(people_folder), "--out", str(root / name), "--threads", "1"]
        return ["train", str(root / "short.yaml"), *where, "--json", *more]

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "samkr_edge", *arguments("two")], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (root / "printed.json").write_text(done.stdout)
    (root / "told.txt").write_text(done.stderr)
    assert run(arguments("one")) == 0
    assert run(arguments("half", "--set", "accumulate=1")) == 0
    return root


def test_the_loss_curve_is_the_single_processs(runs: Path) -> None:
    assert curve(runs / "two") == pytest.approx(curve(runs / "one"), rel=1e-3)
    assert curve(runs / "half") != pytest.approx(curve(runs / "one"), rel=1e-2)


def test_the_weights_are_too(runs: Path) -> None:
    one, two = (load_checkpoint(runs / name / "final.pt") for name in ("one", "two"))
    # Running statistics are those of the first process's batches, the rest went through the same updates.
    name = "backbone.conv1.weight"
    assert (one.state[name] - two.state[name]).abs().mean() < 1e-4  # after four steps of about 1e-3
    assert one.card.provenance["training"]["images"] == two.card.provenance["training"]["images"] == 16


def test_the_first_process_alone_writes_and_prints(runs: Path) -> None:
    printed: Any = json.loads((runs / "printed.json").read_text())
    assert printed["checkpoint"] == str(runs / "two" / "final.pt")
    found = sorted(path.name for path in (runs / "two").iterdir() if path.name != "tensorboard")
    assert found == ["best.pt", "final.pt", "last.pt", "log.jsonl"]


def test_torch_has_nothing_to_warn_of(runs: Path) -> None:
    told = (runs / "told.txt").read_text()
    assert "trained in fp32" in told
    assert [line for line in told.splitlines() if "Warning" in line] == []


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**launched, "TORCHELASTIC_RUN_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SamkrError) as caught, processes():
        pass
    assert caught.value.code == "SE-V73"
    assert "--nproc-per-node 1" in caught.value.fix


def test_what_a_backend_prints_when_it_connects_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(dist, "init_process_group", lambda *a, **k: os.write(1, b"[Gloo] connected"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with processes() as one:
        print(f"process {one.rank}")
    printed = capfd.readouterr()
    assert printed.out == "process 0\n"
    assert "[Gloo] connected" in printed.err
