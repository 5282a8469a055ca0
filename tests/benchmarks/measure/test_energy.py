"""Meters, on trees written by hand in each JetPack's format; and energy per frame from a known meter."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measure.energy import (
    PowerSource,
    ina3221,
    measure_energy,
    nvidia_power,
    pick_rails,
    rapl,
)
from benchmarks.measure.sensors import GpuReading, Nvidia
from samkr_edge.pose_model import StageTimes


def test_a_total_is_taken_alone_and_parts_are_added() -> None:
    assert pick_rails(["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"])[0] == ("VDD_IN",)
    assert pick_rails(["POM_5V_IN", "POM_5V_GPU"])[0] == ("POM_5V_IN",)
    rails, words = pick_rails(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"])
    assert rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert pick_rails(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"])[0] == ("VIN",)
    assert words == "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 (module rails; no total available here)"
    assert pick_rails(["something"]) == ((), "")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_modules_monitor_through_hwmon_since_jetpack_5(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    rails = {1: ("VDD_IN", 5000, 1200), 2: ("VDD_CPU_GPU_CV", 5000, 300), 3: ("VDD_SOC", 5000, 200)}
    for number, (name, millivolts, milliamperes) in rails.items():
        write(
            tmp_path,
            {
                f"{folder}/in{number}_label": name,
                f"{folder}/in{number}_input": str(millivolts),
                f"{folder}/curr{number}_input": str(milliamperes),
            },
        )
    source = ina3221(tmp_path)
    assert source is not None
    assert source.watts() == pytest.approx(6.0)
    assert source.rail == "VDD_IN (module input, the total)"


def test_the_modules_monitor_through_iio_on_jetpack_4(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(
        tmp_path,
        {
            f"{folder}/rail_name_0": "POM_5V_IN\n",
            f"{folder}/in_power0_input": "4567\n",
            f"{folder}/rail_name_1": "POM_5V_GPU\n",
            f"{folder}/in_power1_input": "1234\n",
        },
    )
    source = ina3221(tmp_path)
    assert source is not None
    assert source.watts() == pytest.approx(4.567)
    (tmp_path / folder / "in_power0_input").unlink()
    assert source.watts() is None
    assert ina3221(tmp_path) is None


def test_rapl_counts_on_over_its_end_and_says_when_it_may_not_be_read(tmp_path: Path) -> None:
    assert rapl(tmp_path)[0] is None
    folder = "sys/class/powercap/intel-rapl:0"
    write(tmp_path, {f"{folder}/name": "package-0", f"{folder}/max_energy_range_uj": "100000000"})
    source, reason = rapl(tmp_path)
    assert source is None
    assert "only root may read it" in reason
    now = iter([0.0, 1.0, 2.0])
    counter = tmp_path / folder / "energy_uj"
    counter.write_text("80000000")
    source, _ = rapl(tmp_path, clock=lambda: next(now))
    assert source is not None
    assert source.watts() is None
    counter.write_text("95000000")
    assert source.watts() == pytest.approx(15)
    counter.write_text("10000000")
    assert source.watts() == pytest.approx(15)
    assert "package-0" in source.rail


def test_a_gpu_without_a_power_reading_is_no_meter() -> None:
    silent = Nvidia("NVML", lambda: GpuReading(1500, 50, None, None, 0))
    assert nvidia_power(silent) is None
    source = nvidia_power(Nvidia("NVML", lambda: GpuReading(1500, 50, 80.0, 450, 0)))
    assert source is not None
    assert source.watts() == 80.0


@dataclass
class Load:
    """What the machine draws now."""

    watts: float = 5.0


class Drawing:
    """A model that takes 4 ms a frame and makes the machine draw a known power."""

    def __init__(self, load: Load, watts: float) -> None:
        self.load, self.watts = load, watts

    def timed(self, image: np.ndarray) -> tuple[Any, StageTimes]:
        self.load.watts = self.watts
        time.sleep(0.004)
        return None, StageTimes(0, 4, 0)


def test_energy_is_above_idle_and_each_model_runs_alone() -> None:
    load = Load()
    source = PowerSource("fake", "the one rail", 0.002, lambda: load.watts)
    models = {"big": Drawing(load, 25.0), "small": Drawing(load, 15.0)}
    facts, energy = measure_energy(
        models, [np.zeros((4, 4, 3), np.uint8)], source, seconds=0.2, idle_seconds=0.05
    )
    assert facts.idle_watts == pytest.approx(5.0)
    assert (facts.rail, facts.sampling_hz) == ("the one rail", 500.0)
    assert energy["big"].watts == pytest.approx(25.0)
    assert energy["small"].watts == pytest.approx(15.0)
    # 20 W and 10 W above idle over the same seconds: a frame costs watts times the time it took, 4 ms or a bit more.
    for name, above in (("big", 20.0), ("small", 10.0)):
        assert energy[name].millijoules_per_frame >= above * 4 * 0.99
        assert energy[name].samples >= 3


def test_a_meter_that_fails_gives_no_energy() -> None:
    source = PowerSource("fake", "rail", 0.002, lambda: None)
    _, energy = measure_energy(
        {"a": Drawing(Load(), 9.0)}, [np.zeros((4, 4, 3), np.uint8)], source, seconds=0.02, idle_seconds=0.01
    )
    assert energy == {}
