"""Time and memory of the grouped offset head against a loop over keypoints; one thread, interleaved, medians.

    python -m benchmarks.host.head -o benchmarks/results/head.json
    python -m benchmarks.host.head --device cuda -o head.json

The head is samkr_w32's: 480 channels in, 17 keypoints, c = 16, g = 8, two adaptive blocks; float32, batch 1.
Peak memory is that of a process of its own, above what it holds before the pass; Linux only. On a GPU it is what torch
has allocated there.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.host.kept_run import kept_run
from benchmarks.measure.peak_memory import peak_rss_mb, resident_mb
from samkr_edge import child_process
from samkr_edge.files.artefact import write_json
from training.gpu_checks import device_title
from training.loop.threads import keep_freed_memory
from training.models.looped_head import both_heads

MODEL, KEYPOINTS, CHANNELS = "samkr_w32", 17, 480
SIZES = (32, 64, 128)
# Lowest ratio of the loop's time to the grouped head's, forward and backward; most megabytes of a forward pass.
TARGET_RATIO = {32: 2.0, 64: 1.4, 128: 1.0}
TARGET_MEMORY = {128: 200.0}


def forward(head: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        head.eval()(x)


def forward_backward(head: nn.Module, x: Tensor) -> None:
    x.requires_grad_(True)
    head.train()(x).square().mean().backward()
    head.zero_grad(set_to_none=True)
    x.grad = None


PASSES: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "forward": forward,
    "forward+backward": forward_backward,
}


def measure_times(size: int, rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Median milliseconds by pass and form, and the ratio of the loop's time to the grouped head's."""
    both = {form: head.to(device) for form, head in both_heads(MODEL, KEYPOINTS).items()}
    result: dict[str, Any] = {}
    for name, run in PASSES.items():
        times: dict[str, list[float]] = {form: [] for form in both}
        for number in range(rounds + 1):
            for form, head in both.items():
                x = torch.randn(1, CHANNELS, size, size, device=device)
                wait_for(device)
                started = time.perf_counter()
                run(head, x)
                wait_for(device)
                if number:  # the first round warms up
                    times[form].append(1e3 * (time.perf_counter() - started))
        median = {form: statistics.median(values) for form, values in times.items()}
        result[name] = {
            **{f"{form}_ms": round(value, 2) for form, value in median.items()},
            "ratio": round(median["looped"] / median["grouped"], 3),
            # Per-round ratios: most noise from other load hits both forms of a round alike.
            "ratios": [
                round(loop / group, 3) for loop, group in zip(times["looped"], times["grouped"], strict=True)
            ],
        }
    return result


def wait_for(device: str) -> None:
    """Wait until the GPU has finished its queued work."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def measure_memory(form: str, name: str, size: int, device: str = "cpu") -> float:
    """Peak megabytes of one pass; run it in a fresh process."""
    head = both_heads(MODEL, KEYPOINTS)[form].to(device)
    PASSES[name](head, torch.randn(1, CHANNELS, 8, 8, device=device))  # one-time setup
    x = torch.randn(1, CHANNELS, size, size, device=device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        PASSES[name](head, x)
        return (torch.cuda.max_memory_allocated(device) - held) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # freed memory must not hide new allocations
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # reset the peak
    before = resident_mb()
    PASSES[name](head, x)
    return peak_rss_mb() - before


def in_a_process_of_its_own(form: str, name: str, size: int, device: str) -> float:
    command = child_process.module(
        "benchmarks.host.head", "--device", device, "--memory", form, name, str(size)
    )
    return float(
        subprocess.run(
            command, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds of each pass")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="map sizes")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        form, name, size = arguments.memory
        print(measure_memory(form, name, int(size), arguments.device))
        return
    keep_freed_memory()  # as in training
    sizes = {}
    for size in arguments.sizes:
        times = measure_times(size, arguments.rounds, arguments.device)
        for name in PASSES:
            for form in ("grouped", "looped"):
                times[name][f"{form}_peak_mb"] = round(
                    in_a_process_of_its_own(form, name, size, arguments.device), 1
                )
        sizes[f"{size}x{size}"] = times
        print(_row(size, times), flush=True)
    if arguments.out:
        write_json(
            arguments.out,
            kept_run(
                kind="offset head, grouped against looped",
                time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                command="python -m benchmarks.host.head",
                settings={
                    "model": MODEL,
                    "batch": 1,
                    "threads": 1,
                    "rounds": arguments.rounds,
                    "device": device_title(arguments.device),
                },
                maps=sizes,
            ),
        )


def _row(size: int, times: dict[str, Any]) -> str:
    both = times["forward+backward"]
    memory = times["forward"]["grouped_peak_mb"]
    cells = [
        f"{size}x{size}",
        *(
            f"{name} {t['grouped_ms']:.0f} against {t['looped_ms']:.0f} ms: {t['ratio']:.2f}x"
            for name, t in times.items()
        ),
    ]
    if size in TARGET_RATIO:
        cells.append(
            f"target {TARGET_RATIO[size]:.1f}x {'met' if both['ratio'] >= TARGET_RATIO[size] else 'MISSED'}"
        )
    cells.append(f"forward peak {memory:.0f} against {times['forward']['looped_peak_mb']:.0f} MB")
    if size in TARGET_MEMORY:
        cells.append(
            f"target {TARGET_MEMORY[size]:.0f} {'met' if memory < TARGET_MEMORY[size] else 'MISSED'}"
        )
    return "; ".join(cells)


if __name__ == "__main__":
    main()
