"""Torch's results on a GPU against references: the grouped head, a bf16 training step, the export.

It returns plain numbers; the caller sets the limits. All of it runs on ``cpu`` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.files.artefact import sha256_of
from training.checkpoint import load_checkpoint, network_of, save_checkpoint, untrained_checkpoint
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.settings import AugmentSettings, EncodeSettings
from training.data.training_set import TrainingSet
from training.export import export_onnx
from training.loop.batches import Batches
from training.loop.precision import allow_tf32
from training.loop.processes import Processes
from training.loop.recipe import settings_of
from training.loop.recipe_file import load_recipe
from training.loop.update import Updater
from training.models.looped_head import both_heads
from training.models.zoo import build_model, model_config

_TYPES = {"float64": torch.float64, "float32": torch.float32}


def device_title(device: str) -> str:
    """torch's version and the name of the device, for people."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
    return f"torch {torch.__version__}, {name}"


def head_errors(
    device: str, *, model: str = "samkr_w32", keypoints: int = 17, size: int = 16
) -> dict[str, float]:
    """Type -> largest relative L2 error of the grouped offset head against the loop, on a map of ``size`` x ``size``.

    In training mode; in float64 over the offsets and all gradients, in float32 over the offsets: there a value next to
    a ReLU's or a sample's edge may fall to either side, and its gradient with it. Without TF32, which has ten bits.
    """
    errors = {}
    with _full_precision():
        for name, kind in _TYPES.items():
            forms = {
                form: head.to(device, kind).train() for form, head in both_heads(model, keypoints).items()
            }
            channels = forms["grouped"].transition[0].in_channels  # type: ignore[index, union-attr]
            generator = torch.Generator().manual_seed(1)
            x = torch.randn((2, channels, size, size), generator=generator, dtype=torch.float64)
            found = {form: _offsets_and_gradients(head, x.to(device, kind)) for form, head in forms.items()}
            # A bias before a batch norm has a gradient of rounding only: gradients far below the others mean nothing.
            floor = 1e-3 * max(_norm(tensor) for tensor in found["looped"][1:])
            pairs = list(zip(found["grouped"], found["looped"], strict=True))
            apart = [
                _norm(ours - theirs) / max(_norm(theirs), floor)
                for ours, theirs in (pairs if kind is torch.float64 else pairs[:1])
            ]
            # NaN where one is, which Python's `max` may pass over.
            errors[name] = float(torch.tensor(apart, dtype=torch.float64).max())
    return errors


def half_training(device: str, folder: Path, *, steps: int = 20, batch_size: int = 8) -> dict[str, Any]:
    """``steps`` updates of samkr_tiny on rendered people, in fp32 and in bf16 from the same weights and images.

    Args:
        folder: where the people are rendered; reused where they are there.

    Returns:
        ``fp32_losses`` and ``bf16_losses`` of every step, and ``broken_weights``: names of tensors that hold NaN or
        infinity after the bf16 steps.

    Raises:
        SamkrError: SE-D37 a loss or its gradient is NaN or infinite.
    """
    write_dataset(folder, SynthSettings(train=2 * batch_size, val=1), processes=1)
    dataset = open_dataset(folder, "train")
    losses: dict[str, list[float]] = {}
    broken: list[str] = []
    for precision in ("fp32", "bf16"):
        recipe = load_recipe("samkr_tiny", [f"precision={precision}", f"batch_size={batch_size}"])
        config = model_config("samkr_tiny", len(dataset.skeleton))
        torch.manual_seed(recipe.seed)
        network = build_model(config).train()
        encode = settings_of(EncodeSettings, recipe.data)
        samples = TrainingSet(dataset, config.input_size, encode, AugmentSettings(), seed=recipe.seed)
        updater = Updater(network, recipe, Processes(torch.device(device)))
        batches = Batches(samples, batch_size, 0, 1, 1)
        try:
            with _full_precision():
                losses[precision] = [
                    sum(updater.update(batches, 1e-3, step, folder / "last.pt").values())
                    for step in range(steps)
                ]
        finally:
            batches.close()
        broken = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    return {"fp32_losses": losses["fp32"], "bf16_losses": losses["bf16"], "broken_weights": broken}


def exports(device: str, folder: Path) -> dict[str, str]:
    """SHA-256 of three ONNX files of one samkr_tiny: of a checkpoint made on the CPU, of one whose weights lay on the
    device when it was written, and of a network that lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = untrained_checkpoint("samkr_tiny")
    there = network_of(checkpoint).to(device)
    save_checkpoint(folder / "there.pt", replace(checkpoint, state=there.state_dict()))
    networks = {
        "cpu": network_of(checkpoint),
        "checkpoint": network_of(load_checkpoint(folder / "there.pt")),
        "network": there,
    }
    digests = {}
    for name, network in networks.items():
        export_onnx(network, checkpoint.card, folder / f"{name}.onnx")
        digests[name] = sha256_of(folder / f"{name}.onnx")
    return digests


def _offsets_and_gradients(head: nn.Module, x: Tensor) -> list[Tensor]:
    x.requires_grad_(True)
    offsets = head(x)
    gradients = torch.autograd.grad(offsets.square().sum(), [x, *head.parameters()])
    return [tensor.detach() for tensor in (offsets, *gradients)]


def _norm(tensor: Tensor) -> float:
    norm = tensor.norm().item()
    return norm if math.isfinite(norm) else math.inf


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without TF32, which torch uses for convolutions unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
