"""What the commands of this package start from: a float checkpoint, calibration images, a device."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.images import load_batches, photo_probe, probe_images, select_images
from samkr_edge.builder.check.probe import COUNT, Probe, make_probe
from samkr_edge.dataset.keypoint_dataset import available_splits, open_dataset
from samkr_edge.dataset.photos import Photos
from samkr_edge.dataset.usable import (
    FEWEST_CALIBRATION_IMAGES,
    remarks,
    require_calibration_images,
    require_splits,
    too_few_images,
)
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.scores import LEAST_AP
from samkr_edge.machine.cpu import require_cores
from samkr_edge.model_card import ModelCard
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.terminal import say
from training.checkpoint import Checkpoint, load_checkpoint, untrained_checkpoint
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner

_FEWEST_TO_JUDGE = 2  # for an interval


@dataclass(frozen=True)
class CalibrationSet:
    """Batches to calibrate on, uint8 (N, H, W, 3); the facts to record; (taken, of) by stratum; a few of the images,
    small, that will travel with the ONNX."""

    batches: Iterable[np.ndarray]
    facts: dict[str, Any]
    coverage: dict[str, tuple[int, int]]
    probe: Probe | None = None


def float_checkpoint(path: str | Path, *, untrained: bool = False) -> Checkpoint:
    """A checkpoint that can be quantized, or with ``untrained`` a zoo network with random weights.

    Raises:
        SamkrError: SE-A40 it is quantized already.
    """
    source = untrained_checkpoint(str(path)) if untrained else load_checkpoint(path)
    if source.kind != "float":
        raise SamkrError(
            "SE-A40",
            f"{path} is quantized already, so nothing was done",
            {"policy": source.quantization["policy"]["name"]},
            fix="start from the FP32 checkpoint, or go on with: samkr-edge qat",
        )
    return source


def calibration_images(
    card: ModelCard,
    *,
    data: Path | None,
    count: int,
    seed: int,
    noise: int | None = None,
    photos: Photos | None = None,
    network: PoseNet | None = None,
) -> CalibrationSet:
    """``count`` images of the train split of ``data``, or ``photos``, or ``noise`` images of noise.

    Args:
        card: of the float network.
        data: the data set.
        count: images of it.
        seed: of the choice.
        noise: number of images of noise.
        photos: the pictures themselves; where they are fewer than were asked for, half of them are left to judge on.
        network: the float network, which finds the people in photographs that travel; None: none travel.

    Raises:
        SamkrError: SE-U45 nothing is given, SE-D26 other keypoints, SE-D43 too few images; the errors of choosing
            images.
    """
    batch = 8 if card.input_size[0] * card.input_size[1] <= 256 * 256 else 1
    if noise is not None:
        random = np.random.default_rng(seed)
        shape = (*card.input_size, 3)
        batches = (random.integers(0, 256, (1, *shape), dtype=np.uint8) for _ in range(noise))
        return CalibrationSet(batches, {"images": noise, "noise": True, "seed": seed}, {})
    if photos is not None:
        return _of_photos(card, calibrating_half(photos), batch, network)
    if data is None:
        raise SamkrError(
            "SE-U45",
            "calibration needs images",
            fix="add --data DIR, --photos DIR, or --random-images 8 to measure speed alone",
        )
    require_splits(data, ("train",))
    train = open_dataset(data, "train")
    card.skeleton.require_same(train.skeleton, "checkpoint", "data")
    require_calibration_images(train, count)
    evaluation = open_dataset(data, "val") if "val" in available_splits(data) else None
    selection = select_images(train, evaluation, count, seed)
    for line in remarks(train, selection.images):
        say(line)
    facts = {"images": len(selection.images), "seed": seed, "sha256": list(selection.hashes)}
    probe = make_probe("calibration", probe_images(train, selection.images, COUNT))
    shown = load_batches(selection.images, card.input_size, batch)
    return CalibrationSet(shown, facts, selection.coverage, probe)


def calibrating_half(photos: Photos) -> Photos:
    """The photographs to calibrate on: all, or half of them where there are fewer than were asked for.

    Raises:
        SamkrError: SE-D43 they are too few.
    """
    few, fix = len(photos) < photos.asked, "add pictures, or longer videos, to what --photos names"
    if photos.asked < FEWEST_CALIBRATION_IMAGES:
        raise too_few_images(photos.asked, fix="run the same command with --images 128")
    if len(photos) < FEWEST_CALIBRATION_IMAGES:
        raise too_few_images(len(photos), "; ".join(photos.notes()), fix)
    return photos.first(max(FEWEST_CALIBRATION_IMAGES, len(photos) // 2)) if few else photos


def calibrating_and_judging(photos: Photos, images: int) -> tuple[Photos, Photos]:
    """``images`` photographs to calibrate on and the others to judge on; half and half where they are fewer than were
    asked for.

    Raises:
        SamkrError: SE-D43 they are too few.
    """
    calibrating = (
        calibrating_half(photos).first(images) if len(photos) < photos.asked else photos.first(images)
    )
    judging = photos.after(len(calibrating)).first(photos.asked - images)
    if len(judging) < _FEWEST_TO_JUDGE:
        few = f"{counted(len(photos), 'picture')}, of which {len(calibrating)} calibrate and none is left to judge on"
        raise too_few_images(len(photos), few, "add pictures, or longer videos, to what --photos names")
    return calibrating, judging


def _of_photos(card: ModelCard, photos: Photos, batch: int, network: PoseNet | None) -> CalibrationSet:
    probe = None
    if network is not None:
        model = PoseModel(TorchRunner(network, card), Path(card.model))
        probe = make_probe("calibration", photo_probe(model, photos, COUNT))
    return CalibrationSet(load_batches(photos.records, card.input_size, batch), photos.facts, {}, probe)


def use_threads(threads: int | None) -> None:
    """Set torch's CPU threads; None: all cores. Raises SamkrError SE-U55 for more than there are cores."""
    torch.set_num_threads((os.cpu_count() or 1) if threads is None else require_cores(threads))


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def warn_if_meaningless(ap: float | None) -> None:
    """Warn on stderr if the float network is too weak to judge quantization by. None: AP is unknown."""
    if ap is not None and ap < LEAST_AP:
        say(
            f"warning: the FP32 network has {ap:.1f} AP; what quantization does to so weak a network says nothing "
            "about a trained one"
        )


def recorded_ap(facts: dict[str, Any]) -> float | None:
    """The AP (0..100) somewhere in a card's provenance, or None."""
    ap = facts.get("ap")
    if isinstance(ap, (int, float)):
        return float(ap)
    inner = (recorded_ap(value) for value in facts.values() if isinstance(value, dict))
    return next((found for found in inner if found is not None), None)
