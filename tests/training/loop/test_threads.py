"""Training with as many threads as are fastest at the moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from training.loop.threads import EVERY_SECONDS, TRIAL_STEPS, FastestThreads


class Machine:
    """A clock, and steps that last as long as the machine's load has them last."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds = {1: 0.2, 2: 0.1}

    def run(self, threads: FastestThreads, steps: int) -> list[int]:
        """Number of threads of each step."""
        used = []
        for _ in range(steps):
            with threads.step():
                used.append(torch.get_num_threads())
                self.now += self.seconds[used[-1]]
        return used


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_idle_cores_are_all_used_and_busy_ones_left_alone() -> None:
    machine = Machine()
    threads = FastestThreads(2, clock=lambda: machine.now)
    assert machine.run(threads, 20) == [2] * TRIAL_STEPS + [1] * TRIAL_STEPS + [2] * (20 - 2 * TRIAL_STEPS)

    machine.seconds[2] = 2.0  # something else has come to run
    machine.now += 2 * EVERY_SECONDS
    assert machine.run(threads, 2 * TRIAL_STEPS + 5)[-5:] == [1] * 5

    machine.seconds[2] = 0.1  # and has gone
    machine.now += EVERY_SECONDS
    assert machine.run(threads, 2 * TRIAL_STEPS + 5)[-5:] == [2] * 5


def test_a_confirmed_choice_is_tried_less_and_less_often() -> None:
    machine = Machine()
    threads = FastestThreads(2, clock=lambda: machine.now)
    machine.seconds[2] = 1.0
    used = machine.run(threads, 10 * 5 * 60)
    assert machine.now > 8 * EVERY_SECONDS
    # At once, a minute after the choice fell, then 2 and 4 minutes after.
    assert used.count(2) == 4 * TRIAL_STEPS


def test_one_disturbed_step_decides_nothing() -> None:
    machine = Machine()
    threads = FastestThreads(2, clock=lambda: machine.now)
    with threads.step():
        machine.now += 30.0
    machine.run(threads, 2 * TRIAL_STEPS - 1)
    assert threads.chosen == 2


def test_a_single_core_is_not_tried_against_itself() -> None:
    machine = Machine()
    threads = FastestThreads(1, clock=lambda: machine.now)
    assert machine.run(threads, 2 * TRIAL_STEPS + 1) == [1] * (2 * TRIAL_STEPS + 1)
