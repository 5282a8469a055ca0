"""A device's facts about itself, and what follows from them; pure, so that recorded texts can test it.

It needs only the standard library: ``samkr-edge doctor`` uses it where packages are broken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from targets.jetpack import CHIP_IDS, jetpack_of

# A GPU's devfreq node by JetPack: 4 (57000000.gpu of the Nano, 17000000.gp10b of the TX2), 4 and 5 (gv11b: Xavier), 5
# (ga10b: Orin), 6 and later (17000000.gpu: Orin), 7 (gpu-gpc-0: Thor, whose gpu-nvd-0 is its video engine).
_NAMES = "gm20b|gp10b|gv11b|ga10b|gb10b"
_GPU_NODE = re.compile(rf"(\w+\.)?(gpu|{_NAMES})|gpu-gpc-\d+")
# Those of them that only Jetsons have: "ff9a0000.gpu" is a Mali.
_TEGRA_NODE = re.compile(rf"[15]7000000\.gpu|\w+\.({_NAMES})|gpu-gpc-\d+")


@dataclass(frozen=True)
class Device:
    """The running device by its own facts; empty where unknown.

    Attributes:
        machine, system: ``aarch64``, ``Linux``; ``kernel`` the kernel's release, ``5.15.148-tegra``.
        model: the device tree's model line; ``compatible`` its list of ids. Docker hides both (``/sys/firmware``).
        l4t: L4T version; None also in a container that was not given a Jetson's ``/etc/nv_tegra_release``.
        soc_family, soc_id: of the kernel's SoC driver, ``Tegra`` and the chip's number in decimals; containers see it.
        devfreq: names of the nodes with a scalable clock, such as ``17000000.gpu``.
        gpu, compute_capability, sms, memory_bytes: of GPU 0, from the CUDA driver; ``sms`` counts live ones, which a
            power mode can gate, and ``memory_bytes`` is all memory (a Jetson's is shared with its CPU).
        integrated: whether the driver says that GPU 0 has no memory of its own.
        cuda: the highest CUDA version the driver knows.
        power_mode: name of the nvpmodel mode.
    """

    machine: str = ""
    system: str = ""
    kernel: str = ""
    model: str = ""
    compatible: tuple[str, ...] = ()
    l4t: str | None = None
    soc_family: str = ""
    soc_id: str = ""
    devfreq: tuple[str, ...] = ()
    gpu: str | None = None
    compute_capability: str | None = None
    sms: int | None = None
    memory_bytes: int | None = None
    integrated: bool = False
    cuda: str | None = None
    power_mode: str | None = None

    @property
    def is_jetson(self) -> bool:
        """Whether this is a Jetson, by any one fact that only they have; a container shows only some of them.

        Kernel modules named ``tegra*`` do not count, as a kernel for all 64-bit ARM boards has them too. Nor does the
        family alone: a Grace server's is ``Tegra`` too.
        """
        return bool(
            self.l4t
            or any(re.match(r"nvidia,tegra", name) for name in self.compatible)
            or "jetson" in self.model.lower()
            or (self.soc_family.lower().startswith("tegra") and self.soc_id in ("", *CHIP_IDS))
            or "tegra" in self.kernel.split("-")
            or any(_TEGRA_NODE.fullmatch(name) for name in self.devfreq)
        )

    @property
    def shares_memory(self) -> bool:
        """Whether GPU and CPU have one memory: Jetsons, and other boards whose driver says so."""
        return self.is_jetson or self.integrated

    @property
    def chip(self) -> str | None:
        """The Tegra chip, ``tegra234``: from the device tree, else from the SoC driver's number."""
        named = (re.fullmatch(r"nvidia,(tegra\d{3})", name) for name in self.compatible)
        found = next((match[1] for match in named if match), None)
        return found or (CHIP_IDS.get(self.soc_id) if self.is_jetson else None)

    @property
    def jetpack(self) -> str | None:
        """JetPack version, if the L4T version belongs to a known one."""
        release = jetpack_of(self.l4t) if self.l4t else None
        return release.version if release else None

    @property
    def release(self) -> str:
        """L4T and JetPack of a Jetson in words, or why they are unknown; '' for other devices."""
        if not self.is_jetson:
            return ""
        if self.l4t is None:
            return "L4T unknown, JetPack unknown: there is no /etc/nv_tegra_release (a container hides it)"
        return f"L4T {self.l4t} (JetPack {self.jetpack or 'unknown'})"


def is_gpu_node(name: str) -> bool:
    """Whether a devfreq node of a Jetson, by its name or that of its device-tree node, is the GPU's."""
    return _GPU_NODE.fullmatch(name) is not None


def parse_model(data: bytes) -> str:
    """``/proc/device-tree/model``: ends in a NUL."""
    return data.decode("utf-8", "replace").strip("\0 \n")


def parse_compatible(data: bytes) -> tuple[str, ...]:
    """``/proc/device-tree/compatible``: NUL-separated ids, the most exact first."""
    return tuple(part for part in data.decode("utf-8", "replace").split("\0") if part.strip())


def parse_power_mode(text: str) -> str | None:
    """Name of the mode from ``nvpmodel -q``: ``NV Power Mode: MODE_30W`` and ``NV Power Mode: 30W`` alike."""
    found = re.search(r"^NV Power Mode:\s*(?:MODE_)?(\S+)", text, flags=re.MULTILINE)
    return found[1] if found else None
