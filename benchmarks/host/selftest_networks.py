"""Make the networks that the self-test carries, and measure what is in them.

python -m benchmarks.host.selftest_networks trained ptq.pt    # `samkr-edge quantize zoo:samkr_tiny`; needs torch
python -m benchmarks.host.selftest_networks random            # the others; needs torch
python -m benchmarks.host.selftest_networks measure people    # AP in ONNX Runtime, on rendered people:
    samkr-edge data synth people --liveliness 0.3                 # what it was trained on; `measure` takes its val
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.selftest.carried import (
    BATCHES,
    DECODING_PREFIX,
    DIGESTS,
    FOLDER,
    NETWORKS,
    TRAINED,
    digests,
    graph_file,
    weights_file,
    write_network,
)
from samkr_edge.files.artefact import replacing, write_json


def make_trained(checkpoint: Path) -> None:
    """Export the trained network and rewrite its files in ``carried/``, and the hashes of what is written from it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for decode_in in ("host", "graph"):
            for batch in BATCHES:
                path = folder / "model.onnx"
                _export_trained(checkpoint, path, decode_in, batch)
                _write_graph(path, graph_file(TRAINED, decode_in, batch))
                if (decode_in, batch) == ("host", 1):
                    _write_weights(path)
    _written()


def make_random() -> None:
    """Export the other networks and rewrite their files in ``carried/``."""
    with TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        for model in NETWORKS:
            for batch in BATCHES if model != TRAINED else ():
                _export_untrained(model, path, batch)
                _write_graph(path, graph_file(model, "host", batch))
    _written()


def _written() -> None:
    write_json(FOLDER / DIGESTS, digests())
    print(f"{FOLDER}: {sum(path.stat().st_size for path in FOLDER.iterdir()) / 1e6:.2f} MB")


def _export_trained(checkpoint: Path, out: Path, decode_in: str, batch: int) -> None:
    from training.checkpoint import load_checkpoint, network_of
    from training.export import export_onnx

    loaded = load_checkpoint(checkpoint)
    assert (loaded.card.model, loaded.card.precision) == (TRAINED, "int8"), loaded.card
    export_onnx(network_of(loaded), loaded.card, out, batch=batch, decode=decode_in)


def _export_untrained(model: str, out: Path, batch: int) -> None:
    """With a different bias for every convolution, since the exporter merges equal ones."""
    import torch

    from training.checkpoint import network_of, untrained_checkpoint
    from training.export import export_onnx

    loaded = untrained_checkpoint(model)
    network = network_of(loaded)
    with torch.no_grad():
        for number, (name, values) in enumerate(network.named_parameters()):
            if name.endswith(".bias"):
                values.fill_(1e-3 * (number + 1))
    card = loaded.card.with_provenance(weights="benchmarks.selftest.carried:random_weights")
    export_onnx(network.eval(), card, out, batch=batch)


def _write_graph(source: Path, out: Path) -> None:
    import onnx

    model = onnx.load(source)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    with replacing(out) as temporary:
        temporary.write_bytes(gzip.compress(model.SerializeToString(), 9, mtime=0))


def _write_weights(source: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(source).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in values:
            weights, scale = values[node.input[0]], constants[node.input[1]]
            scale = scale.reshape(-1, *[1] * (weights.ndim - 1)) if scale.ndim else scale
            values[node.input[0]] = np.clip(np.rint(weights / scale), -128, 127).astype(np.int8)
    with replacing(weights_file()) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in sorted(values.items()):
            member = io.BytesIO()
            np.save(member, array)
            # ZipInfo's fixed default date: the same weights give the same file.
            entry = zipfile.ZipInfo(f"{name.removeprefix(DECODING_PREFIX)}.npy")
            archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, 9)


def measure(data: Path) -> None:
    """Print the trained network's AP on the split ``val``, and map statistics of the random ones on its first image."""
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.evaluation.ap import predict_dataset, score
    from samkr_edge.pose_model import load_model

    dataset = open_dataset(data)
    print(f"{weights_file().name}: {weights_file().stat().st_size / 1e6:.2f} MB")
    with TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        for decode_in in ("host", "graph"):
            for quantized in (False, True):
                write_network(path, TRAINED, quantized=quantized, decode_in=decode_in)
                model = load_model(path)
                found = score(dataset, predict_dataset(model, dataset))
                print(
                    f"{TRAINED}, {'INT8' if quantized else 'FP32'}, decode: {decode_in}: "
                    f"AP {found.ap:.1f} on {len(dataset.images)} images"
                )
                model.close()
        for model_name in NETWORKS[1:]:
            write_network(path, model_name)
            size = graph_file(model_name).stat().st_size / 1e3
            print(f"{model_name}: {size:.0f} kB; {_maps(path, dataset)}")


def _maps(path: Path, dataset: Any) -> str:
    """Statistics of a network's maps on the first image, in FP32 and with FP16 baked in."""
    from samkr_edge.builder.check.agreement import relative_error
    from samkr_edge.builder.tensorrt.half import bake
    from samkr_edge.images import read_image
    from samkr_edge.pose.geometry import fit_matrix, warp
    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    baked = path.with_name("half.onnx")
    baked.write_bytes(bake(path.read_bytes()))
    runner = OnnxRunner(path)
    pixels, size = read_image(dataset.images[0].path), runner.card.input_size
    image = warp(pixels, fit_matrix(pixels.shape[:2], size), size)[None]
    maps, halves = runner.run(image), OnnxRunner(baked).run(image)
    return ", ".join(
        f"{name} mean {values.mean():.2f}, deviation {values.std():.2f}, largest {np.abs(values).max():.1f}, "
        f"FP16 differs by {relative_error(values, other):.1e}"
        for name, values, other in zip(("heatmap", "offset"), maps, halves, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    work: dict[str, Callable[..., None]] = {
        "trained": make_trained,
        "random": make_random,
        "measure": measure,
    }
    for name, function in work.items():
        command = commands.add_parser(name)
        command.set_defaults(function=function, path=None)
        if function is not make_random:
            command.add_argument("path", type=Path)
    arguments = parser.parse_args()
    arguments.function(*[arguments.path] if arguments.path else [])


if __name__ == "__main__":
    main()
