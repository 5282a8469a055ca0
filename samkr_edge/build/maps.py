"""The maps of a model, also where its graph decodes them itself: what a built model is compared with its source by.

Candidates cannot be compared: the smallest rounding changes their order.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from samkr_edge.runtime.onnx_runtime import OnnxRunner

MAPS = ("heatmap", "offset")


def open_maps(path: Path) -> OnnxRunner:
    """A runner whose ``run`` gives heatmap and offset, whatever the model's outputs are."""
    import onnx

    model = onnx.load(path)
    if {output.name for output in model.graph.output} >= set(MAPS):
        return OnnxRunner(path, outputs=MAPS)
    # `export` kept these names inside the graph.
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in MAPS
    )
    with TemporaryDirectory() as folder:
        exposed = Path(folder) / "maps.onnx"
        onnx.save(model, exposed)
        return OnnxRunner(exposed, outputs=MAPS)
