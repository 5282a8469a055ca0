"""The JetPack matrix: what each release contains, looked up by the L4T version in a Jetson's ``/etc``.

Sources: NVIDIA's release pages as quoted by jetson-containers, Torch-TensorRT and Jetson wheel builders. Versions
marked unverified are from general knowledge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Chips by generation; the Orin family is tegra234, Thor is tegra264.
NANO, TX2, XAVIER, ORIN, THOR = "tegra210", "tegra186", "tegra194", "tegra234", "tegra264"
# /sys/devices/soc0/soc_id: the chip id of Linux's include/soc/tegra/fuse.h (0x21, 0x18, 0x19, 0x23, 0x26), in decimals.
CHIP_IDS = {"33": NANO, "24": TX2, "25": XAVIER, "35": ORIN, "38": THOR}


@dataclass(frozen=True)
class JetPack:
    """One release.

    Attributes:
        l4t: L4T versions, or their first two numbers if all of those belong to it.
        python, cuda, tensorrt: what it installs; TensorRT as far as it matters for the API.
        chips: which it runs on.
    """

    version: str
    l4t: tuple[str, ...]
    python: str
    cuda: str
    tensorrt: str
    chips: tuple[str, ...]


JETPACKS: tuple[JetPack, ...] = (
    JetPack("4.6", ("32.6",), "3.6", "10.2", "8.0.1", (NANO, TX2, XAVIER)),
    JetPack("4.6.1", ("32.7",), "3.6", "10.2", "8.2.1", (NANO, TX2, XAVIER)),
    JetPack(
        "5.0", ("34.1",), "3.8", "11.4", "8.4.0", (XAVIER, ORIN)
    ),  # developer preview; TensorRT unverified
    JetPack("5.0.2", ("35.1",), "3.8", "11.4", "8.4.1", (XAVIER, ORIN)),  # TensorRT unverified
    JetPack("5.1", ("35.2", "35.3", "35.4", "35.5", "35.6"), "3.8", "11.4", "8.5.2", (XAVIER, ORIN)),
    JetPack("6.0", ("36.3",), "3.10", "12.2", "8.6.2", (ORIN,)),
    JetPack("6.1", ("36.4.0",), "3.10", "12.6", "10.3.0", (ORIN,)),
    JetPack("6.2", ("36.4", "36.5"), "3.10", "12.6", "10.3.0", (ORIN,)),
    JetPack("7.0", ("38.2",), "3.12", "13.0", "10.13.3", (THOR,)),  # TensorRT unverified
    JetPack("7.1", ("38.4",), "3.12", "13.0", "10.13.3", (THOR,)),  # TensorRT unverified
    JetPack("7.2", ("39.0", "39.2"), "3.12", "13.2", "10.16.2", (ORIN, THOR)),
    # May take TensorRT 11.4.1 on AGX Orin and Thor; its L4T version is not known yet.
    JetPack("7.2.2", (), "3.12", "13.2", "11.4.1", (ORIN, THOR)),
)


def parse_tegra_release(text: str) -> str | None:
    """``/etc/nv_tegra_release`` -> L4T version.

    ``# R36 (release), REVISION: 4.3, GCID: ...`` -> ``36.4.3``; None for any other text.
    """
    found = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{found[1]}.{found[2].strip('.')}" if found else None


def jetpack_of(l4t: str) -> JetPack | None:
    """The release that an L4T version belongs to; the longest match decides (36.4.0 is 6.1, 36.4.3 is 6.2)."""
    matches = [
        (len(prefix), release)
        for release in JETPACKS
        for prefix in release.l4t
        if l4t == prefix or l4t.startswith(prefix + ".")
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def load_jetpack(version: str) -> JetPack | None:
    """A release by its version; point releases fall back to their base (6.2.1 -> 6.2)."""
    by_version = {release.version: release for release in JETPACKS}
    while version not in by_version and "." in version:
        version = version.rpartition(".")[0]
    return by_version.get(version)
