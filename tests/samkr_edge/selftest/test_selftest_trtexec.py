"""Stage 10 of the self-test: our GPU time beside that of a trtexec, a script that prints what the real one does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeTensorRT
from tensorrt_graphs import write_residual

from benchmarks.selftest import against_trtexec, trtexec
from benchmarks.selftest.stage import Check, Rig
from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.runtime.tensorrt import Lane, TensorRTRunner
from targets.profile import load_target

Install = Callable[[str], FakeTensorRT]
OURS = 4.0
HEADS = {8: "[TensorRT v8602]", 10: "[TensorRT v100300] [b26]", 11: "[TensorRT v11.1.0.106] [b48]"}
SUMMARY = """[09/25/2026-10:00:40] [I] === Performance summary ===
[09/25/2026-10:00:40] [I] Throughput: 249.06 qps
[09/25/2026-10:00:40] [I] Latency: min = 3.9 ms, max = 9.5 ms, mean = 4.4 ms, median = 9.0 ms, percentile(90%) = 9.1 ms
[09/25/2026-10:00:40] [I] Enqueue Time: min = 0.1 ms, max = 0.2 ms, mean = 0.1 ms, median = 0.1 ms
[09/25/2026-10:00:40] [I] H2D Latency: min = 0.1 ms, max = 0.2 ms, mean = 0.1 ms, median = 0.1 ms
[09/25/2026-10:00:40] [I] GPU Compute Time: min = 3.8 ms, max = 4.9 ms, mean = 4.2 ms, median = {median} ms, p(9) = 4 ms
[09/25/2026-10:00:40] [I] Total GPU Compute Time: 3.0 s
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """A trtexec of a version that measures ``median``; it writes down what it was asked."""

    def write(major: int = 10, median: float = OURS, *, graph: bool = True, code: int = 0) -> Path:
        path = tmp_path / "bin" / "trtexec"
        path.parent.mkdir(exist_ok=True)
        refuses = "" if graph else "echo 'The CUDA graph capture on the stream has failed.'"
        path.write_text(
            "#!/bin/sh\n"
            f"echo '&&&& RUNNING TensorRT.trtexec {HEADS[major]} # trtexec'\n"
            f"""[ "$1" = --help ] && exit 0\necho "$@" >> {tmp_path}/asked\n"""
            f"""case "$*" in *useCudaGraph*) {refuses or ":"} ;; esac\n"""
            f"cat <<'X'\n{SUMMARY.format(median=median)}X\n"
            f"[ {code} = 0 ] || echo '[09/25/2026-10:00:40] [E] Error[1]: engine plan file is not compatible'\n"
            f"exit {code}\n"
        )
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def compared(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, list[float]], Check]:
    """The check, of an engine of the stand-in whose GPU time is the next of a list, again and again."""
    trt = install("10.3.0")
    source = write_residual(tmp_path / "model.onnx", batch=1)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    engine = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,)).path

    def compare(program: Path, times: list[float]) -> Check:
        left = [time for time in times for _ in range(2)]  # a warm-up and a measurement each
        monkeypatch.setattr(TensorRTRunner, "gpu_milliseconds", lambda self, repeats: [left.pop(0)] * repeats)
        return against_trtexec.compare(engine, program, warm_up_s=0, seconds=0)

    return compare


@pytest.mark.parametrize("major", HEADS)
def test_equal_times_pass_and_both_sides_launch_one_graph_without_copies(
    program: Any, compared: Any, tmp_path: Path, major: int
) -> None:
    check = compared(program(major, OURS * 1.03), [OURS, OURS])
    assert check.passed
    assert check.figures["trtexec_gpu_ms"] == pytest.approx(OURS * 1.03)
    assert check.figures["cuda_graph"]
    assert check.figures["trtexec_major"] == major
    asked = (tmp_path / "asked").read_text().split()
    opt_in = {"--useCudaGraph", "--noDataTransfers", "--useSpinWait"} & set(asked)
    assert opt_in == (set() if major == 11 else {"--useCudaGraph", "--noDataTransfers", "--useSpinWait"})


@pytest.mark.parametrize("median", [OURS * 0.94, OURS * 1.07])
def test_a_time_that_is_off_by_more_than_a_twentieth_fails(
    program: Any, compared: Any, median: float
) -> None:
    check = compared(program(median=median), [OURS, OURS])
    assert check.passed is False
    assert f"{median:.3f} ms" in check.found


def test_where_trtexec_cannot_capture_a_graph_neither_side_has_one(
    program: Any, compared: Any, tmp_path: Path
) -> None:
    check = compared(program(graph=False), [3.0, OURS, OURS])
    assert check.passed
    assert not check.figures["cuda_graph"]
    last = (tmp_path / "asked").read_text().splitlines()[-1]
    assert "--useCudaGraph" not in last


@pytest.mark.parametrize("major", [10, 11])
def test_where_we_cannot_capture_a_graph_trtexec_is_asked_for_none(
    program: Any, compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    monkeypatch.setattr(Lane, "capture", lambda self: "a layer waits for the GPU")
    check = compared(program(major), [OURS, OURS])
    assert check.passed
    asked = (tmp_path / "asked").read_text()
    assert ("--noCudaGraph" in asked, "--useCudaGraph" in asked) == (major == 11, False)


def test_a_clock_that_moves_is_no_verdict(program: Any, compared: Any) -> None:
    assert compared(program(), [4.0, 4.4, 4.4, 4.0, 4.0, 4.4]).passed is None
    assert compared(program(), [4.4, 4.0, 4.0, 4.0]).passed, "a later attempt counts"


def test_a_trtexec_that_fails_is_told_with_what_it_printed(program: Any, compared: Any) -> None:
    with pytest.raises(SamkrError, match="SE-V64") as raised:
        compared(program(code=1), [OURS])
    assert "not compatible" in str(raised.value)


def test_without_trtexec_the_stage_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trtexec, "INSTALLED", tmp_path / "no" / "trtexec")
    (check,) = against_trtexec.checks(Rig(tmp_path, tmp_path))
    assert check.passed is None
    assert "no trtexec" in check.found


def test_trtexec_is_found_in_path_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Any
) -> None:
    installed = tmp_path / "trtexec"
    installed.touch()
    monkeypatch.setattr(trtexec, "INSTALLED", installed)
    monkeypatch.setenv("PATH", "")
    assert trtexec.find_trtexec() == installed
    monkeypatch.setenv("PATH", os.fspath(program().parent))
    assert trtexec.find_trtexec() == program()


@pytest.mark.parametrize(("major", "other"), [(10, ""), (8, "8.6.2"), (11, "11.1.0")])
def test_a_trtexec_of_another_tensorrt_is_no_measure(
    install: Install, program: Any, major: int, other: str
) -> None:
    """As Debian's beside pip's: it does not load what was built here."""
    install("10.3.0")
    found = against_trtexec._of_another_version(program(major))
    assert (f"is of TensorRT {other}, but engines here are built by 10.3.0" in found) if other else not found
