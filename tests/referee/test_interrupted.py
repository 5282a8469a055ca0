"""A build that Ctrl-C or a full disk ends leaves what was there and nothing else; one built twice is the same."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_types import Build, check_types, layers_of, nodes_of
from small_exports import export, shallow_network

from samkr_edge.cli import run
from samkr_edge.passport import read_passport
from training.models.zoo import build_model, model_config

pytestmark = pytest.mark.usefixtures("features")


@pytest.fixture(scope="module")
def deep_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """samkr_w32 at its depth and half its width: the builder works on it for seconds."""
    config = replace(model_config("samkr_w32"), width=16, scale_branch=False, default_init=True)
    return export(build_model(config).eval(), tmp_path_factory.mktemp("deep") / "deep.onnx")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shallow_network("samkr_tiny"), tmp_path_factory.mktemp("small") / "model.onnx")


# The command line, whose builder says on stdout that it is at work.
AT_WORK = """
import sys
from samkr_edge.builder.tensorrt import build as tensorrt
from samkr_edge.cli import run

build = tensorrt.build_bytes


def telling(source, plan, images, report, **given):
    return build(source, plan, images, lambda *step: print(*step, flush=True), **given)


tensorrt.build_bytes = telling
sys.exit(run(sys.argv[1:]))
"""
YESTERDAY = b"the engine of yesterday"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_network_as_deep_as_the_papers(build: Build, deep_onnx: Path) -> None:
    engine = build(deep_onnx, "rtx-any")
    assert len(nodes_of(deep_onnx, "Conv")) > 300
    check_types(engine, deep_onnx, "fp16")


def test_ctrl_c_in_the_builder(deep_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.engine"
    out.write_bytes(YESTERDAY)
    words = ["build", str(deep_onnx), "--target", "rtx-any", "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped by Ctrl-C" in errors
    assert "Traceback" not in errors
    assert files_of(tmp_path) == {"model.engine": YESTERDAY}


def test_ctrl_c_before_the_builder_is_at_work(small: Path, tmp_path: Path) -> None:
    """While FP16 is baked in, or NVIDIA's library is loaded, or the graph is parsed: at any place of these."""
    out = tmp_path / "model.engine"
    words = ["build", str(small), "--target", "rtx-any", "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "samkr_edge", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libtensorrt_rtx" not in maps.read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert files_of(tmp_path) == {}


def test_a_disk_that_is_full_when_the_engine_is_written(small: Path, tmp_path: Path) -> None:
    """A limit on file sizes, as of a full disk, that only the engine breaks."""
    out = tmp_path / "model.engine"
    out.write_bytes(YESTERDAY)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "from samkr_edge.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    words = ["build", str(small), "--target", "rtx-any", "-o", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    assert "SE-D01" in done.stderr
    assert "unchanged" in done.stderr
    assert files_of(tmp_path) == {"model.engine": YESTERDAY}


def test_a_disk_that_is_full_behind_the_engine_keeps_the_old_one(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its list of layers and its passport are files of their own, and an old engine beside a new passport is lost."""
    out = tmp_path / "model.engine"
    words = ["build", str(small), "--target", "rtx-any", "-o", str(out)]
    assert run([*words, "--precision", "fp32"]) == 0
    before = files_of(tmp_path)
    write_text = Path.write_text
    for full_at in (".engine.layers", ".engine"):

        def full(path: Path, *text: Any, at: str = f"{full_at}.", **options: Any) -> int:
            if path.suffix == ".json" and path.name.startswith(f".model{at}{os.getpid()}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write_text(path, *text, **options)

        monkeypatch.setattr(Path, "write_text", full)
        assert run(words) == 3
        # The engine and its passport take their names together: it is the engine that could not be written.
        assert "could not be written, so the previous file is unchanged" in capsys.readouterr().err
        after = files_of(tmp_path)
        assert after.keys() == before.keys()
        assert {name: after[name] for name in ("model.engine", "model.engine.json")}.items() <= before.items()
        assert read_passport(out).precision["engine"] == "fp32"


def test_a_graph_built_twice_is_the_same_engine_but_for_some_bytes(build: Build, small: Path) -> None:
    """What differs, in some builds and not in others, is written by NVIDIA's builder; the layers are the same."""
    first, second = build(small), build(small)
    assert layers_of(first) == layers_of(second)
    assert len(first.data) == len(second.data)
    differing = sum(a != b for a, b in zip(first.data, second.data, strict=True))
    assert differing < 1000
