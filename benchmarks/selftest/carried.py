"""The networks shipped with the self-test, as ONNX files like those of `samkr-edge export`; without torch.

``carried/`` has graphs without weights, ``MODEL-DECODE-BATCH.onnx.gz``, and one set of weights: a samkr_tiny trained on
rendered people and quantized, 8 bits a weight. The scales are in its graph. Weights times scales, before the
quantizers, give the quantized network exactly; without quantizers, they give a float network with weights on the 8-bit
grid. The other networks get random weights, the same bytes on every machine, which are enough to test what a device
computes.

``benchmarks.host.selftest_networks`` made the folder and measures what is in it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np

from samkr_edge.files.artefact import replacing, sha256_of
from samkr_edge.files.cache import cache_folder, made_in_cache
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.onnx_graph.onnx_file import FLOAT, Node, OnnxFile, with_metadata
from samkr_edge.onnx_graph.onnx_reading import decode_onnx
from samkr_edge.onnx_graph.quantizers import strip_quantizers

FOLDER = Path(__file__).parent / "carried"
# In it, what ``digests`` gave when the folder was made.
DIGESTS = "sha256.json"
# The trained network, which has quantizers.
TRAINED = "samkr_tiny"
NETWORKS = (TRAINED, "samkr_w32", "dekr_w32")
BATCHES = (1, 4)
# Prefix that export adds to the names of a network that decodes itself.
DECODING_PREFIX = "deployed."
# Second moment of a convolution's output for inputs of one: two keeps it through ReLU (He et al. 2015,
# arXiv:1502.01852); addends get less, so that a hundred sums in a row do not make it grow.
KEPT, ADDED = 2.0, 0.05
BIAS = 0.05


def graph_file(model: str, decode_in: str = "host", batch: int = 1) -> Path:
    """Where a graph without weights lies; ``decode_in`` as in ``ModelCard``."""
    return FOLDER / f"{model}-{decode_in}-{batch}.onnx.gz"


def weights_file() -> Path:
    """The trained weights: name -> int8, or float32 of those that no quantizer reads."""
    return FOLDER / f"{TRAINED}.npz"


def write_network(
    out: Path, model: str, *, quantized: bool = False, decode_in: str = "host", batch: int = 1
) -> ModelCard:
    """Write a carried network as ONNX, the same bytes every time, and return its card.

    Args:
        model: one of ``NETWORKS``.
        quantized: with its quantizers, INT8; only of ``TRAINED``.
        decode_in: ``host``: it gives maps; ``graph``: people; only ``TRAINED`` has both.
        batch: one of ``BATCHES``.

    Raises:
        SamkrError: SE-D01 ``out`` cannot be written.
    """
    graph = decode_onnx(gzip.decompress(graph_file(model, decode_in, batch).read_bytes()))
    graph.put(trained_weights(graph) if model == TRAINED else random_weights(graph))
    card = ModelCard.from_json(graph.metadata[METADATA_KEY])
    if card.quantized and not quantized:
        strip_quantizers(graph)
        card = replace(card, precision="fp32", stage="fp32")
    graph.drop_metadata(METADATA_KEY)
    with replacing(out) as temporary:
        temporary.write_bytes(with_metadata(graph.encode(), METADATA_KEY, card.to_json()))
    return card


def digests() -> dict[str, str]:
    """Form -> sha256 of the file that ``write_network`` writes of it here; the same on every machine."""
    found = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for model, quantized in ((TRAINED, True), (TRAINED, False), ("dekr_w32", False)):
            write_network(path, model, quantized=quantized)
            found[f"{model}, {'INT8' if quantized else 'FP32'}"] = sha256_of(path)
    return found


def in_cache(name: str) -> Path | None:
    """The trained network as a file in the cache, for those who have no torch: FP32, its weights on the 8-bit grid.

    None for another name than ``TRAINED``.
    """
    if name != TRAINED:
        return None
    made_of = "-".join(sha256_of(part)[:8] for part in (graph_file(TRAINED), weights_file()))
    file = cache_folder() / "zoo" / f"{TRAINED}-{made_of}" / f"{TRAINED}.onnx"
    if not file.is_file():
        made_in_cache(file.parent)
        write_network(file, TRAINED)
    return file


def trained_weights(graph: OnnxFile) -> dict[str, np.ndarray]:
    """Name -> float32 weights, scaled by the graph's scales."""
    stored, quantizers = _stored(), _quantizers(graph)
    found = {}
    for name in _weightless(graph):
        values = stored[name.removeprefix(DECODING_PREFIX)]
        if values.dtype == np.int8:
            values = values * _scale(graph, quantizers[name], values.ndim)
        found[name] = values.astype(np.float32)
    return found


def random_weights(graph: OnnxFile) -> dict[str, np.ndarray]:
    """Name -> float32 weights and biases that keep activations about one through any number of convolutions."""
    added = _added(graph)
    # If two convolutions share a bias, either one.
    readers = {name: node for node in graph.nodes for name in node.inputs}
    found = {}
    for name in _weightless(graph):
        dims = graph.tensors[name].dims
        if len(dims) == 4:
            moment = ADDED if readers[name].outputs[0] in added else KEPT
            deviation = (moment / prod(dims[1:])) ** 0.5
        else:
            deviation = BIAS
        found[name] = _uniform(name, dims, deviation)
    return found


@cache
def _stored() -> Mapping[str, np.ndarray]:
    with np.load(weights_file()) as file:
        return {name: file[name] for name in file.files}


def _weightless(graph: OnnxFile) -> list[str]:
    return [
        name for name, tensor in graph.tensors.items() if tensor.data_type == FLOAT and tensor.array() is None
    ]


def _quantizers(graph: OnnxFile) -> dict[str, Node]:
    """Quantized tensor -> its quantizer."""
    return {node.inputs[0]: node for node in graph.nodes if node.op_type == "QuantizeLinear"}


def _scale(graph: OnnxFile, quantizer: Node, dimensions: int) -> np.ndarray:
    """The scale of a quantizer, float32, shaped for weights of this many dimensions."""
    scale = graph.tensors[quantizer.inputs[1]].array()
    assert scale is not None
    axis = int(quantizer.attributes.get("axis", 1))
    return scale.reshape([-1 if at == axis else 1 for at in range(dimensions)]) if scale.ndim else scale


def _added(graph: OnnxFile) -> set[str]:
    """Tensors that are addends of a sum, also those enlarged first."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type == "Add" or (node.op_type == "Resize" and node.outputs[0] in found):
            found |= set(node.inputs)
    return found


def _uniform(name: str, dims: tuple[int, ...], deviation: float) -> np.ndarray:
    """Uniform random float32 of this standard deviation, seeded by the name alone.

    Uses only the bits of NumPy's PCG64, since NumPy's distributions may change between versions.
    """
    bits = np.random.PCG64(crc32(name.encode())).random_raw(prod(dims))
    unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0  # in [-1, 1)
    return (unit * (deviation * 3.0**0.5)).astype(np.float32).reshape(dims)
