"""A TensorRT that CUDA does not start for: a driver that is too old, no GPU, a package for another CUDA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import cuda_major
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
Use = Callable[[], Any]


def build(trt: FakeTensorRT, folder: Path) -> Path:
    source = write_residual(folder / "model.onnx")
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


@pytest.fixture
def trt(install: Install) -> FakeTensorRT:
    return install("10.13.3.9")


@pytest.fixture(params=["build", "load"])
def use(request: pytest.FixtureRequest, trt: FakeTensorRT, driver: Driver, tmp_path: Path) -> Use:
    """What is to fail: building, or loading what was built while all was well."""
    if request.param == "build":
        return lambda: build(trt, tmp_path)
    engine = build(trt, tmp_path)
    return lambda: TensorRTRunner(engine)


def installed_as(trt: FakeTensorRT, site: Path, *distributions: str) -> None:
    trt.__file__ = str(site / trt.__name__ / "__init__.py")
    for name in distributions:
        (site / f"{name}-10.13.3.9.dist-info").mkdir(parents=True)


@pytest.mark.parametrize("code", [35, 222])
def test_a_driver_that_is_too_old_is_told_with_its_cuda(
    trt: FakeTensorRT, use: Use, driver: Driver, code: int
) -> None:
    """TensorRT says it in a warning, and gives nothing: NVIDIA/TensorRT#2913, #1052."""
    trt.cuda_failure, driver.knows_cuda = code, 11040
    with pytest.raises(SamkrError, match=r"driver is too old for TensorRT 10\.13\.3\.9") as raised:
        use()
    assert raised.value.code == "SE-V86"
    assert raised.value.facts["driver"] == "supports CUDA up to 11.4"
    assert "update the NVIDIA driver" in (raised.value.fix or "")
    assert raised.value.facts["TensorRT"] == f"CUDA initialization failure with error: {code}"
    assert driver.live == 0


def test_a_package_for_a_newer_cuda_is_refused_without_touching_it(
    trt: FakeTensorRT, use: Use, driver: Driver, tmp_path: Path
) -> None:
    """Its runtime could end the process."""
    installed_as(trt, tmp_path / "site", "tensorrt_cu13", "tensorrt_cu13_bindings", "tensorrt_cu13_libs")
    started = len(trt.loggers)
    with pytest.raises(SamkrError) as raised:
        use()
    assert raised.value.code == "SE-V86"
    assert raised.value.facts == {
        "driver": "supports CUDA up to 12.8",
        "needed": "CUDA 13: the package is tensorrt-cu13",
    }
    assert "pip uninstall tensorrt-cu13 && pip install tensorrt-cu12" in (raised.value.fix or "")
    assert len(trt.loggers) == started
    driver.knows_cuda = 13000
    use()


@pytest.mark.parametrize(
    ("distributions", "major"),
    [
        (("tensorrt_cu12", "tensorrt_cu12_bindings"), 12),
        (("tensorrt_cu13_libs",), 13),
        (("tensorrt_cu12", "tensorrt_cu13"), None),
        (("tensorrt",), None),
        ((), None),
    ],
)
def test_the_cuda_of_a_package_is_read_from_its_name(
    trt: FakeTensorRT, tmp_path: Path, distributions: tuple[str, ...], major: int | None
) -> None:
    assert cuda_major(trt) is None
    installed_as(trt, tmp_path, *distributions, "tensorrt_rtx_cu12", "torch_cu11")
    assert cuda_major(trt) == major


@pytest.mark.parametrize(
    ("code", "what", "fix"),
    [
        (2, "the GPU is out of memory", "close other programs that use the GPU"),
        (100, "CUDA finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (803, "parts of two NVIDIA drivers are mixed", "restart"),
        (3, "it does not start on this GPU", "samkr-edge doctor"),
    ],
)
def test_other_failures_of_cuda_have_their_own_words(
    trt: FakeTensorRT, use: Use, driver: Driver, code: int, what: str, fix: str
) -> None:
    trt.cuda_failure = code
    with pytest.raises(SamkrError, match=what) as raised:
        use()
    assert raised.value.code == "SE-V86"
    assert f"CUDA initialization failure with error: {code}" in raised.value.sentence()
    assert fix in (raised.value.fix or "")
    assert driver.live == 0


@pytest.mark.parametrize("answer", [None, RuntimeError("no")])
def test_a_builder_or_runtime_that_is_not_there_is_an_error_too(
    trt: FakeTensorRT, use: Use, monkeypatch: pytest.MonkeyPatch, answer: Exception | None
) -> None:
    def make(logger: Any) -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr(trt, "Builder", make)
    monkeypatch.setattr(trt, "Runtime", make)
    with pytest.raises(SamkrError, match="does not start") as raised:
        use()
    assert raised.value.code == "SE-V86"
    assert raised.value.facts == {"reason": [str(answer or "it gave none")]}


def test_the_command_says_it_in_one_error_and_writes_nothing(
    trt: FakeTensorRT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_residual(tmp_path / "model.onnx")
    trt.cuda_failure = 35
    assert run(["build", str(source), "--target", "auto"]) == 7
    shown = capsys.readouterr().err
    assert "SE-V86" in shown
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.glob("model*")] == ["model.onnx"]


def test_a_builder_of_tensorrt_for_rtx_needs_no_driver_and_asks_for_none(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    rtx = install("rtx 1.7.1.116")
    installed_as(rtx, tmp_path / "site", "tensorrt_rtx_cu13")
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    plan = plan_build(load_target("rtx-3090"), features_of(rtx, "rtx"), facts_of(read_onnx(source)), Wishes())
    built = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,))
    assert built.path.is_file()
    driver.capability = (8, 6)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(built.path)
    assert raised.value.code == "SE-V86"
    assert "tensorrt-rtx-cu12" in (raised.value.fix or "")
