"""Stage 11 of the self-test on an AGX Orin made of files, small programs and the stand-in of TensorRT.

The files are written by hand in the formats that owners and NVIDIA show; no Jetson was at hand.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT

import samkr_edge.machine.device
from benchmarks.measure.energy import PowerSource
from benchmarks.schema import MemoryMb
from benchmarks.selftest import as_root, jetson, jetson_engines
from benchmarks.selftest.stage import Check, Rig
from samkr_edge.errors import SamkrError
from samkr_edge.runtime.tensorrt import TensorRTRunner

pytestmark = pytest.mark.usefixtures("references_are_kept")

GPU = "sys/class/devfreq/17000000.gpu"
RAILS = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
DLA = "sys/bus/platform/devices/{}/power/runtime_active_time"
FILES = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"
    "< POWER_MODEL ID=3 NAME=MODE_50W >\n",
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0",
    f"{GPU}/cur_freq": "612000000\n",
    f"{GPU}/min_freq": "306000000\n",
    f"{GPU}/max_freq": "1300500000\n",
    f"{RAILS}/in1_label": "VDD_GPU_SOC\n",
    f"{RAILS}/in1_input": "12000\n",
    f"{RAILS}/curr1_input": "1000\n",
    DLA.format("15880000.nvdla0"): "5000\n",
    DLA.format("158c0000.nvdla1"): "700\n",
}
# A mode that needs a restart asks, and stays where it is; jetson_clocks raises the lower end of the clock.
PROGRAMS = {
    "nvpmodel": """
mode=$(cat {root}/mode)
if [ "$1" = -q ]; then echo "NV Power Mode: $mode"; echo "$([ $mode = MAXN ] && echo 0 || echo 3)"; exit 0; fi
[ "$2" = 2 ] && {{ echo 'Reboot required'; read answer; echo "$answer" >> {root}/answers; exit 1; }}
[ "$2" = 0 ] && echo MAXN > {root}/mode || echo MODE_50W > {root}/mode""",
    "jetson_clocks": """
[ "$1" = --store ] && {{ cat {root}/{gpu}/min_freq > "$2"; exit; }}
[ "$1" = --restore ] && {{ cat "$2" > {root}/{gpu}/min_freq; exit; }}
cat {root}/{gpu}/max_freq > {root}/{gpu}/min_freq""",
    "tegrastats": """
while :; do echo "RAM 3/30G VDD_GPU_SOC 12100mW/12100mW GR3D_FREQ 0%@[612,612]"; sleep 0.05; done""",
}


class Orin:
    """The machine; ``run`` gives its checks by name."""

    def __init__(self, root: Path, trt: FakeTensorRT, driver: Driver) -> None:
        self.root, self.trt, self.driver = root, trt, driver
        self.awake = lambda core: core
        for name, text in FILES.items():
            self.write(name, text)
        (root / "mode").write_text("MAXN\n")
        (root / "bin").mkdir()
        for name, text in PROGRAMS.items():
            path = root / "bin" / name
            path.write_text("#!/bin/sh" + text.format(root=root, gpu=GPU))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def exercise(self, engine: Path, seconds: float) -> None:
        """What the real one does to the kernel's counters: the core that the runtime was set to is awake."""
        TensorRTRunner(engine).close()
        core = self.awake(self.trt.dla_cores[-1])
        node = ("15880000.nvdla0", "158c0000.nvdla1")[core or 0]
        self.write(DLA.format(node), f"{int((self.root / DLA.format(node)).read_text()) + 1900}\n")

    def run(self) -> dict[str, Check]:
        rig = Rig(self.root / "stage", self.root / "shared")
        rig.folder.mkdir()
        return {check.what: check for check in jetson.checks(rig, self.root)}


@pytest.fixture
def orin(
    driver: Driver, install: Callable[[str], FakeTensorRT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Orin:
    driver.gpu, driver.capability = b"Orin", (8, 7)
    trt = install("10.3.0")
    trt.dla_count = 2
    machine = Orin(tmp_path / "orin", trt, driver) if (tmp_path / "orin").mkdir() is None else None
    assert machine is not None
    described, asked = samkr_edge.machine.device.described_by_files, samkr_edge.machine.device.ask_driver
    monkeypatch.setattr(samkr_edge.machine.device, "described_by_files", lambda: described(machine.root))
    monkeypatch.setattr(
        samkr_edge.machine.device,
        "ask_driver",
        lambda driver: asked(driver) | {"sms": 16, "memory_bytes": 61 << 30},
    )
    monkeypatch.setenv("PATH", f"{machine.root / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(jetson.power, "__defaults__", (0.4,))
    monkeypatch.setattr(jetson_engines, "_run_for", machine.exercise)
    measured = MemoryMb(peak=300, before_opening=90, gpu=120, gpu_source="NvMapMemUsed", shared=True)
    monkeypatch.setattr(jetson_engines, "measure_memory", lambda path, threads: measured)
    return machine


def verdicts(checks: dict[str, Check]) -> dict[str, bool | None]:
    return {name: check.passed for name, check in checks.items()}


RIGHT = {
    "module": True,
    "JetPack": True,
    "GPU's clock in sysfs": True,
    "power: INA3221 against tegrastats": True,
    "memory column": True,
    "engine of MAXN in 50W": True,
    "DLA core 0": True,
    "DLA core 1": True,
    "clocks locked after jetson_clocks": True,
}


def test_an_orin_passes_and_is_left_as_it_was(orin: Orin) -> None:
    checks = orin.run()
    assert verdicts(checks) == RIGHT
    assert "jetson-agx-orin-64gb (p3701-0000" in checks["module"].found
    assert "L4T 36.4.3 (JetPack 6.2)" in checks["JetPack"].found
    assert "MAXN (id 0), clocks locked" in checks["clocks locked after jetson_clocks"].found
    assert (orin.root / "mode").read_text() == "MAXN\n"
    assert (orin.root / GPU / "min_freq").read_text() == FILES[f"{GPU}/min_freq"]
    assert (orin.root / "answers").read_text() == "no\n", "a restart was not refused, or not asked for"


def changed(orin: Orin) -> dict[str, bool | None]:
    """Verdicts that differ from those of an Orin where all is right."""
    found = verdicts(orin.run())
    return {name: passed for name, passed in found.items() if RIGHT.get(name, "new") != passed}


def test_a_module_with_another_gpu_than_its_profile_says_fails(orin: Orin) -> None:
    orin.driver.capability = (7, 2)
    assert jetson.recognised(samkr_edge.machine.device.running_device()).passed is False
    device = replace(
        samkr_edge.machine.device.running_device(), compute_capability="8.7", memory_bytes=30 << 30
    )
    assert "30.0 GiB, not 64" in jetson.recognised(device).found


def test_a_module_whose_id_no_profile_has_fails(orin: Orin) -> None:
    device = samkr_edge.machine.device.running_device()
    check = jetson.recognised(replace(device, compatible=("nvidia,p9999-0000", "nvidia,tegra234")))
    assert check.passed is False
    assert "no profile has this id" in check.found


def test_an_unknown_release_and_a_missing_clock_fail(orin: Orin) -> None:
    orin.write("etc/nv_tegra_release", "# R99 (release), REVISION: 1.0, GCID: 1, BOARD: generic")
    orin.write(f"{GPU}/cur_freq", "0\n")
    assert changed(orin) == {"JetPack": False, "GPU's clock in sysfs": False}


def test_a_container_that_hides_the_release_is_no_failure(orin: Orin) -> None:
    (orin.root / "etc/nv_tegra_release").unlink()
    assert jetson.jetpack(samkr_edge.machine.device.running_device()).passed is None


def test_a_monitor_that_reads_other_than_tegrastats_fails(orin: Orin) -> None:
    orin.write(f"{RAILS}/curr1_input", "800\n")
    assert changed(orin) == {"power: INA3221 against tegrastats": False}


def test_a_monitor_that_cannot_be_read_is_not_compared() -> None:
    meter = PowerSource("meter", "VDD_IN", 0.01, lambda: None)
    assert jetson.power(None, meter).passed is None
    assert jetson.power(meter, None).passed is None
    assert jetson.power(meter, meter, 0.05).passed is None


def test_a_memory_column_without_the_gpu_fails(orin: Orin, monkeypatch: pytest.MonkeyPatch) -> None:
    without = MemoryMb(peak=300, before_opening=90)
    monkeypatch.setattr(jetson_engines, "measure_memory", lambda path, threads: without)
    assert changed(orin) == {"memory column": False}


def test_an_engine_that_computes_otherwise_in_another_mode_fails(
    orin: Orin, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = iter([[np.ones(4)], [np.full(4, 1.1)]])
    monkeypatch.setattr(jetson_engines, "_outputs", lambda engine: next(outputs))
    assert changed(orin) == {"engine of MAXN in 50W": False}


def test_an_engine_that_another_mode_refuses_fails_and_the_mode_is_put_back(
    orin: Orin, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = jetson_engines._outputs

    def refuse(engine: Path) -> Any:
        if (orin.root / "mode").read_text() != "MAXN\n":
            raise SamkrError("SE-V89", "TensorRT refuses to load it")
        return outputs(engine)

    monkeypatch.setattr(jetson_engines, "_outputs", refuse)
    assert changed(orin) == {"engine of MAXN in 50W": False}
    assert (orin.root / "mode").read_text() == "MAXN\n"


def test_an_engine_that_runs_on_the_other_core_fails(orin: Orin) -> None:
    orin.awake = lambda core: 0
    assert changed(orin) == {"DLA core 1": False}


def test_a_kernel_that_shows_no_dla_gives_no_verdict(orin: Orin) -> None:
    orin.exercise = lambda engine, seconds: None  # type: ignore[method-assign]
    for node in ("15880000.nvdla0", "158c0000.nvdla1"):
        (orin.root / DLA.format(node)).unlink()
    assert jetson_engines.awake_ms(orin.root) == {}


def test_clocks_that_do_not_lock_fail_and_are_restored(orin: Orin) -> None:
    (orin.root / "bin" / "jetson_clocks").write_text(
        "#!/bin/sh" + PROGRAMS["jetson_clocks"].format(root=orin.root, gpu=GPU).rpartition("\n")[0] + "\n:"
    )
    assert changed(orin) == {"clocks locked after jetson_clocks": False}


def test_without_root_the_commands_to_type_are_told(orin: Orin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(as_root, "shutil", SimpleNamespace(which=lambda name: None))
    checks = orin.run()
    assert "sudo jetson_clocks" in checks["clocks locked after jetson_clocks"].found
    assert "sudo nvpmodel -m 2" in checks["engine in another power mode"].found
    assert checks["clocks locked after jetson_clocks"].passed is None
    assert (orin.root / "mode").read_text() == "MAXN\n"


def test_clocks_that_are_locked_already_are_seen_without_root(orin: Orin) -> None:
    orin.write(f"{GPU}/min_freq", FILES[f"{GPU}/max_freq"])
    assert jetson.locked_clocks(orin.root / "store", orin.root).passed


def test_maps_that_are_not_a_number_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    heatmap, offset = np.ones(4), np.ones(4)
    monkeypatch.setattr(jetson_engines, "_outputs", lambda engine: [heatmap, np.full(4, np.nan)])
    assert jetson_engines._in_mode(Path("x.engine"), [heatmap, offset], "engine").passed is False
