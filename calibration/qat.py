"""What quantization-aware training adds to the training loop: weight ranges that adapt, and a teacher.

The loop itself is FP32's (``training.loop.fit``), with its average of weights and its exact resume.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from calibration.ptq import enabled_quantizers, integer_convolutions, make_room_for_biases
from calibration.ranges import SMALLEST
from samkr_edge.errors import SamkrError
from training.checkpoint import Checkpoint, network_of
from training.export import weights_digest
from training.loop.hooks import TrainingHooks
from training.loop.losses import LossSettings, heatmap_loss, offset_loss
from training.models.pose_net import PoseNet


class FineTuning(TrainingHooks):
    """Fine-tuning of a quantized network, or of its float control.

    Ranges: activations keep theirs from calibration. Ranges of weights follow the weights until ``freeze_at`` (a share
    of the run), in the ratio to the channel's largest weight that calibration found. Then they are frozen, and the rest
    of the run trains the weights within them.

    Teacher: the maps of a float network are further targets, weighted as the labels are, times ``teacher_weight``.
    """

    frozen_norms = True

    def __init__(
        self,
        network: PoseNet,
        loss: LossSettings,
        *,
        freeze_at: float = 0.5,
        teacher: PoseNet | None = None,
        teacher_weight: float = 1.0,
    ) -> None:
        self.freeze_at = freeze_at
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.teacher_weight = teacher_weight
        self._loss = loss
        self._followed = [
            (quantizer, weight, (quantizer.amax / _largest(weight, quantizer.amax)).clamp(max=1.0))
            for quantizer, weight in _weight_quantizers(network)
        ]
        self._convolutions = integer_convolutions(network)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"freeze_at": self.freeze_at} if self._followed else {}
        if self.teacher is not None:
            facts |= {"teacher": weights_digest(self.teacher)[:16], "teacher_weight": self.teacher_weight}
        return facts

    @torch.no_grad()
    def before_step(self, network: nn.Module, done: float) -> None:
        if done >= self.freeze_at:
            return
        for quantizer, weight, share in self._followed:
            quantizer.amax = share.to(weight.device) * _largest(weight, quantizer.amax)
        make_room_for_biases(self._convolutions)

    def terms(self, image: Tensor, maps: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The distance to the teacher's maps, scalars by name.

        Args:
            image: normalised (N, 3, H, W).
            maps: the network's: heatmap (N, K+1, h, w) and offset (N, 2K, h, w).
            batch: targets and weights, each (N, ...).
        """
        if self.teacher is None:
            return {}
        with torch.no_grad():
            taught_heatmap, taught_offset = self.teacher.to(image.device)(image)
        return {
            "teacher heatmap": self.teacher_weight
            * self._loss.heatmap_weight
            * heatmap_loss(maps["heatmap"], taught_heatmap, batch["mask"]),
            "teacher offset": self.teacher_weight
            * self._loss.offset_weight
            * offset_loss(maps["offset"], taught_offset, batch["offset_weight"]),
        }


def open_teacher(checkpoint: Checkpoint, path: str, student: Checkpoint) -> PoseNet:
    """The float network that teaches ``student``.

    Raises:
        SamkrError: SE-A79 it is quantized, SE-D26 it has other keypoints.
    """
    fix = "give the FP32 checkpoint that was quantized"
    if checkpoint.kind != "float":
        raise SamkrError(
            "SE-A79",
            f"{path} cannot teach this network, so nothing was trained",
            {"teacher": checkpoint.kind, "needed": "float"},
            fix=fix,
        )
    student.card.skeleton.require_same(checkpoint.card.skeleton, "network", "teacher", fix=fix)
    return network_of(checkpoint)


def _weight_quantizers(network: nn.Module) -> list[tuple[Any, Tensor]]:
    return [
        (quantizer, network.get_submodule(name.rpartition(".")[0]).weight)  # type: ignore[misc]
        for name, quantizer in enabled_quantizers(network)
        if name.endswith("weight_quantizer")
    ]


def _largest(weight: Tensor, amax: Tensor) -> Tensor:
    """Largest magnitude per channel or over all, in the shape of the range; never 0 (dead channels)."""
    dims = tuple(range(1, weight.ndim)) if amax.ndim else tuple(range(weight.ndim))
    return weight.detach().abs().amax(dims, keepdim=amax.ndim > 0).clamp(min=SMALLEST)
