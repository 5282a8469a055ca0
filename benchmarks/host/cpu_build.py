"""What `build --target cpu` wins: ONNX Runtime FP32 and INT8 of one network, one process, one thread, interleaved.

    python -m benchmarks.host.cpu_build --untrained samkr_w32 -o benchmarks/results/cpu_build_w32.json
    python -m benchmarks.host.cpu_build --untrained dekr_w32 -o benchmarks/results/cpu_build_dekr_w32.json
    python -m benchmarks.host.cpu_build --float fp32.onnx --int8 qat.onnx -o cpu_build.json

Contenders: the exported FP32 model as ONNX Runtime runs it, both models built, and, where openvino and nncf are
installed, OpenVINO in FP32 and in bfloat16 and NNCF's INT8 of the same exported FP32 model. Of a network without
attention also both built from a graph that decodes itself, which computes offsets at centres alone: ``..._centers``
ends with people, all others with maps. Every round runs each contender once, in a
new order; medians over the rounds, speed-ups as medians of the rounds' ratios. Wall and CPU time: they differ where
other processes took the core meanwhile, and then CPU time is the one to compare. A profile by operation follows, of
each node's fastest run. Weights do not change speed: --untrained is enough for that, and says nothing of accuracy.
"""

from __future__ import annotations

import argparse
import importlib
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge import __version__
from samkr_edge.cli import run
from samkr_edge.doctor.environment import environment
from samkr_edge.files.artefact import sha256_of, write_json
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from samkr_edge.roofline.cpu_profile import fastest_kernels, profiled
from samkr_edge.runtime.onnx_runtime import session_options

# Over ONNX Runtime FP32: samkr_w32 at 512x512, one thread, a CPU with VNNI.
TARGET_SPEEDUP = 2.5
WARM_UP = 2
CALIBRATION_IMAGES = 8

Runner = Callable[[np.ndarray], Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--untrained", metavar="MODEL", help="zoo model; random weights, calibrated on noise")
    parser.add_argument("--float", type=Path, help="an exported FP32 ONNX")
    parser.add_argument("--int8", type=Path, help="the exported INT8 ONNX of the same network")
    parser.add_argument("--work", type=Path, help="keep the models here, and reuse those already here")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-openvino", action="store_true", help="skip OpenVINO even if it is installed")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    if (arguments.untrained is None) == (arguments.float is None or arguments.int8 is None):
        parser.error("give --untrained MODEL, or --float and --int8")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        models = make_models(arguments, work)
        contenders = {name: open_session(path, arguments.threads) for name, path in models.items()}
        if not arguments.no_openvino:
            contenders.update(open_vino(models["ort_fp32"], work / "nncf_int8.xml", arguments.threads))
        size = card_of(read_onnx(models["ort_fp32"]), models["ort_fp32"]).input_size
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        rounds = measure(contenders, image, arguments.rounds)
        operations = {name: profile(path, arguments.threads) for name, path in models.items()}
        results = summarise(arguments, models, rounds, operations)
    write_json(arguments.out, results)
    print(table(results))
    print(f"wrote {arguments.out}")


def make_models(arguments: argparse.Namespace, work: Path) -> dict[str, Path]:
    """The models of ONNX Runtime; those already in the work folder are reused."""
    from training.models.zoo import model_config

    exported, quantized = arguments.float, arguments.int8
    if arguments.untrained:
        name = arguments.untrained
        exported, checkpoint, quantized = (work / f for f in ("fp32.onnx", "ptq.pt", "ptq.onnx"))
        random_images = ("--untrained", "--random-images", str(CALIBRATION_IMAGES), "--threads", "1")
        make(exported, "export", name, "--untrained", "-o", str(exported))
        make(checkpoint, "quantize", name, *random_images, "-o", str(checkpoint))
        make(quantized, "export", str(checkpoint), "-o", str(quantized))
    models = {
        "ort_fp32": exported,
        "ort_fp32_built": work / "fp32.cpu.onnx",
        "ort_int8_built": work / "int8.cpu.onnx",
    }
    for source, name in ((exported, "ort_fp32_built"), (quantized, "ort_int8_built")):
        make(models[name], "build", str(source), "--target", "cpu", "-o", str(models[name]))
    if arguments.untrained and not model_config(arguments.untrained).groups:
        for start, options, name in (
            (arguments.untrained, ["--untrained"], "ort_fp32_centers"),
            (str(work / "ptq.pt"), [], "ort_int8_centers"),
        ):
            decoding = work / f"{name}.onnx"
            make(decoding, "export", start, *options, "--decode", "graph", "-o", str(decoding))
            models[name] = decoding.with_suffix(".cpu.onnx")
            make(models[name], "build", str(decoding), "--target", "cpu", "-o", str(models[name]))
    return models


def make(out: Path, *command: str) -> None:
    if not out.exists() and run(list(command)) != 0:
        sys.exit(f"failed: samkr-edge {' '.join(command)}")


def open_session(path: Path, threads: int) -> Runner:
    onnxruntime = import_onnxruntime()

    session = onnxruntime.InferenceSession(
        str(path), session_options(threads), providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(None, {"image": image})


def open_vino(path: Path, kept: Path, threads: int) -> dict[str, Runner]:
    """OpenVINO FP32, bfloat16 and NNCF INT8; empty if either package is not installed."""
    try:
        nncf, openvino = (importlib.import_module(name) for name in ("nncf", "openvino"))
    except ImportError:
        print("openvino and nncf are not installed: skipped", file=sys.stderr)
        return {}
    core = openvino.Core()
    network = core.read_model(str(path))
    if not kept.exists():
        shape = tuple(network.input(0).shape)
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(CALIBRATION_IMAGES)]
        calibrated = nncf.quantize(network.clone(), nncf.Dataset(images), subset_size=len(images))
        openvino.save_model(calibrated, kept)
    quantized = core.read_model(kept)
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }

    def runner(model: Any, floats: str = "f32") -> Runner:
        hinted = {**options, "INFERENCE_PRECISION_HINT": floats}
        request = core.compile_model(model, "CPU", hinted).create_infer_request()
        return lambda image: request.infer({0: image})

    return {
        "openvino_fp32": runner(network),
        "openvino_bf16": runner(network, "bf16"),
        "openvino_nncf_int8": runner(quantized),
    }


def measure(
    contenders: dict[str, Runner], image: np.ndarray, rounds: int
) -> list[dict[str, dict[str, float]]]:
    """Wall and CPU milliseconds of one run per contender; one dictionary per round."""
    for runner in contenders.values():
        for _ in range(WARM_UP):
            runner(image)
    order, shuffle = list(contenders), random.Random(0)
    measured = []
    for index in range(rounds):
        shuffle.shuffle(order)
        times = {}
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            contenders[name](image)
            times[name] = {
                "wall": (time.perf_counter() - wall) * 1e3,
                "cpu": (time.process_time() - cpu) * 1e3,
            }
        measured.append(times)
        shown = "  ".join(f"{n} {times[n]['wall']:.0f}" for n in contenders)
        print(f"round {index + 1}/{rounds}  {shown}", file=sys.stderr)
    return measured


def profile(path: Path, threads: int) -> list[dict[str, Any]]:
    """Operation, node count and milliseconds, slowest first; each node counts with its fastest run."""
    data = path.read_bytes()
    model = decode_onnx(data)
    fastest = fastest_kernels(profiled(data, model, card_of(model, path), threads))
    totals: dict[str, list[float]] = defaultdict(list)
    for milliseconds, kind in fastest.values():
        totals[kind].append(milliseconds)
    rows = [
        {"operation": op, "nodes": len(times), "ms": round(sum(times), 3)} for op, times in totals.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def summarise(
    arguments: argparse.Namespace,
    models: dict[str, Path],
    rounds: list[dict[str, dict[str, float]]],
    operations: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    names = list(rounds[0])

    def median_ms(clock: str) -> dict[str, float]:
        return {name: round(statistics.median(r[name][clock] for r in rounds), 2) for name in names}

    def speedup(over: str) -> dict[str, float]:
        ratios = {
            clock: [r[over][clock] / r["ort_int8_built"][clock] for r in rounds] for clock in ("wall", "cpu")
        }
        low, high = np.quantile(ratios["wall"], [0.1, 0.9])
        return {
            "wall": statistics.median(ratios["wall"]),
            "wall_p10": float(low),
            "wall_p90": float(high),
            "cpu": statistics.median(ratios["cpu"]),
        }

    others = [name for name in names if name != "ort_int8_built"]
    return {
        "schema_version": 1,
        "samkr_edge": __version__,
        "environment": environment(),
        "model": arguments.untrained or card_of(read_onnx(models["ort_fp32"]), models["ort_fp32"]).model,
        "untrained": arguments.untrained is not None,
        "threads": arguments.threads,
        "rounds": len(rounds),
        "models": {name: {"file": path.name, "sha256": sha256_of(path)} for name, path in models.items()},
        "median_wall_ms": median_ms("wall"),
        "median_cpu_ms": median_ms("cpu"),
        "round_ms": rounds,
        "int8_speedup_over": {name: speedup(name) for name in others},
        "target_speedup_over_ort_fp32": TARGET_SPEEDUP,
        "operations": operations,
    }


def table(results: dict[str, Any]) -> str:
    lines = [f"{results['model']}, {results['threads']} thread(s), {results['rounds']} interleaved rounds"]
    for name, wall in results["median_wall_ms"].items():
        ratio = results["int8_speedup_over"].get(name)
        beside = (
            f"  INT8 built is {ratio['wall']:.2f}x [{ratio['wall_p10']:.2f}, {ratio['wall_p90']:.2f}], "
            f"by CPU time {ratio['cpu']:.2f}x"
            if ratio
            else ""
        )
        lines.append(f"  {name:<20}{wall:9.1f} ms, CPU {results['median_cpu_ms'][name]:9.1f} ms{beside}")
    for name, rows in results["operations"].items():
        lines.append(f"{name}, by operation (fastest runs, {sum(row['ms'] for row in rows):.0f} ms)")
        lines += [f"  {row['operation']:<20}{row['nodes']:5} nodes {row['ms']:9.1f} ms" for row in rows[:12]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
