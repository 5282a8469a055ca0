"""Stage 12: training and export with torch on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

from benchmarks.selftest.stage import Check, Rig
from samkr_edge.packages import resolve

# Relative L2 error of the grouped head against the loop. float64: both round the same sums in different order.
HEAD_LIMITS = {"float64": 1e-9, "float32": 1e-4}
# bf16 has eight bits: its loss on the same images may differ by this from fp32's, averaged over the steps.
LOSS_LIMIT = 0.1


def checks(rig: Rig, device: str = "cuda", steps: int = 20) -> Iterator[Check]:
    """The grouped head against the loop, ``steps`` of training in bf16, an export from the GPU's memory."""
    title: str = _of_training("device_title")(device)
    for kind, error in _of_training("head_errors")(device).items():
        limit = HEAD_LIMITS[kind]
        yield Check(
            f"grouped head against the loop, {kind}",
            f"relative error {error:.1e} ({title})",
            f"at most {limit:.0e}",
            error <= limit,
            {"relative_error": error},
        )
    people = rig.shared / "training_people"
    yield _half_training(_of_training("half_training")(device, people, steps=steps))
    digests = _of_training("exports")(device, rig.folder / "exports")
    for what, name in (("checkpoint", "checkpoint"), ("network", "network in the GPU's memory")):
        same = digests[what] == digests["cpu"]
        yield Check(
            f"export of a {name}",
            "the same file" if same else "another file",
            "the file that the CPU's weights give",
            same,
            {"sha256": digests[what], "cpu_sha256": digests["cpu"]},
        )


def _half_training(figures: dict[str, Any]) -> Check:
    ours, full, broken = figures["bf16_losses"], figures["fp32_losses"], figures["broken_weights"]
    apart = abs(fmean(ours) / fmean(full) - 1)  # NaN where a loss is; every comparison with it is false
    found = f"loss {ours[0]:.4f} to {ours[-1]:.4f} in {len(ours)} steps, {apart:.1%} from fp32's"
    return Check(
        "training in bf16",
        f"NaN in {', '.join(broken[:3])}" if broken else found,
        f"no NaN, loss within {LOSS_LIMIT:.0%} of fp32's",
        not broken and apart <= LOSS_LIMIT,
        figures,
    )


def _of_training(function: str) -> Callable[..., Any]:
    """By name: nothing of `training` is imported on a device without torch."""
    found: Callable[..., Any] = resolve(f"training.gpu_checks:{function}")
    return found
