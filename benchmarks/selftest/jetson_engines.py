"""Engines on a Jetson: across power modes, in the memory column, on the DLA core that they were built for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure.peak_memory import measure_memory
from benchmarks.measure.sensors import ROOT, parse_nvpmodel, parse_nvpmodel_conf
from benchmarks.selftest.as_root import can_be_root, output_of, run_as_root
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, build, built_engine, source_of
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.builder.check.agreement import relative_error
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import target_of
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.device import Device

# The same engine uses the same kernels; another mode may only change the order of a sum.
SAME = 1e-3
# Share of the intended DLA core's awake time that the other core may be awake.
_OTHER = 0.1
_DLA_S = 2.0


def engine_checks(rig: Rig, device: Device, root: Path = ROOT) -> Iterator[Check]:
    """samkr_tiny in FP16, with JetPack's TensorRT."""
    if "tensorrt" not in served_flavours():
        yield not_run("engines on a Jetson", "no TensorRT supports it")
        return
    wanted = Wanted("tensorrt", "samkr_tiny", "fp16")
    engine = built_engine(rig, wanted)
    yield memory(engine)
    yield from across_power_modes(engine, root)
    yield from dla_cores(rig, wanted, device, root)


def memory(engine: Path) -> Check:
    """Whether the memory column includes the GPU's share, at least the weights."""
    measured = measure_memory(engine, 1)
    weights = engine.stat().st_size / 2**20
    gpu = measured.gpu
    return Check(
        "memory column",
        f"host {measured.peak:.0f} MB, GPU {'none' if gpu is None else f'{gpu:.0f} MB by {measured.gpu_source}'}",
        f"a GPU's part, at least the {weights:.1f} MB of the engine",
        gpu is not None and gpu >= weights,
        {"peak_mb": measured.peak, "gpu_mb": gpu, "engine_mb": weights},
    )


def across_power_modes(engine: Path, root: Path = ROOT) -> Iterator[Check]:
    """Run the engine, built in the current mode, in every mode that needs no restart; then restore the mode."""
    what = "engine in another power mode"
    now = parse_nvpmodel(output_of("nvpmodel", "-q"))
    modes = parse_nvpmodel_conf(_text(root / "etc/nvpmodel.conf"))
    others = [mode for mode in modes if now is not None and mode[1] != now[1]]
    if now is None or not others:
        yield not_run(what, "nvpmodel names no mode, or only one")
        return
    by_hand = (
        f"samkr-edge build MODEL.onnx --target auto -o here.engine; sudo nvpmodel -m {others[0][1]}, restart "
        "if it asks; samkr-edge bench here.engine"
    )
    if not can_be_root():
        yield not_run(what, f"needs root; by hand: {by_hand}")
        return
    entered = False
    expected = _outputs(engine)
    try:
        for name, number in others:
            # If a mode needs a restart, nvpmodel asks for it and gets no as the answer.
            run_as_root("nvpmodel", "-m", str(number), answer="no\n")
            if parse_nvpmodel(output_of("nvpmodel", "-q")) != (name, number):
                continue
            entered = True
            yield _in_mode(engine, expected, f"engine of {now[0]} in {name}")
    finally:
        run_as_root("nvpmodel", "-m", str(now[1]), answer="no\n")
    if not entered:
        yield not_run(what, f"every other mode needs a restart; by hand: {by_hand}")


def dla_cores(rig: Rig, wanted: Wanted, device: Device, root: Path = ROOT) -> Iterator[Check]:
    """An engine for each core: while it runs, that core is awake and the other is not."""
    target = target_of(device)
    if not target.dla_cores:
        yield not_run("DLA", f"{target.title} has none")
        return
    for core in range(target.dla_cores):
        what = f"DLA core {core}"
        engine = rig.folder / f"dla{core}.engine"
        try:
            build(source_of(rig, wanted), engine, "tensorrt", "fp16", Wishes(dla_core=core))
            before = awake_ms(root)
            _run_for(engine, _DLA_S)
            after = awake_ms(root)
        except SamkrError as error:
            yield refused(what, error)
            continue
        if core not in before or core not in after:
            yield not_run(what, "it runs; the kernel shows no nvdla, so the core is unknown")
            continue
        spent = {number: after[number] - before[number] for number in before}
        others = [ms for number, ms in spent.items() if number != core]
        yield Check(
            what,
            ", ".join(f"core {number} awake for {ms:.0f} ms" for number, ms in sorted(spent.items())),
            f"core {core}, and no other",
            spent[core] > 0 and all(ms <= _OTHER * spent[core] for ms in others),
            {"awake_ms": {str(number): ms for number, ms in spent.items()}},
        )


def awake_ms(root: Path = ROOT) -> dict[int, float]:
    """DLA core -> milliseconds that it has been powered since the start, by the kernel's runtime power management.

    The device is ``15880000.nvdla0``, below another bus with every JetPack; this folder has links to all of them.
    """
    found = {}
    for core in (0, 1):
        for node in (root / "sys/bus/platform/devices").glob(f"*.nvdla{core}"):
            text = _text(node / "power/runtime_active_time").strip()
            if text.isdigit():
                found[core] = float(text)
    return found


def _in_mode(engine: Path, expected: list[np.ndarray], what: str) -> Check:
    try:
        found = _outputs(engine)
    except SamkrError as error:
        return refused(what, error, "it loads and computes the same")
    moves = [relative_error(a, b) for a, b in zip(expected, found, strict=True)]
    moved = float(np.max(moves))  # NaN if any is NaN, which Python's `max` may miss
    return Check(
        what,
        f"it loads; relative error {moved:.1e}",
        f"it loads and computes the same, within {SAME:.0e}",
        moved <= SAME,
        {"relative_error": moved},
    )


def _outputs(engine: Path) -> list[np.ndarray]:
    """Of a fixed noise image."""
    runner = TensorRTRunner(engine)
    try:
        return list(runner.run(_noise(runner)))
    finally:
        runner.close()


def _run_for(engine: Path, seconds: float) -> None:
    runner = TensorRTRunner(engine)
    try:
        image, end = _noise(runner), time.monotonic() + seconds
        while time.monotonic() < end:
            runner.run(image)
    finally:
        runner.close()


def _noise(runner: TensorRTRunner) -> np.ndarray:
    shape = (runner.batch, *runner.card.input_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
