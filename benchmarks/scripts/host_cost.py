"""What a frame costs on the host, everything but the network, on one thread: preprocessing and decoding.

    python -m benchmarks.scripts.host_cost -o benchmarks/results/host_cost.json
    python -m benchmarks.scripts.host_cost --maps maps.npz        # on real maps: arrays `heatmap` and `offset`

Each round times every contender once, in a new order; medians are reported. The decoder in use is compared with the
plainest correct Python loop (``decode_by_loops``): first that both find the same people, then their times.
The comparison with the official DEKR procedure needs torch and is in benchmarks.host.decode.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samkr_edge import child_process
from samkr_edge.files.artefact import require_writable, write_json
from samkr_edge.pose.decode import decode, find_peaks, refine, sample
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.geometry import fit_matrix, warp
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.proposals import select

K, STRIDE = 17, 4
FRAME, INPUT = (720, 1280), (512, 512)
# Upper limits in milliseconds, on one thread of the machine this was written on.
TARGETS = {
    "decode on the host": 0.5,
    "decode on the host, refined": 0.5,
    "decode in the graph, host's share": 0.2,
    "decode in the graph, refined, host's share": 0.2,
    "preprocess 1280x720": 1.5,
}


def synthetic_maps(people: int = 30, side: int = 128, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps like a good network's, of a regular crowd with some noise: heatmap (K+1, h, w), offset (2K, h, w)."""
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    heatmap = random.uniform(0, 0.005, (K + 1, side, side)).astype(np.float32)
    offset = random.normal(0, 0.05, (2 * K, side, side)).astype(np.float32)
    columns = math.ceil(math.sqrt(people))
    step = side / columns
    for index in range(people):
        center = (np.array([index % columns, index // columns]) + 0.5) * step
        joints = center + random.uniform(-0.45 * step, 0.45 * step, (K, 2))
        for channel, (x, y) in enumerate([*joints, center]):
            heatmap[channel] = np.maximum(heatmap[channel], np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8))
        near = np.hypot(xs - center[0], ys - center[1]) < 4
        for k, (x, y) in enumerate(joints):
            offset[2 * k][near] += (xs - x)[near]
            offset[2 * k + 1][near] += (ys - y)[near]
    return heatmap, offset


def candidates(heatmap: np.ndarray, offset: np.ndarray, settings: DecodeSettings) -> tuple[np.ndarray, ...]:
    """Outputs of a decoding graph for these maps: poses, scores and, if joints are refined, proposals."""
    centers, scores = find_peaks(heatmap[-1], settings)
    at = offset[:, centers[:, 1], centers[:, 0]].T.reshape(-1, K, 2)
    joints = centers[:, None].astype(np.float32) - at
    heat = sample(heatmap[:-1], joints).astype(np.float32)
    moved = joints
    if settings.refine_radius:
        moved = refine(heatmap[:-1], joints, settings.refine_radius, settings.refine_blend)
    poses = np.concatenate([moved * STRIDE, heat[..., None]], axis=2).astype(np.float32)
    return (poses, scores, joints * STRIDE) if settings.refine_radius else (poses, scores)


def decode_by_loops(heatmap: np.ndarray, offset: np.ndarray, settings: DecodeSettings) -> list[list[float]]:
    """The plainest correct decoder: the same as ``samkr_edge.pose.decode.decode`` without refinement, pixel by pixel.

    Returns:
        Per person, best first: x0 y0 x1 y1 ... in network-input pixels.
    """
    center = heatmap[-1]
    height, width = center.shape
    peaks = []
    for y in range(height):
        for x in range(width):
            value = center[y, x]
            if value <= settings.center_threshold:
                continue
            around = [
                center[b, a]
                for b in range(max(y - 1, 0), min(y + 2, height))
                for a in range(max(x - 1, 0), min(x + 2, width))
            ]
            if value == max(around):
                peaks.append((value, x, y))
    peaks.sort(key=lambda peak: -peak[0])
    people = []
    for value, x, y in peaks[: settings.max_people]:
        joints = [(x - offset[2 * k, y, x], y - offset[2 * k + 1, y, x]) for k in range(K)]
        heat = [_bilinear(heatmap[k], *joint) for k, joint in enumerate(joints)]
        people.append((joints, heat, value))
    kept, ignored = [], set()
    for i, (joints, _, _) in enumerate(people):
        if i in ignored:
            continue
        xs, ys = [j[0] for j in joints], [j[1] for j in joints]
        reach = settings.nms_distance * math.hypot(max(xs) - min(xs), max(ys) - min(ys))
        group = []
        for other, (others, _, _) in enumerate(people):
            near = sum(math.dist(a, b) < reach for a, b in zip(joints, others, strict=True))
            if near > settings.nms_joints or other == i:
                group.append(other)
        best = max(group, key=lambda n: sum(people[n][1]))
        if best not in ignored:
            kept.append(best)
            ignored.update(group)
    kept.sort(key=lambda n: -people[n][2] * sum(people[n][1]))
    return [[float(v) * STRIDE for joint in people[n][0] for v in joint] for n in kept]


def _bilinear(channel: np.ndarray, x: float, y: float) -> float:
    height, width = channel.shape
    x = min(max(math.floor(x * 4) / 4, 0), width - 1)
    y = min(max(math.floor(y * 4) / 4, 0), height - 1)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    top = channel[y0, x0] * (1 - (x - x0)) + channel[y0, x1] * (x - x0)
    low = channel[y1, x0] * (1 - (x - x0)) + channel[y1, x1] * (x - x0)
    return float(top * (1 - (y - y0)) + low * (y - y0))


def contenders(
    heatmap: np.ndarray, offset: np.ndarray
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """What to time, by name, and the facts that the decoders agree on.

    Raises:
        AssertionError: the decoders find different people.
    """
    plain, refined = DecodeSettings(), DecodeSettings(refine_radius=2)
    on_host = decode(heatmap, offset, plain, STRIDE)
    loops = np.array(decode_by_loops(heatmap, offset, plain)).reshape(-1, K, 2)
    assert loops.shape == on_host.keypoints.shape, "the plain loop finds different people"
    np.testing.assert_allclose(loops, on_host.keypoints, atol=1e-2)
    parts, refined_parts = candidates(heatmap, offset, plain), candidates(heatmap, offset, refined)
    np.testing.assert_allclose(_select(parts, plain).keypoints, on_host.keypoints, atol=1e-3)
    frame = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8), (0, 0), 3
    )
    matrix, out = fit_matrix(FRAME, INPUT), np.zeros((*INPUT, 3), np.uint8)
    scratch: dict[tuple[int, int], np.ndarray] = {}
    work: dict[str, Callable[[], Any]] = {
        "decode by plain Python loops": lambda: decode_by_loops(heatmap, offset, plain),
        "decode on the host": lambda: decode(heatmap, offset, plain, STRIDE),
        "decode on the host, refined": lambda: decode(heatmap, offset, refined, STRIDE),
        "decode in the graph, host's share": lambda: _select(parts, plain),
        "decode in the graph, refined, host's share": lambda: _select(refined_parts, refined),
        "preprocess 1280x720": lambda: warp(frame, matrix, INPUT, out, scratch),
    }
    return work, {"people": len(on_host), "map": list(heatmap.shape[1:]), "keypoints": K}


def _select(parts: tuple[np.ndarray, ...], settings: DecodeSettings) -> Poses:
    poses, scores, *proposals = parts
    return select(poses, scores, settings, *proposals)


def interleaved(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each contender: median and quartiles over the rounds."""
    names = list(work)
    times: dict[str, list[float]] = {name: [] for name in names}
    for call in work.values():
        call()
    random = np.random.default_rng(0)
    for _ in range(rounds):
        # A new order each round: in a fixed one, the contender after the loops would always start with cold caches.
        for name in random.permutation(names).tolist():
            before = time.perf_counter()
            work[name]()
            times[name].append((time.perf_counter() - before) * 1e3)
    return {
        name: {
            "median_ms": float(np.median(values)),
            "p25_ms": float(np.percentile(values, 25)),
            "p75_ms": float(np.percentile(values, 75)),
        }
        for name, values in times.items()
    }


def of_a_process(code: str, runs: int = 7) -> float:
    """Median over ``runs`` of the number that ``code`` prints in a fresh Python."""
    run = child_process.code(code)
    printed = [
        subprocess.run(
            run, capture_output=True, text=True, encoding="utf-8", errors="replace", check=True
        ).stdout
        for _ in range(runs)
    ]
    return float(np.median([float(text.splitlines()[-1]) for text in printed]))


def start_up() -> dict[str, float]:
    """Seconds to import the package, seconds for --help after Python has started, resident megabytes."""
    clock = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    quiet = (
        "import io, contextlib, time; t = time.perf_counter(); from samkr_edge.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])\n"
        "print(time.perf_counter() - t)"
    )
    memory = (
        "import samkr_edge.pose_model, samkr_edge.frames.pipeline, resource;"
        "from samkr_edge.machine.onnx_runtime_module import import_onnxruntime; import_onnxruntime();"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    return {
        "import_s": of_a_process(clock.format("import samkr_edge")),
        "help_s": of_a_process(
            f"import time; t = time.perf_counter()\n{quiet}\nprint(time.perf_counter() - t)"
        ),
        "resident_mb": of_a_process(memory),
    }


def main() -> None:
    """Measure, print, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--maps", type=Path, help="npz with heatmap (K+1, h, w) and offset (2K, h, w)")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if given.out:
        require_writable(given.out)
    from samkr_edge.doctor.environment import environment

    cv2.setNumThreads(1)
    heatmap, offset = synthetic_maps()
    if given.maps:
        with np.load(given.maps) as arrays:
            heatmap, offset = (_maps(arrays, name) for name in ("heatmap", "offset"))
    work, facts = contenders(heatmap, offset)
    times = interleaved(work, given.rounds)
    base = times["decode by plain Python loops"]["median_ms"]
    for name, row in times.items():
        target = f"  target {TARGETS[name]} ms" if name in TARGETS else ""
        faster = f"  {base / row['median_ms']:7.1f}x" if name.startswith("decode") else ""
        print(f"{name:44} {row['median_ms']:8.3f} ms{faster}{target}")
    started = start_up()
    print(", ".join(f"{name} {value:.3f}" for name, value in started.items()))
    if given.out:
        payload = {
            "schema_version": 1,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "environment": environment(),
            "maps": facts | {"source": given.maps.name if given.maps else "synthetic"},
            "rounds": given.rounds,
            "threads": 1,
            "times": times,
            "targets_ms": TARGETS,
            "start_up": started,
        }
        write_json(given.out, payload)


def _maps(arrays: Any, name: str) -> np.ndarray:
    """The array ``name``, or else that of scale 0 (``name_0``), without its batch axis."""
    found = np.asarray(arrays[name] if name in arrays else arrays[f"{name}_0"], np.float32)
    return found[0] if found.ndim == 4 else found


if __name__ == "__main__":
    main()
