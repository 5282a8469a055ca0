"""Readers of clocks, temperatures and power modes, on small trees and texts written by hand in the devices' formats.

No Jetson was at hand: the formats are those that NVIDIA's documentation and users' logs show for each JetPack.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sensors import (
    MachineState,
    cpu_power_mode,
    find_device,
    jetson_power_mode,
    nvml_gpu,
    open_nvidia,
    parse_nvpmodel,
    parse_smi,
    read_cpu,
    read_jetson,
    throttle_names,
)
from benchmarks.stability import reasons_of_run

_STILL = np.full((40, 1), 5.0)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ORIN = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "sys/devices/platform/17000000.gpu/devfreq_dev/cur_freq": "918000000\n",
    "sys/devices/platform/17000000.gpu/devfreq_dev/min_freq": "918000000\n",
    "sys/devices/platform/17000000.gpu/devfreq_dev/max_freq": "918000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "52500\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "49750\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone2/temp": "-256000\n",
    "sys/class/thermal/thermal_zone3/type": "PMIC-Die\n",
    "sys/class/thermal/thermal_zone3/temp": "100000\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "devfreq-17000000.gpu\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon4/oc1_event_cnt": "2\n",
    "sys/class/hwmon/hwmon4/oc2_event_cnt": "1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1510400\n",
}


def test_a_jetson_is_read_from_sysfs(tmp_path: Path) -> None:
    state = read_jetson(tree(tmp_path, ORIN))
    assert state == MachineState(1510.4, 52.5, 918.0, 49.75, (), 3)
    assert find_device(tmp_path).family == "jetson"


@pytest.mark.parametrize(
    "node",
    [
        "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",  # JetPack 5, Orin
        "sys/devices/17000000.gv11b/devfreq/17000000.gv11b",  # JetPack 4 and 5, Xavier
        "sys/devices/57000000.gpu/devfreq/57000000.gpu",  # JetPack 4, Nano
        "sys/class/devfreq/gpu-gpc-0",  # JetPack 7, Thor
    ],
)
def test_the_gpu_clock_is_found_on_each_jetpack(node: str, tmp_path: Path) -> None:
    assert read_jetson(tree(tmp_path, {f"{node}/cur_freq": "612000000"})).gpu_mhz == 612.0


def test_a_gpu_that_is_cooled_by_its_clock_is_throttled_and_a_fan_is_not(tmp_path: Path) -> None:
    tree(tmp_path, {**ORIN, "sys/class/thermal/cooling_device1/cur_state": "2"})
    assert read_jetson(tmp_path).throttled == ("thermal: devfreq-17000000.gpu",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", ("15W_6CORE", 2)),  # JetPack 4
        ("NV Power Mode: MODE_30W\n2\n", ("30W", 2)),  # JetPack 5
        ("NV Power Mode: MAXN_SUPER\n2\n", ("MAXN_SUPER", 2)),  # JetPack 6.2
        ("NVPM ERROR: Error opening /sys/...\n", None),
        ("", None),
    ],
)
def test_the_power_mode_has_a_name_and_an_id(text: str, expected: tuple[str, int] | None) -> None:
    assert parse_nvpmodel(text) == expected


def test_the_boards_modes_come_from_its_nvpmodel_conf(tmp_path: Path) -> None:
    conf = """
    # FORMAT: < POWER_MODEL ID=id_num NAME=mode_name >
    < POWER_MODEL ID=0 NAME=MAXN >
    CPU_ONLINE CORE_0 1
    < POWER_MODEL ID=1 NAME=MODE_15W >
    < PM_CONFIG DEFAULT=2 >
    """
    tree(tmp_path, {**ORIN, "etc/nvpmodel.conf": conf})
    assert find_device(tmp_path).modes == (("MAXN", 0), ("15W", 1))


def test_locked_clocks_are_part_of_the_power_mode(tmp_path: Path) -> None:
    tree(tmp_path, ORIN)
    text = "NV Power Mode: MAXN\n0\n"
    assert jetson_power_mode(text, tmp_path) == "MAXN (id 0), clocks locked"
    tree(tmp_path, {"sys/devices/platform/17000000.gpu/devfreq_dev/min_freq": "306000000"})
    assert jetson_power_mode(text, tmp_path) == "MAXN (id 0), clocks free"
    assert jetson_power_mode(None, tmp_path) is None


def test_a_cpu_without_cpufreq_is_read_from_cpuinfo(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2600.125\nprocessor\t: 1\ncpu MHz\t\t: 2599.9\n"},
    )
    assert read_cpu(tmp_path) == MachineState(2600.125, None)
    assert cpu_power_mode(tmp_path) is None
    tree(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"})
    assert cpu_power_mode(tmp_path) == "governor powersave"


def test_nvidia_smi_prints_one_line_and_not_every_gpu_has_every_figure() -> None:
    reading = parse_smi(
        "2520, 54, 287.31, 450.00, 0x0000000000000004\n2520, 50, 20.1, 450.00, 0x0000000000000001\n"
    )
    assert (reading.mhz, reading.celsius, reading.watts, reading.limit_watts) == (2520, 54, 287.31, 450)
    assert reading.state().throttled == ("power limit",)
    laptop = parse_smi("1815, 61, [N/A], [N/A], 0x0000000000000000\n")
    assert (laptop.watts, laptop.limit_watts, laptop.state().throttled) == (None, None, ())
    assert parse_smi("").mhz is None


def test_idle_and_user_set_clocks_are_no_throttling() -> None:
    assert throttle_names(0x01 | 0x02) == ()
    assert throttle_names(0x20 | 0x40) == ("software thermal slowdown", "hardware thermal slowdown")


class FakeNvml:
    """The part of ``pynvml`` that is used, as a driver older than 12.2 with one figure missing."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu {index}"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return 1980 if kind == self.NVML_CLOCK_SM else 0

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 123_400

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return 0x40

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        raise RuntimeError("Not Supported")


def test_nvml_is_read_with_what_the_driver_has() -> None:
    gpu: Any = nvml_gpu(FakeNvml())
    assert gpu.reading().watts == pytest.approx(123.4)
    assert gpu.read() == MachineState(gpu_mhz=1980, gpu_celsius=61, throttled=("hardware thermal slowdown",))
    assert gpu.power_mode() is None


@pytest.mark.parametrize(
    "content",
    ["def nvmlInit(): raise OSError('libnvidia-ml.so.1')", "raise OSError('libnvidia-ml.so.1')", ""],
)
def test_nvml_without_its_driver_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """The package comes to machines without a GPU as well: ModelOpt brings it."""
    (tmp_path / "pynvml.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "")  # nor nvidia-smi
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delitem(sys.modules, "pynvml")
    assert open_nvidia() is None


def test_a_gpu_that_throttles_makes_the_run_unstable_only_where_a_model_runs_on_it() -> None:
    states = [
        MachineState(gpu_mhz=1980.0, throttle_events=1),
        MachineState(gpu_mhz=1500.0, throttled=("power limit",), throttle_events=4),
    ]
    assert reasons_of_run(states, _STILL) == []
    reasons = reasons_of_run(states, _STILL, on_gpu=True)
    assert reasons == [
        "the device throttled in 50% of the readings (power limit)",
        "the hardware cut the clock 3 times (over-current)",
        "the GPU clock moved by -24.2% (limit 3%)",
    ]
    # A Jetson is one chip: what throttles its GPU throttles the CPU that the models run on.
    assert reasons_of_run(states, _STILL, one_chip=True) == reasons[:2]


def test_a_power_mode_that_changed_makes_the_run_unstable() -> None:
    (reason,) = reasons_of_run([MachineState()] * 2, _STILL, power_modes=("MAXN (id 0)", "15W (id 1)"))
    assert reason == "the power mode changed from MAXN (id 0) to 15W (id 1)"
