"""How large training shows people, and who carries the offset loss; from annotations alone, no image is opened.

    python -m benchmarks.host.training_targets --data /data/coco -o benchmarks/results/training_targets_coco.json

Sizes: input pixels per source pixel, over the draws of a recipe with each crop, and of the papers' test resize.

Offset loss: who carries that of a network whose error is the same everywhere (``weight``) and of one that predicts no
offset at all (``loss``), by people with one, two, three to five and more labelled joints, for three weightings: by a
box diagonal of at least one pixel, of at least ``data.smallest_extent`` pixels, and by the official extent. The fitted
factor makes the mean of the second, times the factor, that of the official pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.host.kept_run import kept_run
from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset, open_dataset
from samkr_edge.dataset.usable import smallest_area
from samkr_edge.evaluation.paper_protocol import paper_matrix, paper_size
from samkr_edge.files.artefact import sha256_of, write_json
from samkr_edge.pose.oks import is_ignored, is_labelled
from training.data.augment import Placement, draw_placement, place_joints
from training.data.encode import Points, encode, offset_weights, person_centers, person_size
from training.data.settings import AugmentSettings, EncodeSettings
from training.data.targets import STRIDE
from training.loop.losses import OFFSET_BETA
from training.loop.recipe import settings_of
from training.loop.recipe_file import load_recipe

OFFICIAL_FACTOR = 0.03
CLASSES = {"1": (1, 1), "2": (2, 2), "3-5": (3, 5), "6+": (6, 99)}  # labelled joints of a person


class Draw(NamedTuple):
    """People of one image, before (``labelled`` (P, K, 3), source pixels) and after augmentation (map pixels)."""

    labelled: Points
    joints: Points
    centers: Points
    placement: Placement


def draws(
    dataset: KeypointDataset, size: tuple[int, int], augment: AugmentSettings, limit: float | None, count: int
) -> Iterator[Draw]:
    """``count`` draws of every image with people."""
    for index, record in enumerate(dataset.images):
        people = [a for a in dataset.annotations[record.id] if not is_ignored(a)]
        if not people:
            continue
        labelled = np.array([a["keypoints"] for a in people], np.float64).reshape(len(people), -1, 3)
        large = np.array([a["area"] for a in people]) >= smallest_area(record, dataset.kind, limit)
        for number in range(count):
            rng = np.random.default_rng((number, index))
            placement = draw_placement((record.height, record.width), size, augment, rng)
            joints = place_joints(labelled, placement, dataset.skeleton.flip_order, STRIDE)
            centers = person_centers(joints)
            centers[~large, 2] = 0
            yield Draw(labelled, joints, centers, placement)


def people_sizes(found: list[float]) -> list[float]:
    """5th, 50th and 95th percentiles."""
    return [round(float(value), 3) for value in np.percentile(found, (5, 50, 95))]


def test_scale(record: ImageRecord, short_side: int) -> float:
    """Input pixels per source pixel in the papers' test protocol."""
    source_hw = (record.height, record.width)
    return float(paper_matrix(source_hw, paper_size(source_hw, short_side))[0, 0])


def offset_shares(drawn: list[Draw], size: tuple[int, int], settings: EncodeSettings) -> dict[str, Any]:
    """Mean weight of a position, and each class's share of positions, weight and loss."""
    map_hw = (size[0] // STRIDE, size[1] // STRIDE)
    sums: dict[str, dict[str, float]] = {
        share: dict.fromkeys(CLASSES, 0.0) for share in ("positions", "weight", "loss")
    }
    for labelled, joints, centers, placement in drawn:
        areas = person_size(labelled, settings.offset_extent) * placement.squared_scale
        targets = encode(joints, areas, None, map_hw, settings, centers=centers)
        offset = torch.from_numpy(targets.offset)
        values = torch.nn.functional.smooth_l1_loss(
            torch.zeros_like(offset), offset, beta=OFFSET_BETA, reduction="none"
        )
        weighted = values.numpy() * targets.offset_weight
        joint_counts = is_labelled(labelled).sum(axis=1)
        owner = _owners(joints, areas, centers, map_hw, settings)
        for name, (low, high) in CLASSES.items():
            members = np.flatnonzero((joint_counts >= low) & (joint_counts <= high))
            there = np.isin(owner, members)
            sums["positions"][name] += int(there.sum())
            sums["weight"][name] += float(targets.offset_weight[there].sum())
            sums["loss"][name] += float(weighted[there].sum())
    total = {share: sum(found.values()) for share, found in sums.items()}
    percents = {
        f"{share}_percent": {name: round(100 * found[name] / total[share], 2) for name in CLASSES}
        for share, found in sums.items()
    }
    return {"mean_weight": round(total["weight"] / total["positions"], 6), **percents}


def _owners(
    joints: Points, areas: Points, centers: Points, map_hw: tuple[int, int], settings: EncodeSettings
) -> np.ndarray:
    """Person whose offset each position holds, (2K, h, w), -1 for none; found by encoding with a unique weight each."""
    apart = np.maximum(areas, 1.0) + 0.01 * np.arange(len(areas))
    settings = replace(settings, smallest_extent=1.0)
    weights = encode(joints, apart, None, map_hw, settings, centers=centers).offset_weight
    owner = np.full(weights.shape, -1)
    for person, weight in enumerate(offset_weights(apart, settings)):
        owner[weights == np.float32(weight)] = person
    return owner


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a COCO directory; its annotations are read")
    parser.add_argument("--split", default="train")
    parser.add_argument("--recipe", default="samkr_w32_coco", help="augmentation and targets")
    parser.add_argument("--size", type=int, default=512, help="side of the network input")
    parser.add_argument("--draws", type=int, default=40, help="of each image")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    return parser.parse_args()


def show(sizes: dict[str, Any], shares: dict[str, Any]) -> None:
    for name, values in sizes.items():
        print(f"{name:12s} input pixels per source pixel, 5 / 50 / 95 %: {' / '.join(map(str, values))}")
    for name, found in shares.items():
        print(
            f"{name}: mean weight {found['mean_weight']:.5f}; % of positions, of weight and of loss by labelled joints"
        )
        for joints in CLASSES:
            parts = (f"{found[f'{share}_percent'][joints]:7.2f}" for share in ("positions", "weight", "loss"))
            print(f"  {joints:4s}{''.join(parts)}")


def main() -> None:
    given = parse()
    dataset = open_dataset(given.data, given.split)
    data = load_recipe(given.recipe).data
    size = (given.size, given.size)
    encoding, augment = settings_of(EncodeSettings, data), settings_of(AugmentSettings, data)
    drawn = {
        crop: list(draws(dataset, size, replace(augment, crop=crop), encoding.smallest_person, given.draws))
        for crop in ("fit", "short")
    }
    shown = [record for record in dataset.images if dataset.annotations[record.id]]
    sizes = {
        crop: people_sizes([draw.placement.squared_scale**0.5 for draw in found])
        for crop, found in drawn.items()
    }
    sizes["paper test"] = people_sizes([test_scale(record, given.size) for record in shown])
    floor = EncodeSettings().smallest_extent
    weightings = {
        "person, at least 1": replace(encoding, offset_extent="person", smallest_extent=1.0),
        f"person, at least {floor:g}": replace(encoding, offset_extent="person", smallest_extent=floor),
        "official": replace(encoding, offset_extent="image"),
    }
    shares = {name: offset_shares(drawn["short"], size, each) for name, each in weightings.items()}
    show(sizes, shares)
    before, fitted, official = (found["mean_weight"] for found in shares.values())
    factor = OFFICIAL_FACTOR * official / fitted
    print(f"factor of the same mean weight as the official {OFFICIAL_FACTOR}: {factor:.5f}")
    if given.out:
        write_json(
            given.out,
            kept_run(
                annotations_sha256=sha256_of(dataset.annotation_path),
                images=len(shown),
                draws=given.draws,
                recipe=given.recipe,
                input_size=size,
                input_per_source_pixel_5_50_95=sizes,
                offset_loss=shares,
                before_against_official=round(before / official, 3),
                fitted_factor=round(factor, 5),
            ),
        )


if __name__ == "__main__":
    main()
