"""What one scale a weight costs, and what rescaling channels beforehand wins back, by which choice of factors.

A trained FP32 checkpoint is quantized with one range an output channel and one a tensor, as it is and with its channels
rescaled by several rules: weights balanced as in Nagel et al. 2019, eq. (11); activations against weights as in
SmoothQuant (Xiao et al., ICML 2023, eq. (4), exponent 0.5); and least expected error, what `samkr-edge quantize` does.
A second network is the same function with its channels spread on purpose: each multiplied by 2^N(0, SPREAD) and what
reads it divided by that. All are scored on the same images, in pairs, with 95 % intervals over images:

    python -m benchmarks.host.equalisation fp32/final.pt --data people -o benchmarks/results/equalisation.json
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.host.kept_run import kept_run
from calibration.analysis.scoring import Bench, MapRecorder, Measured, error_fields
from calibration.channel_statistics import ChannelStatistics, channel_statistics
from calibration.channel_ties import ChannelTies, trace_ties
from calibration.equalise import IMAGES, equalise_network, rescale
from calibration.inputs import calibration_images, float_checkpoint, use_threads
from calibration.policy import Policy, assign, load_policy
from calibration.ptq import quantize_network
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.evaluation.scores import Interval
from samkr_edge.files.artefact import write_json
from training.checkpoint import network_of
from training.models.fold import quantizable
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner

ROUNDS, DAMPING, EXPONENT = 200, 0.3, 0.5
# Share of a range at which smaller weights are clamped; otherwise a dead channel would be scaled up without limit.
SMALLEST_SHARE = 2.0**-12


def main() -> None:
    arguments = parse()
    use_threads(arguments.threads)
    source = float_checkpoint(arguments.checkpoint)
    shown = calibration_images(source.card, data=arguments.data, count=arguments.images, seed=arguments.seed)
    batches = list(shown.batches)
    bench = Bench(open_dataset(arguments.data, arguments.split), arguments.limit)
    bench.unseen_by({str(arguments.checkpoint): source.card})
    trained = quantizable(network_of(source))
    recorder = MapRecorder(TorchRunner(trained, source.card), keep=True)
    fp32 = bench.run(recorder)
    print(f"FP32: {fp32.ap:.2f} AP on {len(bench.images)} images", flush=True)
    report: dict[str, Any] = kept_run(
        data={
            "name": arguments.data.name,
            "split": arguments.split,
            **bench.facts,
        },
        settings={
            "calibration_images": arguments.images,
            "seed": arguments.seed,
            "spread": arguments.spread,
        },
        fp32={"ap": fp32.ap, "oks": fp32.oks},
        networks={},
    )
    modules = [assignment.module for assignment in assign(load_policy("rtx"), trained)]
    ties = trace_ties(trained, modules)
    for label, network in (("trained", trained), ("spread", spread(trained, ties, arguments.spread))):
        statistics = channel_statistics(network, modules, batches[: max(1, IMAGES // len(batches[0]))])
        rows = report["networks"][label] = {}
        for name, policy, changed in variants(network, ties, statistics, batches):
            quantized, _ = quantize_network(changed, policy, batches)
            found = bench.run(MapRecorder(TorchRunner(quantized, source.card), recorder.kept))
            rows[name] = row(bench, fp32, found)
            print(f"{label:<8} {text(name, rows[name])}", flush=True)
            write_json(arguments.out, report)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="trained FP32 checkpoint")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=128, help="calibration images")
    parser.add_argument("--limit", type=int, help="evaluate the first N images of the split [default: all]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spread", type=float, default=2.0, help="of the second network, in powers of two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser.parse_args()


def variants(
    network: PoseNet, ties: ChannelTies, statistics: ChannelStatistics, batches: list[Any]
) -> list[tuple[str, Policy, PoseNet]]:
    """(name, policy, network) of each variant; the network is already rescaled where the variant says so."""
    channel, equalised = load_policy("default"), load_policy("rtx")
    tensor = equalised.model_copy(update={"equalise": False})
    int8 = {a.module for a in assign(tensor, network) if a.precision == "int8" and a.op == "conv"}
    balanced, smoothed = copy.deepcopy(network), copy.deepcopy(network)
    rescale(balanced, ties, balanced_weights(network, ties, int8).exp2())
    rescale(smoothed, ties, smoothed_activations(network, ties, statistics, int8).exp2())
    least, least_by_channel = copy.deepcopy(network), copy.deepcopy(network)
    equalise_network(least, equalised, batches)
    equalise_network(least_by_channel, channel, batches)
    return [
        ("a range a channel", channel, network),
        ("a range a tensor", tensor, network),
        ("a range a tensor, weights balanced", tensor, balanced),
        ("a range a tensor, SmoothQuant 0.5", tensor, smoothed),
        ("a range a tensor, least error", tensor, least),
        ("a range a channel, least error", channel, least_by_channel),
    ]


def spread(network: PoseNet, ties: ChannelTies, deviation: float) -> PoseNet:
    """A network that computes the same function with channels of very different magnitude."""
    logarithms = deviation * torch.randn(ties.factors + 1, generator=torch.Generator().manual_seed(0))
    logarithms[0] = 0.0
    changed = copy.deepcopy(network)
    rescale(changed, ties, logarithms.exp2())
    return changed


def magnitudes(network: PoseNet, name: str) -> Tensor:
    """Largest absolute weight over the taps, (O, I / groups)."""
    weight: Tensor = network.get_submodule(name).weight  # type: ignore[assignment]
    return weight.detach().abs().amax((2, 3)).clamp(min=1e-30)


def balanced_weights(network: PoseNet, ties: ChannelTies, int8: set[str]) -> Tensor:
    """log2 of the factors that balance weight ranges: s = sqrt(r2 / r1), iterated until it converges.

    A channel's range is relative to that of its whole weight tensor; with several writers or readers, the largest
    counts. If only one side is quantized, it gets the whole range.
    """
    factors = torch.zeros(ties.factors + 1)
    for _ in range(ROUNDS):
        written, read = (torch.full_like(factors, -math.inf) for _ in range(2))
        for name in int8:
            around = ties.convolutions[name]
            size = magnitudes(network, name).log2() + factors[around.writes][:, None] - factors[around.reads]
            size = (size - size.max()).clamp(min=math.log2(SMALLEST_SHARE))
            written.scatter_reduce_(0, around.writes, size.amax(1), "amax")
            read.scatter_reduce_(0, around.reads.flatten(), size.flatten(), "amax")
        step = DAMPING * (read.nan_to_num(neginf=0.0) - written.nan_to_num(neginf=0.0))
        step[0] = 0.0
        factors += step
    return factors


def smoothed_activations(
    network: PoseNet, ties: ChannelTies, statistics: ChannelStatistics, int8: set[str]
) -> Tensor:
    """log2 of 1 / s with SmoothQuant's s = (largest activation)^a / (largest weight that reads it)^(1 - a)."""
    active, read = (torch.zeros(ties.factors + 1) for _ in range(2))
    for name in int8:
        reads = ties.convolutions[name].reads
        read.scatter_reduce_(0, reads.flatten(), magnitudes(network, name).flatten(), "amax")
        active.scatter_reduce_(0, ties.inputs[name][0], statistics.inputs[name][0].largest, "amax")
    known = (active > 0) & (read > 0)
    known[0] = False
    logarithms = (1 - EXPONENT) * read.log2() - EXPONENT * active.log2()
    return torch.where(known, logarithms, 0.0)


def row(bench: Bench, fp32: Measured, found: Measured) -> dict[str, Any]:
    return {
        "ap": found.ap,
        "against_fp32": bench.compare(fp32, found).to_dict(),
        **error_fields(found.map_errors),
    }


def text(name: str, found: dict[str, Any]) -> str:
    difference = Interval(*found["against_fp32"]["ap"])
    errors = (
        f"{key.removesuffix('_error')} {100 * found[key]:.1f} %" for key in found if key.endswith("_error")
    )
    return f"{name:<38} {found['ap']:6.2f} AP, {difference.text():>22}, {', '.join(errors)}"


if __name__ == "__main__":
    main()
