"""Too little memory is named as that, whichever library says so and whatever it was taken for."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import tiny_onnx

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.frames.channel import StageFailed
from samkr_edge.memory_errors import short_of_memory
from samkr_edge.pose_model import load_model


def numpy_array() -> None:
    np.zeros((1 << 40, 1 << 10))


def opencv_image() -> None:
    cv2.resize(np.zeros((2, 2, 3), np.uint8), (2**30, 2**20), interpolation=cv2.INTER_NEAREST)


def torch_tensor() -> None:
    torch = pytest.importorskip("torch")
    torch.zeros(1 << 50)


@pytest.mark.parametrize("ask", [numpy_array, opencv_image, torch_tensor])
def test_what_libraries_really_say_is_understood(ask: Callable[[], None]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each has a class of its own
        ask()
    found = short_of_memory(caught.value)
    assert found is not None
    assert found.code == "SE-V52"


LONG = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. " * 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("std::bad_alloc"), "std::bad_alloc"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (ImportError("libvpx.so.11: failed to map segment from shared object"), "libvpx.so.11"),
        (ImportError("IMPORTANT: READ THIS\n\nlibblas.so: failed to map segment"), "libblas.so"),
        (RuntimeError(LONG + "Status Message: std::bad_alloc"), "std::bad_alloc"),
        (RuntimeError("can't start new thread"), "thread"),
        (ValueError("Failed to serialize proto"), "serialize"),
        (StageFailed("network", 3, MemoryError()), "frame 3, network: MemoryError"),
    ],
)
def test_the_reason_is_the_line_that_speaks_of_memory(error: Exception, reason: str) -> None:
    found = short_of_memory(error)
    assert found is not None
    assert reason in found.facts["reason"]
    assert len(found.facts["reason"]) < 180


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        StageFailed("network", 3, RuntimeError("torch.OutOfMemoryError: CUDA out of memory")),
        FileNotFoundError(errno.ENOENT, "x"),
        SamkrError("SE-V90", "the GPU is out of memory"),
        SamkrError("SE-A22", "bad_alloc.onnx cannot be loaded"),
    ],
)
def test_what_is_something_else_stays_that(error: Exception) -> None:
    assert short_of_memory(error) is None


def test_a_limit_of_the_shell_is_named_with_the_way_to_lift_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (250 << 20, resource.RLIM_INFINITY))
    found = short_of_memory(MemoryError())
    assert found is not None
    assert found.facts["allowed"] == "250 MiB of addresses (ulimit -v)"
    assert found.fix == "ulimit -v unlimited"


def test_a_model_that_finds_no_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    def short(*_: object, **__: object) -> None:
        raise RuntimeError("Exception during initialization: std::bad_alloc")

    model = tiny_onnx(tmp_path / "tiny.onnx")
    monkeypatch.setattr(onnxruntime, "InferenceSession", short)
    with pytest.raises(SamkrError) as caught:
        load_model(model)
    assert caught.value.code == "SE-V52"


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_command_names_the_memory(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def short() -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            if wrapped:
                raise SamkrError("SE-D03", "a file could not be read") from error
            raise

    monkeypatch.setattr("samkr_edge.cli.targets.targets", short)
    assert run(["targets"]) == 7
    shown = capsys.readouterr().err
    assert "error SE-V52" in shown
    assert "SE-X01" not in shown
