"""A graph as the onnx package's model, for edits that need that package, or one clear error."""

from __future__ import annotations

from typing import Any

from samkr_edge.errors import SamkrError, words_of


def load_checked(data: bytes) -> Any:
    """The ``ModelProto`` of a serialized model that onnx's own checker passes.

    Raises:
        SamkrError: SE-B04 the onnx package is missing, SE-B84 this is no valid ONNX.
    """
    try:
        import onnx
    except ImportError as error:
        raise SamkrError(
            "SE-B04",
            "FP16 has to be baked into this graph, which needs the package onnx, not installed here",
            {
                "reason": "this TensorRT has no FP16 flag: it follows the graph's types",
                "instead": "on the host: samkr-edge export CHECKPOINT -o model.fp16.onnx --precision fp16",
            },
            fix='pip install "samkr-edge[build]"',
        ) from error
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf's, the checker's and the shape inference's own classes
        raise SamkrError(
            "SE-B84",
            "this graph is not valid ONNX, so nothing was built",
            {"reason": words_of(error, 300)},
            fix="export it again: samkr-edge export CHECKPOINT -o model.onnx",
        ) from error
    return model
