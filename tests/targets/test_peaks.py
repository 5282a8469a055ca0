"""Peaks of the profiles, computed by hand."""

import math

import pytest

from targets.peaks import Peaks, peaks_of
from targets.profile import PowerMode, Target, all_targets, load_target

MINIMAL = {
    "name": "x",
    "title": "X",
    "family": "rtx",
    "source": "none",
    "sms": 8,
    "compute_capability": "8.6",
}


def test_a_peak_counts_two_operations_to_a_multiply_accumulate() -> None:
    peaks = peaks_of(load_target("rtx-4090"))
    assert peaks.macs["int8"] == 661e12 / 2
    assert peaks.macs["fp16"] == 330.5e12 / 2
    assert peaks.macs["fp32"] == 128 * 2520e6 * 128  # SMs, clocks a second, products a clock
    assert peaks.unknown == ""


def test_a_power_mode_counts_by_its_live_sms_and_its_clock() -> None:
    target = load_target("jetson-agx-orin")
    (mode,) = (mode for mode in target.power_modes if mode.name == "30W")
    whole, gated = peaks_of(target), peaks_of(target, mode)
    for precision in ("int8", "fp16", "fp32"):
        assert gated.macs[precision] == pytest.approx(whole.macs[precision] * 8 / 16 * 612 / 1300)
    # At most what is published for it: 41 sparse TOPS, so 20.5 dense.
    assert gated.macs["int8"] * 2 == pytest.approx(20.5e12, rel=0.05)


def test_a_mode_without_a_clock_has_the_highest_one() -> None:
    target = load_target("jetson-agx-orin")
    (mode,) = (mode for mode in target.power_modes if mode.name == "MAXN")
    assert peaks_of(target, mode) == peaks_of(target)


def test_a_mode_can_have_a_bandwidth_of_its_own() -> None:
    target = load_target("jetson-orin-nano")
    moved = 2**21 + 68e6  # what the cache does not hold
    slow, fast = (next(mode for mode in target.power_modes if mode.super is on) for on in (False, True))
    assert peaks_of(target, slow).seconds_of(moved) == pytest.approx(1e-3)
    assert peaks_of(target, fast).seconds_of(moved) == pytest.approx(68 / 102 * 1e-3)


def test_bytes_that_fit_into_the_cache_take_no_time() -> None:
    peaks = Peaks({}, ((1000, math.inf), (math.inf, 100)))
    assert peaks.seconds_of(1000) == 0
    assert peaks.seconds_of(1200) == 2


def test_nearer_memory_is_filled_first() -> None:
    assert Peaks({}, ((100, 50), (200, 20), (math.inf, 1))).seconds_of(303) == 2 + 10 + 3


@pytest.mark.parametrize(("missing", "word"), [("l2_mb", "L2 cache"), ("bandwidth_gbs", "bandwidth")])
def test_an_unknown_figure_is_said_and_no_byte_counted(missing: str, word: str) -> None:
    known = {"l2_mb": 4, "bandwidth_gbs": 100, "fp16_tflops": 2}
    peaks = peaks_of(Target.model_validate({**MINIMAL, **{k: v for k, v in known.items() if k != missing}}))
    assert word in peaks.unknown
    assert peaks.seconds_of(1e12) == 0
    assert peaks.macs == {"fp16": 1e12}


def test_a_precision_that_a_device_lacks_has_no_peak() -> None:
    assert "int8" not in peaks_of(load_target("jetson-nano")).macs
    assert "fp8" not in peaks_of(load_target("rtx-3090")).macs
    assert set(peaks_of(load_target("jetson-thor")).macs) == {
        "fp32"
    }  # no dense peak of its tensor cores was found


def test_every_gpu_says_how_many_watts_it_may_take_or_has_modes_that_do() -> None:
    for target in all_targets():
        if target.family == "rtx" and not target.compute_capabilities:
            assert target.watts, target.name
        for mode in target.power_modes:
            assert mode.watts or mode.name.startswith("MAXN"), (target.name, mode.name)


def test_no_mode_is_above_its_device() -> None:
    for target in all_targets():
        for mode in target.power_modes:
            assert (mode.bandwidth_gbs or 0) <= (target.bandwidth_gbs or math.inf)
            assert (mode.mhz or 0) <= (target.max_mhz or math.inf)
            assert isinstance(mode, PowerMode)
