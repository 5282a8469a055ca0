"""The learning rate over a run, and the average of the weights."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from training.loop.ema import WeightAverage
from training.loop.recipe import ScheduleSection
from training.loop.schedule import rate_factor


def test_warm_up_rises_to_the_full_rate() -> None:
    schedule = ScheduleSection(steps=1000, warmup_steps=4)
    assert [rate_factor(schedule, 0.0, step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_falls_from_the_full_rate_to_the_last_one() -> None:
    schedule = ScheduleSection(kind="cosine", minutes=7, final=0.1)
    rates = [rate_factor(schedule, done, 10) for done in (0.0, 0.5, 1.0, 1.5)]
    assert rates == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_steps_fall_by_gamma_at_each_milestone() -> None:
    schedule = ScheduleSection(epochs=10, milestones=(0.5, 0.8))
    assert [rate_factor(schedule, done, 0) for done in (0.49, 0.5, 0.8)] == pytest.approx([1, 0.1, 0.01])


def test_swahrs_rate_rises_from_a_tenth_and_then_falls_in_a_line_to_nothing() -> None:
    schedule = ScheduleSection(kind="linear", epochs=300, warmup_share=0.01, final=0)
    epochs = {0: 0.1, 1: 0.4, 3: 1.0, 102: 2 / 3, 201: 1 / 3, 300: 0.0}
    assert [rate_factor(schedule, epoch / 300, 7) for epoch in epochs] == pytest.approx([*epochs.values()])
    half = ScheduleSection(kind="linear", steps=10, final=0.5)
    assert [rate_factor(half, done, 0) for done in (0, 0.5, 1, 1.1)] == pytest.approx([1, 0.75, 0.5, 0.5])


def test_two_warm_ups_are_refused() -> None:
    with pytest.raises(ValueError, match="at most one of warmup_steps and warmup_share"):
        ScheduleSection(steps=10, warmup_steps=3, warmup_share=0.1)


def test_the_average_follows_the_weights_and_copies_the_buffers() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(network[0].weight, 1.0)
    average = WeightAverage(network, decay=0.5)
    expected = 1.0
    for update in range(1, 30):
        nn.init.constant_(network[0].weight, float(update))
        network[1].running_mean.fill_(update)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    assert average.state["0.weight"].item() == pytest.approx(expected)
    assert average.state["1.running_mean"].item() == 29


def test_the_average_does_not_share_memory_with_the_network() -> None:
    network = nn.Linear(2, 2)
    average = WeightAverage(network, decay=0.9)
    before = average.state["weight"].clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    assert torch.equal(average.state["weight"], before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_allocator_setting_is_harmless() -> None:
    # In a process of its own: the setting cannot be taken back.
    code = "from training.loop.threads import keep_freed_memory as keep; print(keep()); b = bytearray(1 << 26); del b"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("True", "False")
