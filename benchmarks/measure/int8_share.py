"""How much of a network's arithmetic is INT8."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.builder.inspect import arithmetic


def int8_share(path: Path) -> float | None:
    """``samkr_edge.builder.inspect.arithmetic.int8_share`` of a model; of a bundle, of what this device runs of it.

    None for other kinds of models: an engine's graph would tell nothing of what TensorRT chose.
    """
    if path.suffix == ".samkr":
        from samkr_edge.deploy.bundle_cache import ready_model

        path = ready_model(path)
    return arithmetic.int8_share(path) if path.suffix == ".onnx" else None
