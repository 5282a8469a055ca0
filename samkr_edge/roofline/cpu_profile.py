"""The time of every layer of an ONNX model on this CPU, by ONNX Runtime's profiler."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_file import DTYPES, OnnxFile
from samkr_edge.runtime.onnx_runtime import session_options, wrong_optimisations

# The fastest of these inferences counts, layer by layer: other programs only add time.
RUNS = 5
_KERNEL = "_kernel_time"
# What ONNX Runtime adds to the name of the node or tensor that a fused node is made from.
_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_quant)+$")


def profiled(data: bytes, model: OnnxFile, card: ModelCard, threads: int) -> list[list[Mapping[str, Any]]]:
    """The kernels of each of ``RUNS`` inferences of a model on noise, as ONNX Runtime's profiler lists them.

    Args:
        data: the bytes of ``model``.
    """
    image = model.inputs[0]
    noise = np.random.default_rng(0).integers(0, 256, [size or 1 for size in image.shape])
    feed = {image.name: noise.astype(DTYPES[image.elem_type])}
    with TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = import_onnxruntime().InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(wrong_optimisations(model, card)),
        )
        for _ in range(RUNS + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _by_run(events)[1:]


def module_times(runs: Iterable[Iterable[Mapping[str, Any]]], fused: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds by module, each kernel at its fastest; what belongs to none goes by the kind of its operation.

    Args:
        runs: as ``profiled`` gives them.
        fused: ``GraphWork.fused`` of the same model.
    """
    times: dict[str, float] = defaultdict(float)
    for name, (ms, kind) in fastest_kernels(runs).items():
        times[fused.get(name) or fused.get(_SUFFIX.sub("", name)) or kind] += ms
    return dict(times)


def fastest_kernels(runs: Iterable[Iterable[Mapping[str, Any]]]) -> dict[str, tuple[float, str]]:
    """By node, the milliseconds of its fastest kernel and the kind of its operation; ``runs`` as ``profiled`` gives."""
    best: dict[str, tuple[float, str]] = {}
    for run in runs:
        for event in run:
            name, ms = event["name"].removesuffix(_KERNEL), float(event["dur"]) / 1e3
            if name not in best or ms < best[name][0]:
                best[name] = ms, event["args"].get("op_name", "")
    return best


def _by_run(events: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The kernels before each end of an inference."""
    runs: list[list[Mapping[str, Any]]] = [[]]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            runs[-1].append(event)
        elif event.get("name") == "model_run":
            runs.append([])
    return [run for run in runs if run]
