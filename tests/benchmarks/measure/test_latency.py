"""The benchmark of the benchmark: models of known latency on a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.measure.latency import MIN_ROUNDS, Frames, WarmUp, latency_stats, measure, speed_up, split
from benchmarks.measure.sensors import MachineState, read_cpu
from benchmarks.measure.stability import (
    clock_change,
    reasons_of_model,
    reasons_of_run,
    time_drift,
)
from samkr_edge.pose_model import StageTimes


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class KnownModel:
    """Takes exactly ``network`` ms, times ``factor()``, plus 1 ms before and 2 ms after."""

    name: str
    clock: FakeClock
    network: float
    log: list[tuple[str, int]]
    warm_frames: int = 0
    slow_down: float = 1.0

    def timed(self, image: np.ndarray) -> tuple[Any, StageTimes]:
        self.log.append((self.name, int(image[0, 0, 0])))
        seen = sum(1 for name, _ in self.log if name == self.name)
        network = self.network * (3.0 if seen <= self.warm_frames else 1.0) * self.slow_down
        self.clock.now += (1 + network + 2) / 1e3
        return None, StageTimes(1.0, network, 2.0)


IMAGES = [np.full((4, 4, 3), value, np.uint8) for value in range(3)]
STILL = MachineState(2600.0, 50.0)


def test_known_latencies_are_measured_exactly() -> None:
    clock, log = FakeClock(), []
    models = {"slow": KnownModel("slow", clock, 21.0, log), "fast": KnownModel("fast", clock, 7.0, log)}
    run = measure(models, IMAGES, rounds=40, clock=clock, sensors=lambda: STILL)
    slow, fast = latency_stats(run.frames["slow"]), latency_stats(run.frames["fast"])
    assert (slow.p50_ms, slow.p99_ms, slow.frames) == (pytest.approx(24), pytest.approx(24), 40)
    assert fast.p50_ms == pytest.approx(10)
    assert fast.throughput_fps == pytest.approx(100)
    ratio = speed_up(run.frames["slow"], run.frames["fast"])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.4, 2.4, 2.4))
    parts = split(run.frames["slow"])
    assert (parts.preprocess, parts.network, parts.decode) == pytest.approx((1, 21, 2))
    assert parts.other == pytest.approx(0, abs=1e-9)
    assert reasons_of_run(run.states, run.network_ms()) == []


def test_the_parts_of_two_frames_are_numbers() -> None:
    frames = Frames(*(np.array([total, 2 * total]) for total in (10.0, 1.0, 0.0, 6.0, 0.0, 2.0)))
    parts = split(frames)
    assert (parts.preprocess, parts.network, parts.decode, parts.other) == pytest.approx((1.5, 9, 3, 1.5))


def test_models_take_turns_on_the_same_image_and_the_order_moves_on() -> None:
    clock, log = FakeClock(), []
    models = {name: KnownModel(name, clock, 1.0, log) for name in "abc"}
    run = measure(models, IMAGES, rounds=4, clock=clock, sensors=lambda: STILL)
    measured = log[run.warmup_rounds * 3 :]
    assert "".join(name for name, _ in measured) == "abcbcacababc"
    assert [image for _, image in measured] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]


def test_slow_first_frames_are_left_to_the_warm_up() -> None:
    clock, log = FakeClock(), []
    models = {"a": KnownModel("a", clock, 10.0, log, warm_frames=9)}
    run = measure(models, IMAGES, rounds=20, clock=clock, sensors=lambda: STILL)
    assert run.settled
    assert run.warmup_rounds > 9
    assert run.frames["a"].network.max() == pytest.approx(10)


def test_a_warm_up_that_never_settles_ends_at_its_bound_and_says_so() -> None:
    clock, log = FakeClock(), []
    model = KnownModel("a", clock, 10.0, log)

    class Slower:
        def timed(self, image: np.ndarray) -> tuple[Any, StageTimes]:
            model.slow_down *= 1.05
            return model.timed(image)

    run = measure(
        {"a": Slower()}, IMAGES, rounds=5, clock=clock, sensors=lambda: STILL, warmup=WarmUp(max_rounds=12)
    )
    assert (run.warmup_rounds, run.settled) == (12, False)


def test_a_slow_model_that_stands_still_settles_in_the_few_rounds_there_is_time_for() -> None:
    clock, log = FakeClock(), []
    models = {"a": KnownModel("a", clock, 1997.0, log)}
    run = measure(models, IMAGES, rounds=3, clock=clock, sensors=lambda: STILL)
    assert (run.warmup_rounds, run.settled) == (5, True)


def test_a_time_budget_is_kept_but_for_the_least_number_of_rounds() -> None:
    clock, log = FakeClock(), []
    models = {"a": KnownModel("a", clock, 7.0, log)}
    run = measure(models, IMAGES, seconds=0.5, clock=clock, sensors=lambda: STILL)
    assert len(run.frames["a"].total) == 50
    run = measure(models, IMAGES, seconds=0.001, clock=clock, sensors=lambda: STILL)
    assert len(run.frames["a"].total) == MIN_ROUNDS


def test_progress_adds_up_to_the_budget() -> None:
    clock, log, seen = FakeClock(), [], []
    models = {"a": KnownModel("a", clock, 7.0, log)}
    run = measure(models, IMAGES, seconds=0.5, clock=clock, sensors=lambda: STILL, advance=seen.append)
    assert sum(seen) == pytest.approx(run.seconds)


def test_rounds_and_seconds_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        measure({"a": KnownModel("a", FakeClock(), 1.0, [])}, IMAGES, rounds=1, seconds=1)


def test_a_clock_that_drops_makes_the_run_unstable_and_hits_all_models_alike() -> None:
    clock, log = FakeClock(), []
    models = {"slow": KnownModel("slow", clock, 20.0, log), "fast": KnownModel("fast", clock, 10.0, log)}

    def sensors() -> MachineState:
        # The machine throttles by a quarter after two seconds; times grow by as much.
        hot = clock.now > 2.0
        for model in models.values():
            model.slow_down = 4 / 3 if hot else 1.0
        return MachineState(1950.0 if hot else 2600.0, 90.0 if hot else 50.0)

    run = measure(models, IMAGES, seconds=4, clock=clock, sensors=sensors)
    reasons = reasons_of_run(run.states, run.network_ms())
    assert len(reasons) == 2
    assert "clock moved by -25.0%" in reasons[0]
    assert "drifted by +33" in reasons[1]
    # Interleaved, the ratio within each round moves only by the constant 3 ms that do not scale.
    ratio = speed_up(run.frames["slow"], run.frames["fast"])
    assert ratio.low >= 23 / 13 - 1e-9
    assert ratio.high < 1.82


def test_a_clock_within_three_percent_is_stable() -> None:
    states = [MachineState(2600.0), MachineState(2540.0)]
    assert clock_change(states) == pytest.approx(-0.023, abs=1e-3)
    assert reasons_of_run(states, np.full((40, 2), 5.0)) == []


def test_an_unreadable_clock_is_no_reason() -> None:
    assert clock_change([MachineState(), MachineState()]) is None
    assert reasons_of_run([MachineState(), MachineState()], np.full((40, 1), 5.0)) == []


def test_too_few_rounds_say_nothing_about_drift() -> None:
    assert time_drift(np.linspace(1, 2, 10)[:, None]) is None
    assert time_drift(np.linspace(1, 2, 40)[:, None]) > 0.3


def test_scattered_times_are_named_with_their_variation() -> None:
    generator = np.random.default_rng(0)
    assert reasons_of_model(generator.normal(10, 0.2, 500)) == []
    (reason,) = reasons_of_model(generator.normal(10, 2.0, 500))
    assert "19%" in reason


def test_the_interval_of_the_speed_up_covers_the_true_ratio() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        total = generator.normal(10, 1, (2, 60))
        ratio = speed_up(*(_frames(values) for values in (2 * total[0], total[1])))
        covered += ratio.low <= 2.0 <= ratio.high
    assert 180 <= covered <= 200


def test_this_machine_can_be_read_without_an_error() -> None:
    state = read_cpu()
    assert state.mhz is None or state.mhz > 100
    assert state.celsius is None or 0 < state.celsius < 130


def _frames(total: np.ndarray) -> Any:
    from benchmarks.measure.latency import Frames

    return Frames(total, total * 0, total * 0, total, total * 0, total * 0)
