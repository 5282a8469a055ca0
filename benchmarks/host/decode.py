"""Our decoding against the procedure of the official DEKR code on the same maps; one thread, interleaved, medians.

    python -m benchmarks.host.decode -o benchmarks/results/decode.json

The procedure is written again from its description (docstring of ``official``) in torch, as the official code is:
single scale, no flip, no matching to heatmap peaks. Before anything is timed both must find the same people.

Interleaved, ours finds the caches as a network leaves them: the official procedure moves tens of megabytes. How long
calls in a row take, with code and maps still in the caches, is reported beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.host.kept_run import kept_run
from benchmarks.scripts.host_cost import STRIDE, K, candidates, interleaved, synthetic_maps
from samkr_edge.files.artefact import write_json
from samkr_edge.pose.decode import decode
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.proposals import select

# Required speedup over the official procedure.
TARGET_RATIO = 75.0


def official(heatmap: Tensor, offset: Tensor, settings: DecodeSettings) -> tuple[np.ndarray, np.ndarray]:
    """DEKR's steps (HRNet/DEKR, lib/core/inference.py and nms.py), in its order.

    1. a pose for every map pixel: location - offset;
    2. all heatmaps upsampled to input resolution: bilinear with aligned corners, then far edges replicated;
    3. centre peaks: pixels equal to their max-pooled neighbourhood, the best 30 above the threshold;
    4. heat values: the upsampled maps at the floored joints; a joint's score is centre value times heat value;
    5. pose NMS by counting near joints, greedy by descending centre value.

    Args:
        heatmap: float32 (1, K+1, h, w).
        offset: float32 (1, 2K, h, w).

    Returns:
        Joints (P, K, 2) in network-input pixels and scores (P,), best first.
    """
    _, channels, h, w = heatmap.shape
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([xs, ys], dim=2).reshape(-1, 1, 2).float()
    poses = places - offset[0].reshape(channels - 1, 2, -1).permute(2, 0, 1)  # (h * w, K, 2)
    size = ((h - 1) * STRIDE + 1, (w - 1) * STRIDE + 1)
    large = functional.interpolate(heatmap, size, mode="bilinear", align_corners=True)
    large = functional.pad(large, (0, STRIDE - 1, 0, STRIDE - 1), mode="replicate")[0]
    center = heatmap[:, -1:]
    pooled = functional.max_pool2d(center, 3, 1, 1)
    values, index = (center * (center == pooled)).flatten().topk(settings.max_people)
    index, values = index[values > settings.center_threshold], values[values > settings.center_threshold]
    joints = STRIDE * poses[index]
    flat = large[:-1].flatten(1).T  # (4h * 4w, K)
    x = joints[..., 0].floor().clamp(0, STRIDE * w - 1).long()
    y = joints[..., 1].floor().clamp(0, STRIDE * h - 1).long()
    heat = flat.gather(0, y * STRIDE * w + x)
    kept = _pose_nms(joints, heat.mean(dim=1), settings)
    joints, scores = joints[kept], (values[:, None] * heat).mean(dim=1)[kept]
    order = scores.argsort(descending=True)
    return joints[order].numpy(), scores[order].numpy()


def _pose_nms(joints: Tensor, heat: Tensor, settings: DecodeSettings) -> list[int]:
    low, high = joints.amin(dim=1), joints.amax(dim=1)
    reach = settings.nms_distance * (high - low).square().sum(dim=1).sqrt()
    apart = (joints[:, None] - joints[None]).abs() < reach[:, None, None, None]
    near = apart.all(dim=3).sum(dim=2) > settings.nms_joints
    kept: list[int] = []
    ignored: set[int] = set()
    for i in range(len(joints)):
        if i in ignored:
            continue
        group = near[i].nonzero()[:, 0]
        best = int(group[heat[group].argmax()])
        if best not in ignored:
            kept.append(best)
            ignored.update(group.tolist())
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--people", type=int, nargs="+", default=[5, 30])
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings, refined = DecodeSettings(), DecodeSettings(refine_radius=2)
    results = {}
    for people in given.people:
        heatmap, offset = synthetic_maps(people)
        maps = torch.from_numpy(heatmap)[None], torch.from_numpy(offset)[None]
        joints, scores = official(*maps, settings)
        ours = decode(heatmap, offset, settings, STRIDE)
        assert len(ours) == len(joints) == people, "the official procedure finds different people"
        np.testing.assert_allclose(ours.keypoints, joints, atol=1e-3)
        np.testing.assert_allclose(ours.scores, scores, atol=1e-5)
        parts = candidates(heatmap, offset, settings)
        work: dict[str, Callable[[], Any]] = {
            "official": partial(official, *maps, settings),
            "host": partial(decode, heatmap, offset, settings, STRIDE),
            "host, refined": partial(decode, heatmap, offset, refined, STRIDE),
            "host's share of the graph": partial(select, parts[0], parts[1], settings),
        }
        times = {
            "interleaved": interleaved(work, given.rounds),
            "in a row": {name: interleaved({name: call}, given.rounds)[name] for name, call in work.items()},
        }
        results[str(people)] = times
        for how, rows in times.items():
            base = rows["official"]["median_ms"]
            print(f"{people} people, {how}: official {base:.1f} ms, target {TARGET_RATIO:.0f}x")
            for name, row in list(rows.items())[1:]:
                row["faster"] = base / row["median_ms"]
                print(f"  {name:26} {row['median_ms']:6.3f} ms  {row['faster']:6.0f}x")
    if given.out:
        payload = kept_run(
            kind="decoding against the procedure of the official DEKR code",
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            command="python -m benchmarks.host.decode",
            settings={"map": [128, 128], "keypoints": K, "threads": 1, "rounds": given.rounds},
            people=results,
        )
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
