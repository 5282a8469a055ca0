"""What quantization costs, and what fine-tuning and search win back: a trained FP32 checkpoint, several seeds.

For each seed: PTQ by the default policy, QAT with the FP32 network as teacher, a float fine-tuning of the same length
(the control: what training alone wins), the same with 4-bit weights, and the AP-budget search at both. Everything is
made by the public commands and kept in --work, so that a stopped run goes on; everything is scored on the same images,
in pairs, with 95 % intervals over images. One JSON file comes out:

    python -m benchmarks.host.quantization demo/fp32/final.pt --data demo/data --seeds 0 1 2 \\
        --work runs/quantization --out benchmarks/results/quantization-demo.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.host.kept_run import kept_run
from benchmarks.host.this_checkout import start
from calibration.analysis.scoring import Bench, Difference, MapRecorder, Measured, error_fields
from calibration.inputs import recorded_ap, use_threads, warn_if_meaningless
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.files.artefact import sha256_of, write_json
from samkr_edge.pose_model import load_model


def main() -> None:
    arguments = parse()
    use_threads(arguments.threads)
    card = load_model(arguments.checkpoint).card
    warn_if_meaningless(recorded_ap(card.provenance))
    bench = Bench(open_dataset(arguments.data, arguments.split), arguments.limit)
    learned = bench.unseen_by({str(arguments.checkpoint): card}, anyway=arguments.anyway)
    scorer = Scorer(bench, arguments.threads, arguments.checkpoint)
    seeds = []
    for seed in arguments.seeds:
        made = make(arguments, seed, arguments.work / f"seed{seed}")
        seeds.append({"seed": seed, **judge(scorer, made)})
        report = kept_run(
            data={
                "name": arguments.data.name,
                "split": arguments.split,
                **bench.facts,
                **learned,
            },
            settings={
                "calibration_images": arguments.images,
                "steps": arguments.steps,
                "max_drop": arguments.max_drop,
                "max_drop_w4": arguments.max_drop_w4,
            },
            fp32={"ap": scorer.float.ap, "oks": scorer.float.oks},
            summary=summary(seeds),
            seeds=seeds,
        )
        write_json(arguments.out, report)
    print(json.dumps(report["summary"], indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="trained FP32 checkpoint")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--split",
        default="val",
        help="split that judges [default: val]; train, with --anyway, for a network fitted on purpose",
    )
    parser.add_argument(
        "--anyway", action="store_true", help="judge by images that were trained on, on purpose"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200, help="updates of each fine-tuning")
    parser.add_argument("--images", type=int, default=128, help="calibration images")
    parser.add_argument("--limit", type=int, help="evaluate the first N images of the split [default: all]")
    parser.add_argument("--rank-images", type=int, default=200)
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--max-drop-w4", type=float, default=1.0)
    parser.add_argument(
        "--search-bits",
        type=int,
        nargs="*",
        default=[8, 4],
        help="bits of weights to search at [default: 8 4]",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def make(arguments: argparse.Namespace, seed: int, work: Path) -> dict[str, Path]:
    """Make all artefacts of one seed: name -> checkpoint."""
    source, threads = str(arguments.checkpoint), ["--threads", str(arguments.threads)]
    data = ["--data", str(arguments.data)]
    calibration = [*data, "--images", str(arguments.images), "--seed", str(seed), *threads]
    tuning = [*data, *threads, "--set", f"schedule.steps={arguments.steps}", "--set", f"seed={seed}"]
    judged = ["--split", arguments.split]
    judged += ["--anyway"] if arguments.anyway else []
    if arguments.limit:
        judged += ["--limit", str(arguments.limit)]
    made: dict[str, Path] = {}
    for width, label, bits in ((8, "", ()), (4, "_w4", ("--bits", "4"))):
        ptq, qat = work / f"ptq{label}.pt", work / f"qat{label}.pt"
        command("quantize", source, *calibration, *bits, "-o", str(ptq), made=ptq)
        command("qat", str(ptq), *tuning, "--teacher", source, "-o", str(qat), made=qat)
        made |= {f"ptq{label}": ptq, f"qat{label}": qat}
        if width not in arguments.search_bits:
            continue
        policy, found = work / f"found{label}.yaml", work / f"found{label}.pt"
        drop = arguments.max_drop_w4 if bits else arguments.max_drop
        budget = ["--max-drop", str(drop), "--rank-images", str(arguments.rank_images), *judged]
        # Exit code 6: no policy meets the budget; the best one is still written.
        command(
            "search", source, *calibration, *bits, *budget, "-o", str(policy), made=policy, allowed=(0, 6)
        )
        command("quantize", source, *calibration, "--policy", str(policy), "-o", str(found), made=found)
        made[f"search{label}"] = found
    control = work / "control.pt"
    command("qat", source, "--control", *tuning, "-o", str(control), made=control)
    return {**made, "control": control}


def command(*arguments: str, made: Path, allowed: Sequence[int] = (0,)) -> None:
    """Run `samkr-edge` unless its output already exists."""
    if made.exists():
        return
    print("$ samkr-edge", *arguments, file=sys.stderr)
    code = start(*arguments).wait()
    if code not in allowed:
        sys.exit(code)


class Scorer:
    """Scores checkpoints on one bench, against the FP32 network's maps."""

    def __init__(self, bench: Bench, threads: int, checkpoint: Path) -> None:
        self.bench, self.threads = bench, threads
        recorder = MapRecorder(load_model(checkpoint, threads=threads).runner, keep=True)
        self.float = bench.run(recorder)
        self._maps = recorder.kept

    def __call__(self, path: Path) -> Measured:
        print(f"scoring {path}", file=sys.stderr)
        return self.bench.run(MapRecorder(load_model(path, threads=self.threads).runner, self._maps))


def judge(scorer: Scorer, made: Mapping[str, Path]) -> dict[str, Any]:
    """Every artefact against FP32, and the comparisons that separate quantization from training."""
    measured = {name: scorer(path) for name, path in made.items()}
    models = {
        name: {
            "ap": found.ap,
            "oks": found.oks,
            **error_fields(found.map_errors),
            "against_fp32": scorer.bench.compare(scorer.float, found).to_dict(),
            "sha256": sha256_of(made[name]),
        }
        for name, found in measured.items()
    }
    pairs = {
        "qat_against_ptq": ("ptq", "qat"),
        "qat_against_control": ("control", "qat"),
        "qat_w4_against_ptq_w4": ("ptq_w4", "qat_w4"),
        "qat_w4_against_control": ("control", "qat_w4"),
    }
    compared: dict[str, Difference] = {
        name: scorer.bench.compare(measured[before], measured[after])
        for name, (before, after) in pairs.items()
    }
    return {
        "models": models,
        "compared": {name: difference.to_dict() for name, difference in compared.items()},
        # 1: QAT recovered all that 4-bit PTQ lost, relative to FP32 and to the control, which trained just as long.
        "w4_recovered": {
            signal: {
                "of_fp32": recovered(scorer.float, measured["ptq_w4"], measured["qat_w4"], signal),
                "of_control": recovered(measured["control"], measured["ptq_w4"], measured["qat_w4"], signal),
            }
            for signal in ("ap", "oks")
        },
    }


def recovered(whole: Measured, ptq: Measured, qat: Measured, signal: str) -> float | None:
    """Share of PTQ's loss that QAT recovered; None if PTQ lost nothing."""
    lost = getattr(whole, signal) - getattr(ptq, signal)
    return (getattr(qat, signal) - getattr(ptq, signal)) / lost if lost > 0 else None


def summary(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of each AP difference from FP32."""
    found = {}
    for name in seeds[0]["models"]:
        values = [seed["models"][name]["against_fp32"]["ap"][0] for seed in seeds]
        found[name] = {
            "ap_against_fp32": statistics.fmean(values),
            "between_seeds": statistics.stdev(values) if len(values) > 1 else None,
        }
    return found


if __name__ == "__main__":
    main()
