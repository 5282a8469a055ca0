"""All that is to be measured on a GPU, for a day when one is available: in steps, each kept as soon as it is done.

Two machines: this one, which has the project and a network, and one with a GPU, which may have neither.

    python -m benchmarks.host.gpu_day prepare gpu-day                     # here: wheels, exported networks, references
    python -m benchmarks.host.gpu_day run gpu-day --work /tmp/day --out RESULTS --minutes 9
    python -m benchmarks.host.gpu_day run gpu-day --work /tmp/day --out RESULTS --minutes 9 \
        --tensorrt-python /path/to/python
    python -m benchmarks.host.gpu_day summary RESULTS/gpu_day.json        # anywhere

`run` goes on where it stopped: what is written in WORK/gpu_day.json, or in a --known file of an earlier machine, is not
measured again, and a network or an engine is made again only if something that is still missing needs it. --minutes is
the time of one call; a step that does not fit is left to the next. A step that failed is tried once more, after all
others. Without a GPU it says so and ends with 7.

A machine without a network that takes a tree of at most N MiB per call: `prepare` says how large its folders are.
ONNX files of random weights, 118 MB each, are not carried: `run` exports them there from the same seed, and compares
what they compute with the references that `prepare` made. Calls, each with the checkout and the references:

    wheels-3.12                  run --only torch: no TensorRT is needed; WORK keeps what was unpacked
    one piece of TensorRT each   until all are there; unpack
    wheels-3.11                  run --tensorrt-python ..., again without them until nothing is left

On a machine that is fresh again, --known RESULTS/gpu_day.json of the one before spares what was measured there.

--tensorrt-python is a Python in which `import tensorrt` works; by default this one. What `prepare --tensorrt-version`
brought for it is put in front of its path, as PYTHONPATH and, for wrappers that clear that, as EXTRA_PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:
    # Started by path, as on a machine that has only the checkout: restart as a module so that imports resolve.
    launcher = Path(__file__).resolve().parents[2] / "samkr_edge" / "child_process.py"
    os.execv(sys.executable, [sys.executable, str(launcher), "benchmarks.host.gpu_day", *sys.argv[1:]])

from benchmarks.host.gpu_day_prepare import errors_of, install, prepare
from benchmarks.host.gpu_day_run import FILE, Day, run, version_of, works
from benchmarks.host.gpu_day_steps import MODELS, steps
from benchmarks.host.gpu_day_summary import table

NO_GPU, DIFFERS, NO_BUNDLE, NO_RECORDS = 7, 6, 2, 3
# Largest relative L2 error between two exports of one network: same weights, ONNX Runtime on different processors.
SAME = 1e-3


def run_command(arguments: argparse.Namespace) -> int:
    from samkr_edge.machine.driver import why_no_gpu

    reason = why_no_gpu()
    if reason and not arguments.without_gpu:
        print(f"there is no GPU here, so nothing was measured: {reason}", file=sys.stderr)
        return NO_GPU
    if not arguments.bundle.is_dir():
        print(f"there is no folder {arguments.bundle}: gpu_day prepare creates it", file=sys.stderr)
        return NO_BUNDLE
    day = Day(arguments.bundle.absolute(), arguments.work.absolute(), arguments.out, {})
    for file in (*arguments.known, day.work / FILE):
        if file.is_file():
            day.records |= records_in(file)
    for needs, python, module in (
        ("torch", sys.executable, "torch"),
        ("tensorrt", arguments.tensorrt_python or sys.executable, "tensorrt"),
    ):
        version = version_of(python)
        site = None if version is None else install(day.bundle, version, day.work)
        if site is not None:
            day.extra[needs] = site
        day.pythons[needs] = python if version and works(python, module, site) else None
    every = steps()
    left = run(day, every, arguments.minutes, arguments.only)
    done = sum(day.is_done(step) for step in every)
    print(f"{done} of {len(every)} steps done, {left} to go on with; records: {day.work / FILE}")
    return 0


def records_in(file: Path) -> dict[str, dict[str, Any]]:
    """Step name -> its record; exits if the file has none."""
    try:
        found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"{file} holds no records: {error!r}", file=sys.stderr)
        raise SystemExit(NO_RECORDS) from None
    return found


def prepare_command(arguments: argparse.Namespace) -> int:
    files = prepare(
        arguments.bundle, arguments.models, arguments.torch_version, arguments.tensorrt_version, arguments.pip
    )
    for name, size in [*files.items(), ("in all", sum(files.values()))]:
        print(f"{size / 2**20:7.1f} MiB  {name}")
    return 0


def compare_command(arguments: argparse.Namespace) -> int:
    errors = errors_of(arguments.onnx, arguments.reference)
    print(json.dumps({"relative_errors": errors}))
    return 0 if all(error <= SAME for error in errors.values()) else DIFFERS


def summary_command(arguments: argparse.Namespace) -> int:
    print(table(records_in(arguments.records)))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("prepare", help="here, before")
    one.add_argument("bundle", type=Path)
    one.add_argument("--models", nargs="+", default=MODELS)
    one.add_argument("--torch-version", default="3.12", help="the other machine's Python with torch")
    one.add_argument("--tensorrt-version", default="3.11", help="the other machine's Python with TensorRT")
    one.add_argument("--pip", nargs="+", default=["python3", "-m", "pip"], help="a pip that can download")
    one.set_defaults(do=prepare_command)
    one = commands.add_parser("run", help="on the machine with the GPU, repeatedly")
    one.add_argument("bundle", type=Path)
    one.add_argument("--work", type=Path, required=True, help="folder of this machine")
    one.add_argument("--out", type=Path, help="folder that gets the records")
    one.add_argument("--known", type=Path, nargs="*", default=[], help="records of earlier machines")
    one.add_argument("--minutes", type=float, default=9, help="of this call")
    one.add_argument("--only", choices=("torch", "tensorrt"))
    one.add_argument("--tensorrt-python", help="a Python that imports tensorrt [default: this one]")
    one.add_argument("--without-gpu", action="store_true", help="try the steps anyway, to see them fail")
    one.set_defaults(do=run_command)
    one = commands.add_parser("compare", help="a network with its reference")
    one.add_argument("onnx", type=Path)
    one.add_argument("reference", type=Path)
    one.set_defaults(do=compare_command)
    one = commands.add_parser("summary", help="what was reached")
    one.add_argument("records", type=Path)
    one.set_defaults(do=summary_command)
    arguments = parser.parse_args()
    sys.exit(arguments.do(arguments))


if __name__ == "__main__":
    main()
