"""Does agreement with FP32, which needs no labels, tell what AP tells? Both, on images that have labels.

A trained FP32 network is quantized harder and harder: growing parts of it, in a drawn order, with weights of 8 bits and
of fewer. Every version is scored twice from the same poses: by the labels, and against the FP32 network's people, as
`bench --photos` does. Out comes a table, and the rank correlation (Spearman) of each figure with the AP lost:

    python -m benchmarks.host.without_labels fp32/final.pt --data people --out benchmarks/results/without-labels.json
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host.kept_run import kept_run
from calibration.analysis.scoring import Bench
from calibration.analysis.start import Analysis
from calibration.analysis.trials import Modules
from calibration.inputs import recorded_ap, warn_if_meaningless
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.evaluation.against_reference import against, reference_people
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.files.artefact import sha256_of, write_json
from samkr_edge.pose_model import load_model
from training.torch_runner import TorchRunner

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the groups that the policy quantizes
# Figure -> its sign: larger is worse.
FIGURES = {"ap": -1, "moved_px": 1, "moved_px_p95": 1, "oks": -1, "oks_p5": -1, "lost": 1, "lost_or_new": 1}


def main() -> None:
    arguments = parse()
    bench = Bench(open_dataset(arguments.data), arguments.limit)
    model = load_model(arguments.checkpoint, threads=arguments.threads)
    warn_if_meaningless(recorded_ap(model.card.provenance))
    learned = bench.unseen_by({str(arguments.checkpoint): model.card})
    whole = bench.run(model.runner)
    reference = reference_people(model, bench.images)
    versions = []
    for name, network, card in quantized(arguments):
        measured = bench.run(TorchRunner(network, card))
        assert isinstance(measured.results, Predictions)
        lost = bench.compare(whole, measured).ap
        agreed = asdict(against(reference, measured.results))
        agreed["lost_or_new"] = agreed["lost"] + agreed["new"]
        versions.append(
            {"version": name, "ap_lost": [-lost.difference, -lost.high, -lost.low], "against_fp32": agreed}
        )
        print(line(versions[-1]), flush=True)
    ranks = correlations(versions)
    for name, value in ranks.items():
        print(f"rank correlation of AP lost with {name}: {value:.2f}")
    report = kept_run(
        data={"name": arguments.data.name, "split": "val", **bench.facts, **learned},
        model={"card": model.card.to_dict(), "sha256": sha256_of(arguments.checkpoint), "ap": whole.ap},
        people={"labelled": len(whole.person_oks), "fp32": reference.people},
        settings={"bits": arguments.bits, "seeds": arguments.seeds, "shares": SHARES, "policy": "default"},
        rank_correlation_with_ap_lost=ranks,
        versions=versions,
    )
    if arguments.out:
        write_json(arguments.out, report)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="trained FP32 checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="data set with labels, calibrated on too")
    parser.add_argument("--limit", type=int, default=200, help="images that judge [default: 200]")
    parser.add_argument("--images", type=int, default=32, help="calibration images [default: 32]")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3], help="of weights [default: 8 4 3]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="orders of the groups [default: 0]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def quantized(arguments: argparse.Namespace) -> Iterator[tuple[str, Any, Any]]:
    """(name, network, card) of every version; the network is the same object for all versions of one width."""
    for bits in arguments.bits:
        analysis = Analysis.of(
            arguments.checkpoint, arguments.data, "default", arguments.images, 0, arguments.threads, bits=bits
        )
        switches = analysis.switches()
        for seed in arguments.seeds:
            groups = [frozenset(members) & analysis.chosen for members in analysis.groups.values()]
            groups = [group for group in groups if group]
            random.Random(seed).shuffle(groups)
            for share in SHARES:
                count = round(share * len(groups))
                modules: Modules = frozenset().union(*groups[:count])
                if share < 1 or seed == arguments.seeds[0]:  # all of them are the same in every order
                    name = f"{bits}-bit weights, {count} of {len(groups)} groups, order {seed}"
                    yield name, switches.use(modules), analysis.card


def line(version: dict[str, Any]) -> str:
    ap, agreed = version["ap_lost"], version["against_fp32"]
    moved = " ".join(
        "∞" if agreed[key] is None else f"{agreed[key]:.2f}" for key in ("moved_px", "moved_px_p95")
    )
    return (
        f"{version['version']:<46} AP lost {ap[0]:5.1f} [{ap[1]:.1f}, {ap[2]:.1f}]  against FP32 {agreed['ap']:5.1f} "
        f"[{agreed['ap_low']:.1f}, {agreed['ap_high']:.1f}]  kept {agreed['kept']} lost {agreed['lost']} "
        f"new {agreed['new']}  px {moved}  OKS {agreed['oks']:.3f}"
    )


def correlations(versions: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figure -> Spearman's rank correlation of its worsening with the AP lost; no distance is the largest."""
    lost = ranks([version["ap_lost"][0] for version in versions])
    found = {}
    for name, sign in FIGURES.items():
        values = [version["against_fp32"][name] for version in versions]
        worse = ranks([np.inf if value is None else sign * value for value in values])
        found[name] = float(np.corrcoef(lost, worse)[0, 1])
    return found


def ranks(values: Sequence[float]) -> np.ndarray:
    """Float (N,): the place of each of N values among them; equal ones share the mean of their places."""
    array = np.array(values)
    below = (array[None] < array[:, None]).sum(axis=1)
    equal = (array[None] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2)


if __name__ == "__main__":
    main()
