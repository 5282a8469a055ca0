"""samkr_tiny at 64x64, float and calibrated, exported once for all tests of what happens to an ONNX on a device; and a
machine with a GPU and TensorRT of any version and flavour, all fake.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from fake_cuda_packages import PACKAGES, FakeCudaPython, FakePyCuda
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from red_dot import write_red_dot_model

import samkr_edge.builder.tensorrt.engine_trial
import samkr_edge.machine.driver
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_file import OnnxFile

if TYPE_CHECKING:
    from training.models.pose_net import PoseNet


@pytest.fixture(scope="session")
def exported() -> ModuleType:
    """``exported_network``; where there is no torch, as on a device, tests that need its networks are skipped."""
    module: ModuleType = pytest.importorskip("exported_network")
    return module


@pytest.fixture(scope="session")
def float_network(exported: ModuleType) -> PoseNet:
    return exported.float_network()


@pytest.fixture(scope="session")
def int8_network(exported: ModuleType, float_network: PoseNet) -> PoseNet:
    return exported.int8_network(float_network)


@pytest.fixture(scope="session")
def per_tensor_network(exported: ModuleType, float_network: PoseNet) -> PoseNet:
    return exported.int8_network(float_network, granularity="tensor")


@pytest.fixture(scope="session")
def exported_once(
    exported: ModuleType, request: pytest.FixtureRequest, made_once: Callable[..., Path]
) -> Callable[..., Path]:
    """``exported_once("ptq.onnx", "int8_network", precision="int8")``: the ONNX of the network that this fixture
    gives, which is built only where no other worker has exported it.
    """

    def path_of(name: str, network: str, **options: Any) -> Path:
        return made_once(
            name, lambda path: exported.export(request.getfixturevalue(network), path, **options)
        )

    return path_of


@pytest.fixture(scope="session")
def float_onnx(exported_once: Callable[..., Path]) -> Path:
    return exported_once("tiny.onnx", "float_network")


@pytest.fixture(scope="session")
def int8_onnx(exported_once: Callable[..., Path]) -> Path:
    return exported_once("ptq.onnx", "int8_network", precision="int8")


@pytest.fixture(scope="session")
def per_tensor_onnx(exported_once: Callable[..., Path]) -> Path:
    """The calibrated network with one scale a weight, as TensorRT for RTX wants it."""
    return exported_once("ptq-tensor.onnx", "per_tensor_network", precision="int8")


@pytest.fixture(scope="session")
def half_onnx(exported_once: Callable[..., Path]) -> Path:
    return exported_once("half.onnx", "float_network", half=True)


@pytest.fixture(scope="session")
def decoding_onnx(exported_once: Callable[..., Path]) -> Path:
    """The float network with decoding in the graph."""
    return exported_once("decoding.onnx", "float_network", decode="graph")


@pytest.fixture(scope="session")
def decoding_int8_onnx(exported_once: Callable[..., Path]) -> Path:
    return exported_once("decoding-ptq.onnx", "int8_network", precision="int8", decode="graph")


@pytest.fixture(autouse=True)
def no_package_by_chance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that know CUDA are not there, whatever is installed; a test that wants one asks for its stand-in.

    Nor is a TensorRT of either flavour; with the real TensorRT for RTX build the tests in tests/referee.
    """
    if request.node.get_closest_marker("gpu") or request.node.get_closest_marker("jetson"):
        return
    for package, modules in PACKAGES.items():
        for name in (package, *modules):
            monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(autouse=True)
def sampling_is_tried_on_a_small_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every build it is tried; what the trial asks does not depend on the size of its map."""
    monkeypatch.setattr("samkr_edge.builder.tensorrt.sampling_check.SIZES", (4, 32, 32, 9))


@pytest.fixture(scope="session")
def references() -> dict[Any, Any]:
    return {}


@pytest.fixture(scope="module")
def references_are_kept(references: dict[Any, Any]) -> Iterator[None]:
    """What engines are judged by is computed once for each graph, where tests build the same graph again and again."""

    def reference_of(graph: OnnxFile, card: ModelCard) -> Any:
        key = hashlib.sha256(graph.encode()).digest(), repr(card)
        if key not in references:
            references[key] = computed(graph, card)
        return references[key]

    with pytest.MonkeyPatch.context() as patch:
        computed = samkr_edge.builder.tensorrt.engine_trial.reference_of
        patch.setattr(samkr_edge.builder.tensorrt.engine_trial, "reference_of", reference_of)
        yield


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    """An RTX 4090 behind a fake CUDA driver; caches go to the test's folder."""
    fake = Driver()
    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: (fake, ""))
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    return fake


@pytest.fixture
def install(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeTensorRT]:
    """``install("10.3.0")``: ``import tensorrt`` gives this version; ``rtx 1.7.1.116`` comes as ``tensorrt_rtx``."""

    def put(version: str) -> FakeTensorRT:
        fake = FakeTensorRT(version, driver)
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        return fake

    return put


@pytest.fixture
def no_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has no NVIDIA driver."""
    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: (None, "no driver"))


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
