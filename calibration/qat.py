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
from training.loop.grouping_losses import GroupingLossSettings, tags_at
from training.loop.hooks import TrainingHooks
from training.loop.losses import LossSettings, heatmap_loss, offset_loss
from training.loop.objective import ObjectiveSettings
from training.models.pose_net import PoseNet


class FineTuning(TrainingHooks):
    """Fine-tuning of a quantized network, or of its float control.

    Ranges: activations keep theirs from calibration. Ranges of weights follow the weights until ``freeze_at`` (a share
    of the run), in the ratio to the channel's largest weight that calibration found. Then they are frozen, and the rest
    of the run trains the weights within them.

    Teacher: the maps of a float network are further targets, weighted as the labels are, times ``teacher_weight``; its
    tags are at the labelled joints, see ``tag_distance``.
    """

    frozen_norms = True

    def __init__(
        self,
        network: PoseNet,
        loss: ObjectiveSettings,
        *,
        freeze_at: float = 0.5,
        teacher: PoseNet | None = None,
        teacher_weight: float = 1.0,
    ) -> None:
        self.freeze_at = freeze_at
        self.teacher = None
        self._taught: dict[str, Any] = {}
        if teacher is not None:
            self._taught = {"teacher": weights_digest(teacher)[:16], "teacher_weight": teacher_weight}
            teacher.drop_scale_branches()  # nothing is learned from them
            self.teacher = teacher.eval().requires_grad_(False)
        self.teacher_weight = teacher_weight
        self._loss = loss
        self._followed = [
            (quantizer, weight, (quantizer.amax / _largest(weight, quantizer.amax)).clamp(max=1.0))
            for quantizer, weight in _weight_quantizers(network)
        ]
        self._convolutions = integer_convolutions(network)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"freeze_at": self.freeze_at} if self._followed else {}
        return facts | self._taught

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
            maps: the network's, (N, C, h, w) by the names of its ``forward_training``.
            batch: targets and weights, each (N, ...).
        """
        if self.teacher is None:
            return {}
        with torch.no_grad():
            taught = self.teacher.to(image.device).forward_training(image)
        compare = _grouping_distances if isinstance(self._loss, GroupingLossSettings) else _offset_distances
        terms = compare(maps, taught, batch, self._loss)  # type: ignore[arg-type]
        return {f"teacher {name}": self.teacher_weight * value for name, value in terms.items()}


def tag_distance(tag: Tensor, taught: Tensor, joints: Tensor) -> Tensor:
    """How far tags are from a teacher's, a scalar: the mean over images of the variance of their difference at joints.

    The variance, since grouping reads differences of tags alone: a network may have all of an image's tags higher or
    lower than its teacher.

    Args:
        tag: the network's (N, K, h, w).
        taught: the teacher's, same shape.
        joints: int64 (N, P, K, 2), see ``training.data.encode_grouping``.
    """
    visible = joints[..., 1].to(tag.dtype)
    count = visible.sum((1, 2)).clamp(min=1)
    apart = tags_at(tag - taught, joints)
    mean = (apart * visible).sum((1, 2)) / count
    squared = (apart - mean[:, None, None]) ** 2 * visible
    return (squared.sum((1, 2)) / count).mean()


def _offset_distances(
    maps: dict[str, Tensor], taught: dict[str, Tensor], batch: dict[str, Tensor], loss: LossSettings
) -> dict[str, Tensor]:
    """Of heatmap and offset (N, C, h, w), weighted as the labels' are."""
    heatmap = heatmap_loss(maps["heatmap"], taught["heatmap"], batch["mask"])
    offset = offset_loss(maps["offset"], taught["offset"], batch["offset_weight"])
    return {"heatmap": loss.heatmap_weight * heatmap, "offset": loss.offset_weight * offset}


def _grouping_distances(
    maps: dict[str, Tensor], taught: dict[str, Tensor], batch: dict[str, Tensor], loss: GroupingLossSettings
) -> dict[str, Tensor]:
    """Of the heatmaps (N, K, h, w) of both resolutions, and of the tags at the labelled joints."""
    low, high = (
        heatmap_loss(maps[f"heatmap{end}"], taught[f"heatmap{end}"], batch[f"valid{end}"])
        for end in ("_low", "")
    )
    tag = tag_distance(maps["tag"], taught["tag"], batch["joints"])
    return {"heatmap": loss.heatmap_weight * (low + high), "tag": loss.pull_weight * tag}


def open_teacher(checkpoint: Checkpoint, path: str, student: Checkpoint) -> PoseNet:
    """The float network that teaches ``student``.

    Raises:
        SamkrError: SE-A79 it is quantized, or of the other decoding, SE-D26 it has other keypoints.
    """
    fix = "give the FP32 checkpoint that was quantized"
    if checkpoint.kind != "float":
        raise SamkrError(
            "SE-A79",
            f"{path} cannot teach this network, so nothing was trained",
            {"teacher": checkpoint.kind, "needed": "float"},
            fix=fix,
        )
    if checkpoint.config.decoding != student.config.decoding:
        raise SamkrError(
            "SE-A79",
            f"{path} cannot teach this network, so nothing was trained",
            {
                "teacher": f"{checkpoint.card.model}, decoded by {checkpoint.config.decoding}",
                "needed": f"a network decoded by {student.config.decoding}, as {student.card.model} is",
            },
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
