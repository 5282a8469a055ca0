"""Stage 7: what cannot be built or is broken gives a samkr-edge error quickly and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.selftest.broken import (
    at_opset_20,
    cut_engine,
    cut_engine_that_is_vouched_for,
    with_unknown_operator,
)
from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, built_engine, network_file, plans_for
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge import child_process
from samkr_edge.builder.tensorrt.build import build_tensorrt
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.builder.tensorrt.typing_choice import OBEY, precision_flags
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import TITLES, Flavour, import_tensorrt
from samkr_edge.runtime.cuda import open_cuda

# Seconds that an error may take; the time to start and to look at the device is not counted.
LONGEST_S = 10.0
# Megabytes of the GPU that may be missing; a Jetson shares its memory with all other processes.
MOST_KEPT_MB = 64.0
# Seconds after which a command is killed.
TIMEOUT_S = 300.0
INTERRUPTED = 130
# Library that a process has mapped once TensorRT has started.
LIBRARIES: dict[Flavour, str] = {"tensorrt": "libnvinfer", "rtx": "libtensorrt_rtx"}
Words = Sequence[str]


@dataclass(frozen=True)
class CommandRun:
    """One command: exit status (negative: the signal that ended it), what it wrote to stderr, wall seconds."""

    status: int
    said: str
    seconds: float

    @property
    def code(self) -> str:
        """The code of its error; empty without one."""
        found = re.search(r"error (SE-[A-Z]\d\d)", self.said)
        return found[1] if found else ""


RunCommand = Callable[[Words], CommandRun]


def in_a_process(words: Words) -> CommandRun:
    """``samkr-edge WORDS`` in a child process."""
    begun = time.perf_counter()
    done = subprocess.run(
        child_process.command(*words),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_S,
    )
    return CommandRun(done.returncode, done.stderr, time.perf_counter() - begun)


def checks(rig: Rig, run: RunCommand = in_a_process, interrupted: str = "samkr_w32") -> Iterator[Check]:
    """``interrupted`` is the network whose build Ctrl-C ends; empty for none."""
    flavours = served_flavours()
    # First, since what TensorRT and CUDA load into this process for the first build stays: kernels of hundreds of MB.
    for flavour in flavours:
        yield _obeying(rig, flavour)
    free = _free_mb()
    for flavour in flavours:
        yield from _refusals(rig, flavour, run)
        if interrupted:
            yield _ctrl_c(rig, flavour, network_file(rig, interrupted))
    kept = free - _free_mb()
    yield Check(
        "memory of the GPU back",
        f"{kept:+.1f} MB kept",
        f"less than {MOST_KEPT_MB:g} MB",
        kept < MOST_KEPT_MB,
        {"kept_mb": kept},
    )


def _refusals(rig: Rig, flavour: Flavour, run: RunCommand) -> Iterator[Check]:
    title, good = TITLES[flavour], network_file(rig)

    def build(source: Path, *more: str) -> CommandRun:
        words = [
            "build",
            str(source),
            "--target",
            "auto",
            "--flavour",
            flavour,
            "-o",
            str(rig.folder / "made.engine"),
        ]
        return run([*words, *more])

    start = build(good, "--dry-run").seconds
    opset = build(at_opset_20(good, rig.folder / "opset-20.onnx"))
    yield told(f"{title}: opset 20", opset, start, ("SE-B88",))
    unknown = build(with_unknown_operator(good, rig.folder / "unknown.onnx"))
    # Refused by the parser, or by ONNX's checker if FP16 is baked in.
    yield told(f"{title}: unknown operator", unknown, start, ("SE-B91", "SE-B84"))
    small = build(good, "--workspace", "16")
    yield told(f"{title}: workspace of 16 MiB", small, start, ("SE-B90", "SE-B96"), may_work=True)
    try:
        engine = built_engine(rig, Wanted(flavour, TRAINED, "fp16"))
    except SamkrError as error:
        yield refused(f"{title}: cut engine", error)
        return
    cut = cut_engine(engine, rig.folder / "cut.engine")
    yield told(f"{title}: cut engine", run(["inspect", str(cut)]), start, ("SE-A54",))
    cut = cut_engine_that_is_vouched_for(engine, rig.folder / "vouched-for.engine")
    what = f"{title}: cut engine with a passport that fits"
    yield told(what, run(["inspect", str(cut)]), start, ("SE-V89",))


def told(what: str, ran: CommandRun, start: float, codes: Words, may_work: bool = False) -> Check:
    """Whether a command ended with a samkr-edge code, in time, without a signal or a traceback.

    Args:
        start: seconds that are not counted.
        may_work: success is right too; then the time is not limited, since success or reaching the failing layer may be
            slow.
    """
    seconds = max(ran.seconds - start, 0.0)
    works = may_work and ran.status == 0
    faults = []
    if ran.status < 0:
        faults.append(f"ended by {signal.Signals(-ran.status).name}")
    if "Traceback" in ran.said:
        faults.append("a traceback")
    if not works and ran.code not in codes:
        faults.append(f"{ran.code or 'no code of ours'}, status {ran.status}")
    if not may_work and seconds > LONGEST_S:
        faults.append(f"{seconds:.1f} s")
    return Check(
        what,
        "; ".join(faults) or ("it works" if works else f"{ran.code} after {seconds:.1f} s"),
        f"{' or '.join(codes)}, no traceback, {'or it works' if may_work else f'at most {LONGEST_S:g} s'}",
        not faults,
        {"status": ran.status, "code": ran.code, "seconds": seconds, "said": ran.said[-2000:]},
    )


def _obeying(rig: Rig, flavour: Flavour) -> Check:
    """A weakly typed build with some layers forced to FP32 succeeds, or is built in another way and reports it."""
    what = f"{TITLES[flavour]}: weak typing that insists on FP32"
    source = network_file(rig)
    (plan,) = plans_for(source, flavour, "fp16")
    trt = import_tensorrt(flavour)
    if not hasattr(trt.BuilderFlag, OBEY):
        return not_run(what, "this version has no weak typing")
    try:
        built = build_tensorrt(source, rig.folder / "weak.engine", (_weakly_typed(plan),))
    except SamkrError as error:
        # Layers would not be FP32, or have no FP32 kernel: reported, and nothing was written.
        return Check(
            what,
            f"{error.code}: {error.message}",
            "built, or SE-B83 or SE-B90",
            error.code in ("SE-B83", "SE-B90"),
            {"error": error.to_dict()},
        )
    notes = [note for note in built.notes if "FP32" in note]
    return Check(
        what, "; ".join(["built", *notes]), "built, or SE-B83 or SE-B90", True, {"notes": list(built.notes)}
    )


def _weakly_typed(plan: BuildPlan) -> BuildPlan:
    return replace(
        plan,
        typing="weak",
        steps=tuple(step for step in plan.steps if step != "bake_fp16"),
        network_flags=tuple(flag for flag in plan.network_flags if flag != "STRONGLY_TYPED"),
        builder_flags=tuple(dict.fromkeys((*precision_flags(plan.precision, "weak"), *plan.builder_flags))),
    )


def _ctrl_c(rig: Rig, flavour: Flavour, source: Path) -> Check:
    folder = rig.folder / f"interrupted-{flavour}"
    folder.mkdir()
    words = ["build", str(source), "--target", "auto", "--flavour", flavour, "-o", "made.engine"]
    return stopped(f"{TITLES[flavour]}: Ctrl-C in the builder", words, folder, LIBRARIES[flavour])


def stopped(what: str, words: Words, folder: Path, library: str, patience: float = 3.0) -> Check:
    """Ctrl-C for a build in a child process, in the empty ``folder``, while its builder is running.

    Args:
        library: part of the name of what it loads when it begins.
        patience: seconds from there on, in which it parses the graph.
    """
    environment = {**os.environ, "SAMKR_EDGE_CACHE": str(folder.parent / f"{folder.name}-cache")}
    process = subprocess.Popen(
        child_process.command(*words),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,  # with a timing cache it could finish earlier
        # It gets Ctrl-C like a shell's foreground job, even if this process ignores it.
        preexec_fn=_hear_ctrl_c,
    )
    _wait_for(process, library)
    time.sleep(patience)
    early = process.poll() is not None
    begun = time.perf_counter()
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    seconds = time.perf_counter() - begun
    if early and process.returncode == 0:
        return not_run(what, "the build finished before it could be stopped")
    left = sorted(path.name for path in folder.iterdir())
    faults = []
    if process.returncode != INTERRUPTED:
        faults.append(f"status {process.returncode}")
    if "Traceback" in said:
        faults.append("a traceback")
    if left:
        faults.append(f"left {', '.join(left)}")
    if seconds > LONGEST_S:
        faults.append(f"{seconds:.1f} s")
    return Check(
        what,
        "; ".join(faults) or f"status {INTERRUPTED} after {seconds:.1f} s, nothing left",
        f"status {INTERRUPTED}, no traceback, nothing left, at most {LONGEST_S:g} s",
        not faults,
        {"status": process.returncode, "seconds": seconds, "left": left, "said": said[-2000:]},
    )


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait_for(process: subprocess.Popen[str], library: str) -> None:
    """Until the process has loaded a library, or ended."""
    maps = Path(f"/proc/{process.pid}/maps")
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < TIMEOUT_S:
        try:
            if library in maps.read_text(encoding="utf-8", errors="replace"):
                return
        except OSError:
            return
        time.sleep(0.05)


def _free_mb() -> float:
    with closing(open_cuda()) as cuda, cuda.bound():
        return cuda.memory()[0] / 1e6
