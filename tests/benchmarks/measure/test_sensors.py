"""Readers of clocks, temperatures and power modes, on small trees and texts written by hand in the devices' formats.

No Jetson was at hand: the formats are those that NVIDIA's documentation and users' logs show for each JetPack. Names of
devfreq nodes are as their owners wrote them down; what stands in the files is ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measure.sensors import (
    MachineState,
    cpu_power_mode,
    find_sensors,
    jetson_power_mode,
    nvml_gpu,
    open_nvidia,
    parse_nvpmodel,
    parse_smi,
    read_cpu,
    read_jetson,
    throttle_names,
)
from benchmarks.measure.stability import reasons_of_run

_STILL = np.full((40, 1), 5.0)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ORIN = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "918000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
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
    assert find_sensors(tmp_path).family == "jetson"


def devfreq(root: Path, *devices: str) -> Path:
    """The class as the kernel shows it: an entry is a link to its device. The last one's clock is 612 MHz."""
    (root / "sys/class/devfreq").mkdir(parents=True, exist_ok=True)
    for device in devices:
        hertz = "612000000\n" if device == devices[-1] else "115200000\n"
        tree(root, {f"sys/devices/{device}/cur_freq": hertz})
        (root / "sys/class/devfreq" / device.rpartition("/")[2]).symlink_to(root / "sys/devices" / device)
    return root


@pytest.mark.parametrize(
    "devices",
    [
        # JetPack 4, Nano: Qengineering/Jover#3.
        ("57000000.gpu/devfreq/57000000.gpu",),
        # JetPack 4, TX2: its name in jetson_stats' list of GPUs.
        ("17000000.gp10b/devfreq/17000000.gp10b",),
        # JetPack 4 and 5, Xavier: elinux.org, Jetson/AGX_Xavier_Performance_Governor.
        ("17000000.gv11b/devfreq/17000000.gv11b",),
        # JetPack 5, Orin: its name in jetson_stats' list of GPUs; the video engine's from clock scripts for Orin.
        (
            "platform/13e40000.host1x/15340000.vic/devfreq/15340000.vic",
            "17000000.ga10b/devfreq/17000000.ga10b",
        ),
        # JetPack 6, Orin Nano and AGX Orin: where users' scripts lock the clock.
        (
            "platform/bus@0/13e00000.host1x/15340000.vic/devfreq/15340000.vic",
            "platform/bus@0/13e00000.host1x/154c0000.nvenc/devfreq/154c0000.nvenc",
            "platform/bus@0/17000000.gpu/devfreq/17000000.gpu",
        ),
        # JetPack 7.2, AGX Thor: rbonghi/jetson_stats#885 and #738 (a PCI device); the memory's clock is bwmgr.
        (
            "platform/bwmgr/devfreq/bwmgr",
            "pci0000:00/0000:00:00.0/0000:01:00.0/devfreq/gpu-nvd-0",
            "pci0000:00/0000:00:00.0/0000:01:00.0/devfreq/gpu-gpc-0",
        ),
    ],
    ids=lambda devices: devices[-1].rpartition("/")[2],
)
def test_the_gpu_clock_is_found_on_each_jetpack(devices: tuple[str, ...], tmp_path: Path) -> None:
    assert read_jetson(devfreq(tmp_path, *devices)).gpu_mhz == 612.0
    # By its GPU's node alone it is a Jetson: a container hides the rest.
    assert find_sensors(tmp_path).family == "jetson"


def test_a_gpu_node_of_another_name_is_known_by_its_device_tree_node(tmp_path: Path) -> None:
    devfreq(tmp_path, "17000000.x/devfreq/devfreq1")
    tree(tmp_path, {"sys/devices/17000000.x/devfreq/devfreq1/device/of_node/name": "ga10b\0"})
    assert read_jetson(tmp_path).gpu_mhz == 612.0


def test_another_chips_gpu_makes_no_jetson(tmp_path: Path) -> None:
    devfreq(tmp_path, "platform/ff9a0000.gpu/devfreq/ff9a0000.gpu")  # Mali of a Rockchip
    tree(tmp_path, {"proc/device-tree/model": "Pine64 RockPro64\0", "sys/module/tegra_xudc/uevent": ""})
    assert find_sensors(tmp_path, on_gpu=False).family == "cpu"


@pytest.mark.parametrize(
    "files",
    [
        {"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0"},
        {
            "proc/device-tree/model": "Jetson AGX Orin\0"
        },  # Chr157i4n/PyTmcStepper#78: no "NVIDIA" in JetPack 5
        {"proc/sys/kernel/osrelease": "5.15.148-tegra\n"},
        {"proc/sys/kernel/osrelease": "6.8.12-1021-tegra\n"},  # JetPack 7.2, rbonghi/jetson_stats#885
        {"sys/devices/soc0/family": "Tegra\n", "sys/devices/soc0/soc_id": "35\n"},  # Linux, fuse-tegra.c
        {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic"},
    ],
    ids=lambda files: next(iter(files)),
)
def test_any_one_thing_that_a_container_shows_makes_it_a_jetson(
    files: dict[str, str], tmp_path: Path
) -> None:
    """Docker hides the device tree (ultralytics/ultralytics#18449); /etc is the image's unless a file is mounted."""
    device = find_sensors(tree(tmp_path, files))
    assert (device.family, device.power_mode(), device.modes) == ("jetson", None, ())
    assert device.read().gpu_mhz is None


def test_a_grace_server_is_no_jetson(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/devices/soc0/family": "Tegra\n", "sys/devices/soc0/soc_id": "36\n"})
    assert find_sensors(tmp_path, on_gpu=False).family == "cpu"


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
    assert find_sensors(tmp_path).modes == (("MAXN", 0), ("15W", 1))


def test_locked_clocks_are_part_of_the_power_mode(tmp_path: Path) -> None:
    tree(tmp_path, ORIN)
    text = "NV Power Mode: MAXN\n0\n"
    assert jetson_power_mode(text, tmp_path) == "MAXN (id 0), clocks locked"
    tree(tmp_path, {"sys/class/devfreq/17000000.gpu/min_freq": "306000000"})
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
