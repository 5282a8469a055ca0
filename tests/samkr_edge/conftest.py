"""samkr_tiny at 64x64, float and calibrated, exported once for all tests of what happens to an ONNX on a device; and a
machine with a GPU and TensorRT of any version, both fake.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from fake_cuda_packages import PACKAGES, FakeCudaPython, FakePyCuda
from fake_tensorrt import Driver, FakeTensorRT
from red_dot import write_red_dot_model

import samkr_edge.device
from calibration.policy import load_policy
from calibration.ptq import quantize_network
from training.checkpoint import network_of, untrained_checkpoint
from training.export import export_onnx
from training.models.adaptive_conv import AffineSampling
from training.models.pose_net import PoseNet

SIZE = (64, 64)


@pytest.fixture(scope="session")
def float_network() -> PoseNet:
    """An untrained samkr_tiny whose adaptive taps move: every position of a grid differs from the regular one."""
    network = network_of(untrained_checkpoint("samkr_tiny"))
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, AffineSampling):
            weight = module.affine.weight
            with torch.no_grad():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return network


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def float_onnx(float_network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_onnx(float_network, untrained_checkpoint("samkr_tiny").card, path, size=SIZE)
    return path


@pytest.fixture(scope="session")
def int8_network(float_network: PoseNet) -> PoseNet:
    def batches() -> Iterator[np.ndarray]:
        yield from np.split(noise(8), 2)

    return quantize_network(float_network, load_policy("default"), batches())[0]


@pytest.fixture(scope="session")
def int8_onnx(int8_network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "ptq.onnx"
    card = replace(untrained_checkpoint("samkr_tiny").card, precision="int8", stage="ptq")
    export_onnx(int8_network, card, path, size=SIZE)
    return path


@pytest.fixture(scope="session")
def decoding_onnx(float_network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float network with decoding in the graph."""
    path = tmp_path_factory.mktemp("onnx") / "decoding.onnx"
    export_onnx(float_network, untrained_checkpoint("samkr_tiny").card, path, size=SIZE, decode="graph")
    return path


@pytest.fixture(scope="session")
def decoding_int8_onnx(int8_network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "decoding-ptq.onnx"
    card = replace(untrained_checkpoint("samkr_tiny").card, precision="int8", stage="ptq")
    export_onnx(int8_network, card, path, size=SIZE, decode="graph")
    return path


@pytest.fixture(autouse=True)
def no_package_by_chance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that know CUDA are not there, whatever is installed; a test that wants one asks for its stand-in."""
    if request.node.get_closest_marker("gpu") or request.node.get_closest_marker("jetson"):
        return
    for package, modules in PACKAGES.items():
        for name in (package, *modules):
            monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    """An RTX 4090 behind a fake CUDA driver; caches go to the test's folder."""
    fake = Driver()
    monkeypatch.setattr(samkr_edge.device, "_load_driver", lambda: (fake, ""))
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    return fake


@pytest.fixture
def install(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeTensorRT]:
    """``install("10.3.0")``: from now on ``import tensorrt`` gives this version."""

    def put(version: str) -> FakeTensorRT:
        fake = FakeTensorRT(version, driver)
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        return fake

    return put


@pytest.fixture
def cuda_python(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> FakeCudaPython:
    """``from cuda.bindings import driver`` gives cuda-python over the fake driver."""
    fake, package, bindings = FakeCudaPython(driver), ModuleType("cuda"), ModuleType("cuda.bindings")
    bindings.driver = fake  # type: ignore[attr-defined]
    for module in (package, bindings, fake):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake


@pytest.fixture
def pycuda(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePyCuda]:
    """``import pycuda.driver`` gives pycuda over the fake driver; at the end nothing of it may be left."""
    fake, package = FakePyCuda(driver), ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    for module in (package, fake):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield fake
    # pycuda would have ended the process.
    assert not any(fake.stacks.values())
    assert fake.live == set()


@pytest.fixture(scope="session")
def red_dot_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without weights that sees a person wherever the image is red."""
    return write_red_dot_model(tmp_path_factory.mktemp("model") / "red.onnx")
