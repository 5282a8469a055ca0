"""One update: what half precision, memory layout and a gradient out of range do to it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SMALL, recipe_of, same, train

from samkr_edge.dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.checkpoint import load_checkpoint
from training.fit import LAST
from training.journal import LOG
from training.losses import PoseLoss
from training.models.zoo import build_model
from training.processes import Processes
from training.update import Updater, _not_finite


def losses(out: Path, people: KeypointDataset, **changes: Any) -> list[float]:
    train(out, people, log_steps=1, **changes)
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [line["heatmap"] + line["offset"] for line in lines]


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [({"channels_last": True}, 1e-3), ({"precision": "fp16"}, 2e-2), ({"precision": "bf16"}, 1e-1)],
    ids=["channels_last", "fp16", "bf16"],
)
def test_the_loss_curve_is_that_of_float32(
    tmp_path: Path, people: KeypointDataset, changes: dict[str, Any], tolerance: float
) -> None:
    plain = losses(tmp_path / "plain", people)
    assert losses(tmp_path / "other", people, **changes) == pytest.approx(plain, rel=tolerance)


def test_a_gradient_beyond_fp16_leaves_the_step_out_and_halves_the_scale(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PoseLoss.__call__
    calls = []

    def poisoned(self: PoseLoss, heatmap: torch.Tensor, *rest: Any) -> dict[str, torch.Tensor]:
        terms = whole(self, heatmap, *rest)
        calls.append(None)
        if len(calls) == 3:
            terms["heatmap"] = (
                terms["heatmap"] + (heatmap * 0).abs().sum().sqrt()
            )  # 0, with an infinite slope
        return terms

    monkeypatch.setattr(PoseLoss, "__call__", poisoned)
    constant = {"schedule": {"steps": 3}, "precision": "fp16", "ema": None}
    three = train(tmp_path / "three", people, **constant)
    two = train(tmp_path / "two", people, **{**constant, "schedule": {"steps": 2}})
    trained = {
        name: tensor for name, tensor in three.state.items() if "running" not in name and "num_" not in name
    }
    assert same(trained, {name: two.state[name] for name in trained})
    scales = [
        load_checkpoint(tmp_path / name / LAST).training["scaler"]["scale"] for name in ("two", "three")
    ]
    assert scales == [65536.0, 32768.0]


def test_compile_is_asked_for_by_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    team = Processes(torch.device("cpu"))
    Updater(build_model(SMALL), recipe_of(), team)
    assert not compiled
    Updater(build_model(SMALL), recipe_of(compile=True), team)
    assert len(compiled) == 1


def test_a_branch_that_no_loss_uses_is_not_trained() -> None:
    from dataclasses import replace

    network = build_model(replace(SMALL, scale_branch=True))
    Updater(network, recipe_of(loss={"kind": "dekr"}), Processes(torch.device("cpu")))
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {
        n for n, _ in network.named_parameters() if n.startswith("heatmap_head.scale")
    }


def test_a_broken_batch_is_found_among_those_of_all_processes() -> None:
    seen = [[(0.5, [1, 2]), (0.4, [3])], [(0.3, [4]), (float("nan"), [5, 6])]]
    assert "images     5, 6" in _not_finite(seen, float("nan"), 7, Path("none")).facts
    error = _not_finite([[(0.5, [1, 2])], [(0.4, [3])]], float("inf"), 7, Path("none"))
    assert "gradient's norm is inf at step 7" in error.message
    assert "images     1, 2, 3" in error.facts


def test_batches_that_cannot_be_shared_are_refused() -> None:
    two = Processes(torch.device("cpu"), rank=0, count=2)
    assert two.share(4) == 2
    with pytest.raises(SamkrError) as caught:
        two.share(1)
    assert caught.value.code == "SE-U72"
