"""``tegrastats``: lines written by hand in each JetPack's format, and a program that prints them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.energy import tegrastats_power
from benchmarks.measure.sensors import find_sensors
from benchmarks.measure.stability import reasons_of_run
from benchmarks.measure.tegrastats import Tegrastats, open_tegrastats, parse

JETPACK_4 = (
    "RAM 1989/3964MB (lfb 34x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [12%@1479,8%@1428,off,off] "
    "EMC_FREQ 0%@1600 GR3D_FREQ 99%@921 APE 25 PLL@28C CPU@31.5C PMIC@100C GPU@29C AO@37.5C thermal@30C "
    "POM_5V_IN 4567/4500 POM_5V_GPU 1234/1200 POM_5V_CPU 800/790"
)
JETPACK_5 = (
    "11-24-2026 14:00:00 RAM 5678/30536MB (lfb 5000x4MB) SWAP 0/15268MB (cached 0MB) CPU [2%@1190,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 98%@[611,611] VIC_FREQ 115 APE 174 CV0@-256C CPU@45.5C Tboard@34C SOC2@41.5C "
    "GPU@41.2C tj@45.5C VDD_GPU_SOC 2405mW/2390mW VDD_CPU_CV 401mW/400mW VIN_SYS_5V0 3042mW/3000mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 302mW/302mW NC 0mW/0mW"
)
JETPACK_6 = (
    "11-24-2026 14:00:00 RAM 3301/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,0%@729] "
    "EMC_FREQ 2%@3199 GR3D_FREQ 0%@[0] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@50.062C soc2@48.187C "
    "gpu@48.593C tj@50.062C VDD_IN 5014mW/5014mW VDD_CPU_GPU_CV 845mW/845mW VDD_SOC 1449mW/1449mW"
)
JETPACK_7 = (
    "11-24-2026 14:00:00 RAM 9000/125772MB (lfb 30x4MB) CPU [0%@972,8%@2601,off] EMC_FREQ 0%@2750 "
    "GR3D_FREQ @[1574,1574,1574] NVENC0_FREQ @314 NVJPG0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 "
    "cpu@37.3C tj@38.8C soc012@37.4C gpu@38.8C soc345@37.4C "
    "VDD_GPU 1962mW/1950mW VDD_CPU_SOC_MSS 5887mW/5800mW VIN_SYS_5V0 5635mW/5600mW VIN 19780mW/19700mW"
)
JETPACK_7_2 = (
    "11-24-2026 14:00:00 RAM 8000/125749MB (lfb 31x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 cpu@58.2C/61.7C "
    "tj@66.6C/66.6C VDD_GPU 37939mW/8660mW/37939mW VIN 124486mW/36487mW/124486mW"
)


def test_the_watts_are_those_of_now() -> None:
    assert parse(JETPACK_4).watts == {"POM_5V_IN": 4.567, "POM_5V_GPU": 1.234, "POM_5V_CPU": 0.8}
    assert parse(JETPACK_5).watts == {
        "VDD_GPU_SOC": 2.405,
        "VDD_CPU_CV": 0.401,
        "VIN_SYS_5V0": 3.042,
        "VDDQ_VDD2_1V8AO": 0.302,
    }
    assert parse(JETPACK_6).watts == {"VDD_IN": 5.014, "VDD_CPU_GPU_CV": 0.845, "VDD_SOC": 1.449}
    assert parse(JETPACK_7).watts == {
        "VDD_GPU": 1.962,
        "VDD_CPU_SOC_MSS": 5.887,
        "VIN_SYS_5V0": 5.635,
        "VIN": 19.78,
    }
    assert parse(JETPACK_7_2).watts == {"VDD_GPU": 37.939, "VIN": 124.486}


@pytest.mark.parametrize(
    ("line", "cpu_mhz", "gpu_mhz", "gpu_load", "gpu_celsius", "hottest"),
    [
        (JETPACK_4, 1479, 921, 99, 29.0, 37.5),
        (JETPACK_5, 1190, 611, 98, 41.2, 45.5),
        (JETPACK_6, 729, None, 0, 48.593, 50.062),  # the GPU sleeps
        (JETPACK_7, 2601, 1574, None, 38.8, 38.8),
        (JETPACK_7_2, 2601, None, None, None, 66.6),
        ("", None, None, None, None, None),
    ],
)
def test_clocks_and_temperatures(
    line: str,
    cpu_mhz: float | None,
    gpu_mhz: float | None,
    gpu_load: int | None,
    gpu_celsius: float | None,
    hottest: float | None,
) -> None:
    seen = parse(line)
    assert (seen.cpu_mhz, seen.gpu_mhz, seen.gpu_load) == (cpu_mhz, gpu_mhz, gpu_load)
    assert (seen.celsius.get("gpu"), max(seen.celsius.values(), default=None)) == (gpu_celsius, hottest)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program of that name, first in the path."""
    program = folder / "tegrastats"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def waited(program: Tegrastats, gpu_mhz: float) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        seen = program.read()
        if seen is not None and seen.gpu_mhz == gpu_mhz:
            return True
        time.sleep(0.01)
    return False


def test_the_newest_line_is_read_and_the_program_ends_with_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        monkeypatch,
        f"echo '{JETPACK_5}'; sleep 0.2; echo '{JETPACK_7}'; exec sleep 60",
    )
    program = open_tegrastats(interval_ms=100)
    assert program is not None
    assert waited(program, 1574)
    program.close()
    assert program.read() is None


def test_a_program_that_prints_nothing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.tegrastats._FIRST_LINE_S", 0.3)
    install(tmp_path, monkeypatch, "exit 1")
    assert open_tegrastats(interval_ms=100) is None
    assert tegrastats_power() is None


def test_the_meter_is_the_modules_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, f"echo '{JETPACK_7_2}'; exec sleep 60")
    source = tegrastats_power()
    assert source is not None
    assert source.rail == "VIN (module input, the total)"
    assert source.watts() == pytest.approx(124.486)


def test_a_clock_that_only_tegrastats_sees_makes_the_run_unstable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = JETPACK_7.replace("1574", "1200")
    install(
        tmp_path, monkeypatch, f"echo '{JETPACK_7}'; read go < {tmp_path}/go; echo '{slower}'; exec sleep 60"
    )
    os.mkfifo(tmp_path / "go")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R38 (release), REVISION: 2.0")
    device = find_sensors(tmp_path)
    states = [device.read()]
    (tmp_path / "go").write_text("go\n")
    until = time.monotonic() + 5
    while device.read() == states[0] and time.monotonic() < until:
        time.sleep(0.01)
    states.append(device.read())
    assert (states[0].mhz, states[0].gpu_mhz, states[0].gpu_celsius) == (2601, 1574, 38.8)
    assert reasons_of_run(states, np.full((40, 1), 5.0), on_gpu=True) == [
        "the GPU clock moved by -23.8% (limit 3%)"
    ]
    assert device.fix.startswith("sudo jetson_clocks")
