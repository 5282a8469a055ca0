"""Three ways to the same driver, of which a user has to know none: the same results and the same errors, whichever
packages are installed and whatever they raise.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda_packages import CALLS, PACKAGES, FakeCudaPython, FakePyCuda, PyCudaError
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from tensorrt_graphs import write_residual

import samkr_edge.machine.driver
from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.runtime.cuda import BACKENDS, Cuda, open_cuda
from samkr_edge.runtime.cuda_driver import CtypesCuda
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
NO_DRIVER = '"cuda" is an NVIDIA driver library and can only be found via system search.'
# What a package may be on the path of a machine without its driver.
CONTENTS = {
    "as cuda-bindings 13": f"def __getattr__(name):\n    def call(*a):\n        raise RuntimeError({NO_DRIVER!r})\n"
    "    return call\n",
    "as pycuda": "raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')",
    "a library is missing": "import ctypes; ctypes.CDLL('libnothing.so.0')",
    "refuses": "raise RuntimeError('this package supports another machine')",
}


def engine(trt: FakeTensorRT, folder: Path) -> Path:
    source = write_residual(folder / "model.onnx", batch=2)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)


def write_packages(folder: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the backends, as files at the head of Python's path."""
    for module in ("cuda/bindings/driver.py", "pycuda/driver.py"):
        path = folder / module
        path.parent.mkdir(parents=True)
        path.write_text(content)
        for above in path.relative_to(folder).parents:
            if above.name:
                (folder / above / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    find_anew(monkeypatch)


def find_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, modules in PACKAGES.items():
        if package != "tensorrt":
            for name in (package, *modules):
                monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def no_trace_of_packages() -> Iterator[None]:
    """What a test imports from its folder does not stay imported."""
    yield
    for package, modules in PACKAGES.items():
        for name in (package, *modules):
            sys.modules.pop(name, None)


# -- Whatever is installed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surroundings", ["nothing", "what is installed here", *CONTENTS])
def test_the_same_whatever_is_installed(
    no_trace_of_packages: None,
    install: Install,
    driver: Driver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    surroundings: str,
) -> None:
    """From ONNX to maps, with a graph, and nothing left; `torch` alone brings cuda-bindings to any machine."""
    if surroundings == "what is installed here":
        find_anew(monkeypatch)
    elif surroundings != "nothing":
        write_packages(tmp_path / "packages", CONTENTS[surroundings], monkeypatch)
    assert open_cuda().name == "driver"
    before = driver.retained
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path), cuda_graph=True)
    assert runner.graph_note is None
    assert runner.run(images())[0].shape == (3, 3, 8, 8)
    assert driver.launches == 2
    runner.close()
    assert driver.live == before


def test_no_test_finds_a_package_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What conftest blocks stays blocked where it is installed."""
    (tmp_path / "pynvml.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for package, modules in PACKAGES.items():
        for name in (package, *modules):
            with pytest.raises(ImportError):
                __import__(name)


def test_the_driver_itself_comes_first_also_where_the_packages_work(
    cuda_python: FakeCudaPython, pycuda: FakePyCuda
) -> None:
    assert next(iter(BACKENDS)) == "driver"
    assert isinstance(open_cuda(), CtypesCuda)
    assert [open_cuda(name).name for name in BACKENDS] == list(BACKENDS)


# -- A backend that was named and cannot be opened -------------------------------------------------------------------


def test_an_unknown_backend_is_an_error_that_names_the_known(driver: Driver) -> None:
    with pytest.raises(SamkrError, match="'opencl'") as raised:
        open_cuda("opencl")
    assert raised.value.code == "SE-V99"
    assert "driver, cuda-python, pycuda" in raised.value.facts["known"]
    assert "driver" in (raised.value.fix or "")


@pytest.mark.parametrize("name", ["cuda-python", "pycuda"])
def test_a_backend_whose_package_is_missing_says_what_to_install(driver: Driver, name: str) -> None:
    with pytest.raises(SamkrError, match=f"{name} is not installed") as raised:
        open_cuda(name)
    assert raised.value.code == "SE-V99"
    assert f"pip install {name}" in (raised.value.fix or "")
    assert 'backend="driver"' in (raised.value.fix or "")


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["cuda-python", "pycuda"])
def test_a_backend_whose_package_is_there_and_does_not_work_is_told_with_its_reason(
    no_trace_of_packages: None,
    driver: Driver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
) -> None:
    write_packages(tmp_path, CONTENTS[content], monkeypatch)
    with pytest.raises(SamkrError, match=f"{name} is installed but does not work here") as raised:
        open_cuda(name)
    assert raised.value.code == "SE-V99"
    words = ("system search", "libcuda.so.1", "libnothing.so.0", "another machine")
    assert any(word in raised.value.facts["reason"] for word in words)
    assert 'backend="driver"' in (raised.value.fix or "")
    assert driver.live == 0


@pytest.mark.parametrize("content", [None, *CONTENTS])
@pytest.mark.parametrize("name", BACKENDS)
def test_without_a_driver_that_is_what_is_told(
    no_trace_of_packages: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | None,
) -> None:
    """Not what a package makes of it: to install one would help nobody."""
    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: (None, "no driver"))
    if content is not None:
        write_packages(tmp_path, CONTENTS[content], monkeypatch)
    with pytest.raises(SamkrError) as raised:
        open_cuda(name)
    assert raised.value.code == "SE-V87"


def test_a_runner_takes_the_backend_by_name(install: Install, driver: Driver, tmp_path: Path) -> None:
    path = engine(install("10.3.0"), tmp_path)
    for name in ("opencl", "pycuda"):
        with pytest.raises(SamkrError) as raised:
            TensorRTRunner(path, backend=name)
        assert raised.value.code == "SE-V99"
    assert driver.live == 0


# -- cuda-python -----------------------------------------------------------------------------------------------------


def test_cuda_python_gives_what_the_driver_gives(
    install: Install, driver: Driver, tmp_path: Path, cuda_python: FakeCudaPython
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    expected = TensorRTRunner(path, backend="driver")
    runner = TensorRTRunner(path, backend="cuda-python", cuda_graph=True)
    assert runner.graph_note is None
    driver.copy_ms = 0.5
    for left, right in zip(runner.run(images()), expected.run(images()), strict=True):
        np.testing.assert_array_equal(left, right)
    assert driver.launches == 2
    # Two batches of one input and two outputs.
    assert runner.last_run_ms == pytest.approx((1.0, 2.0, 2.0))
    with runner._cuda.bound():
        assert runner._cuda.memory() == (8 << 30, 24 << 30)
    runner.close()
    expected.close()
    assert driver.live == 0


def test_cuda_python_on_a_driver_of_cuda_12_6_is_an_error_of_ours(
    install: Install, driver: Driver, tmp_path: Path, cuda_python: FakeCudaPython
) -> None:
    """All of JetPack 6: cuda-bindings 13 asks for a function that came with CUDA 12.8."""
    path = engine(install("10.3.0"), tmp_path)
    cuda_python.not_in_driver = {"cuEventElapsedTime": "cuEventElapsedTime_v2"}
    runner = TensorRTRunner(path, backend="cuda-python")
    with pytest.raises(SamkrError, match="CUDA call failed") as raised:
        runner.run(images())
    assert raised.value.code == "SE-V83"
    assert 'Function "cuEventElapsedTime_v2" not found' in raised.value.sentence()
    assert 'backend="driver"' in (raised.value.fix or "")
    runner.close()
    assert driver.live == 0


@pytest.mark.parametrize("function", ["cuGraphInstantiate", "CUstreamCaptureMode"])
def test_a_cuda_python_too_old_for_graphs_does_without(
    install: Install,
    tmp_path: Path,
    cuda_python: FakeCudaPython,
    function: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    monkeypatch.delattr(FakeCudaPython, function, raising=False)
    cuda_python.not_in_package = {function}
    runner = TensorRTRunner(path, backend="cuda-python", cuda_graph=True)
    assert f"has no attribute '{function}'" in (runner.graph_note or "")
    assert runner.run(images())[0].shape == (3, 3, 8, 8)
    runner.close()


def test_a_full_gpu_is_told_by_every_backend(
    driver: Driver, cuda_python: FakeCudaPython, pycuda: FakePyCuda
) -> None:
    driver.free_bytes = 10
    for name in BACKENDS:
        cuda = open_cuda(name)
        with cuda.bound(), pytest.raises(SamkrError, match="out of memory") as raised:
            cuda.alloc(100)
        assert raised.value.code == "SE-V90"
        cuda.close()


# -- What is raised anywhere is ours ---------------------------------------------------------------------------------


def calls(cuda: Cuda) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every method of ``Cuda`` with arguments that are right, made while all still worked."""
    with cuda.bound():
        stream, address, start, end = cuda.stream(), cuda.alloc(8), cuda.event(), cuda.event()
        array = cuda.pinned((8,), np.uint8)
        graph = 0
        with suppress(SamkrError):
            cuda.begin_capture(stream)
            graph = cuda.end_capture(stream)
    yield "to_device", lambda: cuda.to_device(address, array, stream)
    yield "to_host", lambda: cuda.to_host(array, address, stream)
    yield "synchronize", lambda: cuda.synchronize(stream)
    yield "record", lambda: cuda.record(start, stream)
    yield "elapsed_ms", lambda: cuda.elapsed_ms(start, end)
    yield "begin_capture", lambda: cuda.begin_capture(stream)
    yield "end_capture", lambda: cuda.end_capture(stream)
    yield "launch", lambda: cuda.launch(graph, stream)
    yield "free_graph", lambda: cuda.free_graph(graph)
    yield "memory", cuda.memory
    yield "alloc", lambda: cuda.alloc(8)
    yield "pinned", lambda: cuda.pinned((8,), np.uint8)
    yield "stream", cuda.stream
    yield "event", cuda.event
    yield "free_pinned", lambda: cuda.free_pinned(array)
    yield "free", lambda: cuda.free(address)
    yield "bound", lambda: cuda.bound().__enter__()
    yield "free_event", lambda: cuda.free_event(end)
    yield "free_stream", lambda: cuda.free_stream(stream)
    yield "close", cuda.close


# pycuda frees these with their objects, and keeps the context to the end of the process.
SILENT = {"pycuda": {"free_event", "free_stream", "close"}}


class Vanishing:
    """The fake driver as a library by ctypes: ``gone`` is one without any symbol, as of another version."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.gone = driver, False

    def __getattr__(self, name: str) -> Any:
        if self.gone:
            raise AttributeError(f"/usr/lib/libcuda.so.1: undefined symbol: {name}")
        return getattr(self.driver, name)


def failing(pycuda: FakePyCuda, error: Exception) -> Exception:
    """What happened first, and is to be told; from now on pycuda raises ``error``."""
    pycuda.broken = error
    return ZeroDivisionError("first")


def assert_ours(cuda: Cuda, fail: Callable[[], None], reason: str) -> None:
    prepared = list(calls(cuda))
    methods = {name for name, value in vars(Cuda).items() if not name.startswith("_") and callable(value)}
    assert {name for name, _ in prepared} == methods
    fail()
    raised: dict[str, SamkrError] = {}
    for name, call in prepared:
        try:
            call()
        except SamkrError as error:
            raised[name] = error
    assert set(raised) == methods - SILENT.get(cuda.name, set())
    graphs = {"begin_capture", "end_capture", "launch", "free_graph"} if cuda.name == "pycuda" else set()
    for name in set(raised) - graphs:
        assert raised[name].code == "SE-V83"
        assert reason in raised[name].sentence(), name
        assert raised[name].fix
    for name in graphs:
        assert raised[name].code == "SE-V99"
        assert "'driver' has them" in str(raised[name])


def test_a_driver_without_a_function_is_an_error_of_ours_in_every_method(driver: Driver) -> None:
    library = Vanishing(driver)
    assert_ours(CtypesCuda(library), lambda: setattr(library, "gone", True), "undefined symbol: cu")


def test_an_error_of_a_driver_that_cannot_name_it_has_its_number(driver: Driver) -> None:
    class Nameless(Vanishing):
        def __getattr__(self, name: str) -> Any:
            if name == "cuGetErrorName":
                raise AttributeError(name)
            return super().__getattr__(name)

    cuda = CtypesCuda(Nameless(driver))
    with pytest.raises(SamkrError) as raised:
        cuda.alloc(8)  # no context
    assert "201" in raised.value.sentence()


@pytest.mark.parametrize("way", ["no driver", "too old a driver", "too old a package"])
def test_what_cuda_python_raises_is_ours_in_every_method(cuda_python: FakeCudaPython, way: str) -> None:
    def fail() -> None:
        if way == "no driver":
            cuda_python.finds_driver = False
        elif way == "too old a driver":
            cuda_python.not_in_driver = {name: f"{name}_v2" for name in CALLS}
        else:
            cuda_python.not_in_package = set(CALLS)

    reason = {
        "no driver": "system search",
        "too old a driver": "_v2",
        "too old a package": "has no attribute",
    }
    assert_ours(open_cuda("cuda-python"), fail, reason[way])


@pytest.mark.parametrize(
    "error",
    [PyCudaError("an illegal memory access was encountered\n"), TypeError("an illegal type"), PyCudaError()],
)
def test_what_pycuda_raises_is_ours_in_every_method(pycuda: FakePyCuda, error: Exception) -> None:
    def fail() -> None:
        pycuda.stack().append(object())  # bound, so that nothing but the error is wrong
        pycuda.broken = error

    cuda = open_cuda("pycuda")
    try:
        assert_ours(cuda, fail, "illegal" if str(error) else "PyCudaError")
        pycuda.stack().clear()
        pycuda.broken = None
        with pytest.raises(SamkrError, match="CUDA call failed"), cuda.bound():
            pycuda.broken = error  # what leaving the context raises
        pycuda.broken = None
        with pytest.raises(ZeroDivisionError, match="first"), cuda.bound():
            raise failing(pycuda, error)
    finally:
        pycuda.stack().clear()
        pycuda.live.clear()
