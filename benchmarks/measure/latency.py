"""Time several models on one machine so that their ratio is meaningful.

All models take turns, one frame each per round, on the same image, and the order rotates by one every round. So a
drifting clock or a busy neighbour affects all alike, and the speed-up can be computed within each round.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from benchmarks.measure.sensors import MachineState, read_cpu
from benchmarks.schema import LatencyStats, SplitMs


class Stages(Protocol):
    """Milliseconds of one frame; ``samkr_edge.pose_model.StageTimes``."""

    @property
    def preprocess(self) -> float: ...
    @property
    def copy_in(self) -> float: ...
    @property
    def network(self) -> float: ...
    @property
    def copy_out(self) -> float: ...
    @property
    def decode(self) -> float: ...


class Timed(Protocol):
    """What is measured: a ``samkr_edge.pose_model.PoseModel``, fed images, or a
    ``benchmarks.measure.offline.Batched``, fed lists of them."""

    def timed(self, image: Any, /) -> tuple[Any, Stages]: ...


STAGES = ("preprocess", "copy_in", "network", "copy_out", "decode")


@dataclass(frozen=True)
class WarmUp:
    """Rounds before measuring, until every model's median network time is steady, within bounds.

    Attributes:
        window: the median of this many rounds is compared with that of as many before them.
        tolerance: the two may differ by this share, or by as much as the scatter of the times explains.
        max_rounds, max_seconds: limits of the warm-up; two rounds are always run.
    """

    window: int = 5
    tolerance: float = 0.02
    max_rounds: int = 60
    max_seconds: float = 10.0


@dataclass(frozen=True)
class Frames:
    """Milliseconds of every measured frame of one model, arrays of shape (R,): one entry a round.

    ``total`` is by the benchmark's clock around the call; it includes the stages and the time between them.
    Copies are zero where the runtime has no device of its own.
    """

    total: np.ndarray
    preprocess: np.ndarray
    copy_in: np.ndarray
    network: np.ndarray
    copy_out: np.ndarray
    decode: np.ndarray

    def per_image(self, batch: int) -> Frames:
        """The times per image, if each entry is of a batch of so many."""
        return Frames(*(getattr(self, name) / batch for name in ("total", *STAGES)))


@dataclass(frozen=True)
class LatencyRun:
    """One interleaved measurement.

    Attributes:
        frames: model name -> its frames, all of the same length.
        states: clock and temperature, after the warm-up, about twice a second, and at the end.
        warmup_rounds: rounds that were run before measuring.
        settled: False if the warm-up ended at its limit with medians still changing.
        seconds: wall time of the measured rounds.
    """

    frames: dict[str, Frames]
    states: tuple[MachineState, ...]
    warmup_rounds: int
    settled: bool
    seconds: float

    def per_image(self, batch: int) -> LatencyRun:
        """The run with times per image, if each round was a batch of so many."""
        return replace(self, frames={name: frames.per_image(batch) for name, frames in self.frames.items()})

    def network_ms(self) -> np.ndarray:
        """Network times as (R, M)."""
        return np.stack([frames.network for frames in self.frames.values()], axis=1)


MIN_ROUNDS = 10
_STATE_INTERVAL_S = 0.5


def measure(
    models: Mapping[str, Timed],
    images: Sequence[Any],
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    warmup: WarmUp | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sensors: Callable[[], MachineState] = read_cpu,
    advance: Callable[[float], None] | None = None,
) -> LatencyRun:
    """Run the models round-robin and return every frame's times.

    Args:
        models: name -> model, in the order of the table.
        images: uint8 (H, W, 3) RGB, or lists of them (offline); round r shows image r mod len(images) to every model.
        rounds: exactly so many rounds; else
        seconds: run rounds for this long, for all models together, but at least MIN_ROUNDS.
        warmup: bounds of the warm-up.
        clock: seconds, monotonic. A test passes its own.
        sensors: reads clock and temperature.
        advance: called after each round with the rounds (or seconds) since the last call.
    """
    if (rounds is None) == (seconds is None):
        raise ValueError("give rounds or seconds, not both")
    if not models or not images:
        raise ValueError("nothing to measure: models and images are both needed")
    names = list(models)
    recorder = {name: _Recorder() for name in names}
    warmup_rounds, settled = _warm_up(models, images, warmup or WarmUp(), clock)

    # Garbage collection during a frame would be the benchmark's time, not the model's.
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        states = [sensors()]
        started = seen = last_state = clock()
        done = 0
        while not _is_over(done, clock() - started, rounds, seconds):
            image = images[done % len(images)]
            for name in _order(names, done):
                _one_frame(models[name], image, clock, recorder[name])
            done += 1
            now = clock()
            if now - last_state >= _STATE_INTERVAL_S:
                states.append(sensors())
                last_state = now
            if advance is not None:
                advance(1 if rounds is not None else now - seen)
                seen = now
        elapsed = clock() - started
        states.append(sensors())
    finally:
        if collecting:
            gc.enable()
    frames = {name: recorder[name].frames() for name in names}
    return LatencyRun(frames, tuple(states), warmup_rounds, settled, elapsed)


def _order(names: list[str], round_number: int) -> list[str]:
    """The models of one round; each is first, second, ... equally often."""
    start = round_number % len(names)
    return names[start:] + names[:start]


def _is_over(done: int, elapsed: float, rounds: int | None, seconds: float | None) -> bool:
    if rounds is not None:
        return done >= rounds
    return done >= MIN_ROUNDS and elapsed >= (seconds or 0.0)


@dataclass
class _Recorder:
    total: list[float] = field(default_factory=list)
    stages: list[Stages] = field(default_factory=list)

    def frames(self) -> Frames:
        stages = (np.array([getattr(times, name) for times in self.stages], float) for name in STAGES)
        return Frames(np.array(self.total, float), *stages)


def _one_frame(model: Timed, image: Any, clock: Callable[[], float], recorder: _Recorder) -> None:
    before = clock()
    _, stages = model.timed(image)
    recorder.total.append((clock() - before) * 1e3)
    recorder.stages.append(stages)


def _warm_up(
    models: Mapping[str, Timed], images: Sequence[Any], bounds: WarmUp, clock: Callable[[], float]
) -> tuple[int, bool]:
    names = list(models)
    network: dict[str, list[float]] = {name: [] for name in names}
    started = clock()
    done = 0
    while True:
        for name in _order(names, done):
            _, stages = models[name].timed(images[done % len(images)])
            network[name].append(stages.network)
        done += 1
        if all(_stands_still(times, bounds) for times in network.values()):
            return done, True
        if done >= 2 and (done >= bounds.max_rounds or clock() - started >= bounds.max_seconds):
            # Slow models reach the limit in a few rounds: then the two halves of these are compared.
            short = replace(bounds, window=min(bounds.window, max(1, done // 2)))
            return done, all(_stands_still(times, short) for times in network.values())


def _stands_still(times: list[float], bounds: WarmUp) -> bool:
    if len(times) < 2 * bounds.window:
        return False
    now = float(np.median(times[-bounds.window :]))
    before = float(np.median(times[-2 * bounds.window : -bounds.window]))
    recent = np.array(times[-2 * bounds.window :])
    # 1.48 MAD is the standard deviation of normal times, 1.25 sd / sqrt(n) the error of a median, sqrt(2) of a
    # difference of two. On a noisy machine medians never get steadier than that.
    scatter = 1.48 * float(np.median(np.abs(recent - np.median(recent))))
    noise = 1.25 * scatter * np.sqrt(2 / bounds.window)
    return abs(now - before) <= max(bounds.tolerance * before, float(noise))


@dataclass(frozen=True)
class Ratio:
    """Median of a ratio taken within each round, and a 95 % interval of that median."""

    value: float
    low: float
    high: float


def speed_up(baseline: Frames, model: Frames) -> Ratio:
    """Speed-up over the baseline in total time: median over rounds of baseline / model.

    Both saw the same image within the same round. The interval comes from order statistics of the ratios (the
    binomial interval of a median), so no distribution is assumed.
    """
    ratios = np.sort(baseline.total / model.total)
    count = len(ratios)
    half = 0.98 * np.sqrt(count)  # 1.96 * sqrt(count) / 2
    low = max(0, int(np.floor((count - 1) / 2 - half)))
    high = min(count - 1, int(np.ceil((count - 1) / 2 + half)))
    return Ratio(float(np.median(ratios)), float(ratios[low]), float(ratios[high]))


def latency_stats(frames: Frames) -> LatencyStats:
    """Percentiles (linear interpolation) and mean of the total time."""
    total = frames.total
    p50, p90, p99 = (float(value) for value in np.percentile(total, [50, 90, 99]))
    mean = float(total.mean())
    return LatencyStats(
        frames=len(total),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=mean,
        min_ms=float(total.min()),
        max_ms=float(total.max()),
        cv=float(total.std() / mean),
        throughput_fps=1000.0 / mean,
    )


def split(frames: Frames) -> SplitMs:
    """Mean of each stage over the frames whose total lies between p10 and p90.

    Means add up, medians do not; leaving out both tails keeps the sum close to the p50 of the total.
    """
    low, high = np.percentile(frames.total, [10, 90])
    usual = (frames.total >= low) & (frames.total <= high)
    if not usual.any():  # of two frames, none
        usual[:] = True
    stages = {name: float(getattr(frames, name)[usual].mean()) for name in STAGES}
    other = max(0.0, float(frames.total[usual].mean()) - sum(stages.values()))
    return SplitMs(**stages, other=other)
