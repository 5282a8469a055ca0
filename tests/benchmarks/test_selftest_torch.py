"""Stage 12 of the self-test, on the CPU: it passes, and what is wrong fails the check that it belongs to."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from selftest_rig import by_name, rig_in

import training.export
from benchmarks.selftest import torch_on_gpu
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from training import gpu_checks
from training.checkpoint import Checkpoint
from training.loop.update import Updater
from training.models import looped_head
from training.models.config import ModelConfig
from training.models.zoo import build_model

SMALL = ModelConfig(
    "small", input_size=(64, 64), width=4, stem_channels=8, bottlenecks=1, stage_modules=(1, 1, 1), blocks=1,
    channels=4, groups=2, adaptive_blocks=1, identity_init=True, offset_scale=8.0, default_init=True,
)  # fmt: skip


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names of the checks that fail, of a stage with few steps of small networks: a CPU's bf16 is slow."""
    both_heads, half_training = looped_head.both_heads, gpu_checks.half_training
    monkeypatch.setattr(gpu_checks, "both_heads", lambda model, keypoints: both_heads("samkr_tiny", 3))
    monkeypatch.setattr(gpu_checks, "model_config", lambda name, keypoints: SMALL)
    small = Checkpoint(ModelCard("small", COCO17, SMALL.input_size), SMALL, build_model(SMALL).state_dict())
    monkeypatch.setattr(gpu_checks, "untrained_checkpoint", lambda name: small)
    monkeypatch.setattr(gpu_checks, "half_training", partial(half_training, batch_size=2))

    def run() -> set[str]:
        found = by_name(torch_on_gpu.checks(rig_in(tmp_path), device="cpu", steps=1))
        assert len(found) == 5
        assert all(check.passed is not None for check in found.values())
        return {name for name, check in found.items() if not check.passed}

    return run


def test_torch_on_this_cpu_passes(failed: Any) -> None:
    assert failed() == set()


def test_a_head_that_samples_elsewhere_fails(failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looped = looped_head.looped_adaptive_block
    monkeypatch.setattr(
        looped_head,
        "looped_adaptive_block",
        lambda block, x, branch, k: looped(block, x.roll(1, dims=-1), branch, k).roll(-1, dims=-1),
    )
    assert failed() == {f"grouped head against the loop, {kind}" for kind in ("float64", "float32")}


def test_a_gradient_that_is_not_a_number_fails(failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, calls = gpu_checks._offsets_and_gradients, []

    def breaks(head: Any, x: Any) -> Any:
        offsets, *gradients = compute(head, x)
        calls.append(1)
        if len(calls) == 1:  # float64's first form, of whose tensors this is not the first
            gradients[-1] = gradients[-1] * torch.nan
        return [offsets, *gradients]

    monkeypatch.setattr(gpu_checks, "_offsets_and_gradients", breaks)
    assert failed() == {"grouped head against the loop, float64"}


def test_a_weight_that_becomes_nan_in_bf16_fails(failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Updater.update
    updates: list[torch.dtype | None] = []

    def breaks(self: Updater, *arguments: Any) -> dict[str, float]:
        terms = update(self, *arguments)
        updates.append(self._half)
        if self._half is torch.bfloat16:  # the last step: nothing after it looks at the weights
            self._parameters[0].data[0] = torch.nan
        return terms

    monkeypatch.setattr(Updater, "update", breaks)
    assert failed() == {"training in bf16"}
    assert updates == [None, torch.bfloat16]


def test_a_loss_that_bf16_loses_fails(failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Updater.update

    def less(self: Updater, *arguments: Any) -> dict[str, float]:
        terms = update(self, *arguments)
        return {name: term * (1 if self._half is None else 0.5) for name, term in terms.items()}

    monkeypatch.setattr(Updater, "update", less)
    assert failed() == {"training in bf16"}


def test_an_export_that_depends_on_the_device_fails(failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    export = training.export.export_onnx

    def off(network: torch.nn.Module, card: Any, path: Path) -> None:
        if path.name == "checkpoint.onnx":
            next(network.parameters()).data *= 1.01
        export(network, card, path)

    monkeypatch.setattr(gpu_checks, "export_onnx", off)
    assert failed() == {"export of a checkpoint"}
