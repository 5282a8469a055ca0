"""Recognising the running device from recorded texts."""

import ctypes
from typing import Any

import pytest

from samkr_edge.machine.device import ask_driver, parse_memory
from targets.device import Device, parse_compatible, parse_model, parse_power_mode
from targets.recognise import recognise

GB = 10**9


@pytest.mark.parametrize(
    ("model", "compatible", "memory", "name"),
    [
        (
            b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
            8,
            "jetson-orin-nano-8gb",
        ),
        (
            b"NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
            b"nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0",
            16,
            "jetson-orin-nx-16gb",
        ),
        (
            b"NVIDIA Orin NX on a third-party board\0",
            b"vendor,board\0nvidia,tegra234\0",
            7.5,
            "jetson-orin-nx-8gb",
        ),
        (b"Jetson AGX Orin\0", b"nvidia,p3737-0000+p3701-0000\0", 32, "jetson-agx-orin-64gb"),
        (b"NVIDIA Jetson Xavier NX Developer Kit\0", b"nvidia,tegra194\0", 7.7, "jetson-xavier-nx"),
        (b"Jetson-AGX\0", b"nvidia,p2972-0000\0nvidia,tegra194\0", 31, "jetson-agx-xavier"),
        (b"NVIDIA Jetson Nano Developer Kit\0", b"nvidia,p3449-0000-b00+p3448-0000-b00\0", 4, "jetson-nano"),
        (b"quill\0", b"nvidia,quill\0nvidia,p2597-0000+p3310-1000\0nvidia,tegra186\0", 8, "jetson-tx2"),
        (b"NVIDIA Jetson AGX Thor Developer Kit\0", b"nvidia,tegra264\0", 125, "jetson-thor-t5000"),
    ],
)
def test_a_jetson_is_known_by_its_device_tree(
    model: bytes, compatible: bytes, memory: float, name: str
) -> None:
    device = Device(
        model=parse_model(model), compatible=parse_compatible(compatible), memory_bytes=int(memory * GB)
    )
    assert recognise(device).name == name


def in_a_container(**facts: Any) -> Device:
    """A Jetson as Docker shows it: no device tree, and no release file unless it is mounted."""
    return Device(machine="aarch64", kernel="5.15.148-tegra", **facts)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (
            {"gpu": "Orin", "compute_capability": "8.7", "sms": 16, "memory_bytes": 62 * GB},
            "jetson-agx-orin-64gb",
        ),
        (
            {"gpu": "Orin", "compute_capability": "8.7", "sms": 4, "memory_bytes": 16 * GB},
            "jetson-orin-nx-16gb",
        ),
        # An Orin NX 8 GB looks the same; what is planned for a Nano runs there too, and not the other way round.
        (
            {"gpu": "Orin", "compute_capability": "8.7", "sms": 8, "memory_bytes": 8 * GB},
            "jetson-orin-nano-8gb",
        ),
        (
            {"gpu": "Orin", "compute_capability": "8.7", "sms": 4, "memory_bytes": 4 * GB},
            "jetson-orin-nano-4gb",
        ),
        (
            {"gpu": "Xavier", "compute_capability": "7.2", "sms": 6, "memory_bytes": 8 * GB},
            "jetson-xavier-nx",
        ),
        (
            {"gpu": "NVIDIA Thor", "compute_capability": "11.0", "sms": 20, "memory_bytes": 131 * GB},
            "jetson-thor-t5000",
        ),
    ],
)
def test_a_jetson_in_a_container_is_known_by_its_chip_and_memory(facts: dict[str, Any], name: str) -> None:
    device = in_a_container(**facts)
    assert (device.is_jetson, device.shares_memory, recognise(device).name) == (True, True, name)
    assert (device.l4t, device.jetpack) == (None, None)
    assert "JetPack unknown" in device.release


def test_a_jetson_of_an_unknown_chip_is_a_jetson_without_a_profile() -> None:
    target = recognise(in_a_container(gpu="Next", compute_capability="13.0", sms=30, memory_bytes=64 * GB))
    assert (target.name, target.family, target.jetpack) == ("jetson-sm130", "jetson", ())
    assert target.refusal("dla") is not None


def test_the_chip_is_that_of_the_device_tree_or_of_the_soc_drivers_number() -> None:
    assert Device(compatible=("nvidia,p3767-0005", "nvidia,tegra234", "nvidia,tegra23x")).chip == "tegra234"
    assert in_a_container(soc_family="Tegra", soc_id="38").chip == "tegra264"
    assert in_a_container().chip is None
    assert Device(soc_family="Snapdragon", soc_id="35").chip is None


def test_a_board_that_is_no_jetson_may_share_its_memory_too() -> None:
    spark = Device(gpu="NVIDIA GB10", compute_capability="12.1", integrated=True)
    assert (spark.is_jetson, spark.shares_memory) == (False, True)
    assert not Device(gpu="NVIDIA GeForce RTX 4090").shares_memory


def test_a_card_is_known_by_the_name_its_driver_prints() -> None:
    assert recognise(Device(gpu="NVIDIA GeForce RTX 4060 Ti")).name == "rtx-4060-ti"


def test_a_gpu_without_a_profile_is_described_by_its_driver() -> None:
    laptop = Device(
        gpu="NVIDIA GeForce RTX 4060 Laptop GPU", compute_capability="8.9", sms=24, memory_bytes=8 << 30
    )
    target = recognise(laptop)
    assert (target.name, target.family, target.sms, target.memory_gb) == ("gpu-sm89", "gpu", 24, 8)


def test_without_a_gpu_it_is_the_cpu() -> None:
    assert recognise(Device(machine="x86_64", model="Raspberry Pi 5 Model B")).name == "cpu"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n", "30W"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0\n", "15W"),
        ("nvpmodel: command not found", None),
    ],
)
def test_the_power_mode_is_read_by_name(text: str, name: str | None) -> None:
    assert parse_power_mode(text) == name


def test_available_memory_is_read_from_meminfo() -> None:
    assert parse_memory("MemTotal: 7800000 kB\nMemAvailable:    2048 kB\n", "MemAvailable") == 2 << 20
    assert parse_memory("", "MemAvailable") is None


class Driver:
    """libcuda's functions for one Orin."""

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = 64 << 30
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: ctypes.c_int) -> int:
        value._obj.value = {16: 8, 18: 1, 75: 8, 76: 7}[number]
        return 0


def test_the_driver_describes_the_gpu() -> None:
    assert ask_driver(Driver()) == {
        "gpu": "Orin",
        "compute_capability": "8.7",
        "sms": 8,
        "memory_bytes": 64 << 30,
        "integrated": True,
        "cuda": "12.6",
    }
