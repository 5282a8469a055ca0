"""Count the work of the zoo's networks for `samkr-edge targets --network`; needs torch and modelopt.

python -m benchmarks.host.network_work           # all networks: rewrites samkr_edge/roofline/networks.json.gz
python -m benchmarks.host.network_work NAME ...  # these; the others stay as they are
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samkr_edge.files.artefact import replacing
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.roofline.graph_work import work_of
from samkr_edge.roofline.networks import FILE, FORMS, to_kept

# Small: work grows with the pixels, exactly.
SIZE = (64, 64)


def count(name: str) -> dict[str, Any]:
    """What the file holds of a network, counted in the graph of its INT8 form with fresh weights."""
    import onnx
    import torch

    from calibration.policy import assign, load_policy
    from calibration.ptq import enabled_quantizers, insert_quantizers
    from training.checkpoint import new_card, skeleton_for
    from training.export import export_onnx
    from training.models.fold import quantizable
    from training.models.zoo import build_model, model_config

    config = replace(model_config(name), scale_branch=False, default_init=True)
    torch.manual_seed(0)
    folded, policy = quantizable(build_model(config).eval()), load_policy("default")
    network = insert_quantizers(folded, policy, assign(policy, folded))
    # Only the graph is looked at: any range will do that lets something through, which export asks for.
    for quantizer_name, quantizer in enabled_quantizers(network):
        module, _, kind = quantizer_name.rpartition(".")
        weights: Any = network.get_submodule(module).weight if kind == "weight_quantizer" else None
        quantizer.amax = (
            torch.tensor(1.0) if weights is None else weights.abs().amax((1, 2, 3), keepdim=True) + 1e-6
        )
    card = replace(new_card(config, skeleton_for(config.keypoints), SIZE), precision="int8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(network, card, path, size=SIZE)
        graph = Graph(onnx.load(path))
    forms = {
        form: to_kept(work_of(graph, "fp16" if form == "int8" else form, quantized=form == "int8"))
        for form in FORMS
    }
    samples = any(node.op_type == "GridSample" for node in graph.nodes)
    return {"size": SIZE, "input_size": config.input_size, "samples": samples, **forms}


def write(names: Sequence[str]) -> None:
    """Count these networks, or all, and rewrite the file after each, in the zoo's order."""
    from training.models.zoo import model_config, model_names

    kept = json.loads(gzip.decompress(FILE.read_bytes())) if FILE.is_file() else {}
    # Networks that differ by name only, or by what a deployed one does not have, are one.
    counted: dict[Any, dict[str, Any]] = {}
    for name in names or model_names():
        deployed = replace(model_config(name), name="", scale_branch=False)
        counted[deployed] = kept[name] = counted.get(deployed) or count(name)
        print(f"{name}: {sum(layer[0] for layer in kept[name]['fp32']['layers'])} layers", flush=True)
        text = json.dumps(
            {one: kept[one] for one in model_names() if one in kept}, separators=(",", ":")
        ).encode()
        with replacing(FILE) as temporary:
            temporary.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    write(parser.parse_args().names)


if __name__ == "__main__":
    main()
