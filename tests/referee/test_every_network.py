"""NVIDIA's parser takes every network of the zoo, and its builder makes an engine of it that has lost no convolution.

64x64 pixels, and trunks that do not repeat themselves: what is new to a parser is all there. Networks that share a
trunk differ in their heads, so that the others of them are built behind a smaller one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from engine_types import Build, check_types, nodes_of
from small_exports import export, heads_network, shallow_network

from training.models.zoo import model_config, model_names


def trunk_of(name: str) -> tuple[int, int, str]:
    """What decides a trunk that does not repeat itself."""
    config = model_config(name)
    return config.width, config.stem_channels, config.decoding


# One network with each trunk of the zoo.
WHOLE = {trunk_of(name): name for name in reversed(model_names())}


# Names of what differs once it is deployed: a scale branch is for training only.
DIFFERENT = {
    replace(model_config(name), name="", scale_branch=False): name for name in reversed(model_names())
}


@pytest.mark.parametrize("name", sorted(DIFFERENT.values()))
def test_every_network_of_the_zoo(build: Build, tmp_path: Path, name: str) -> None:
    network = shallow_network if name in WHOLE.values() else heads_network
    source = export(network(name), tmp_path / "model.onnx")
    assert bool(nodes_of(source, "GridSample")) is (
        model_config(name).decoding == "offsets" and "nodc" not in name
    )
    check_types(build(source), source, "fp16")


def test_an_open_batch_is_built_for_the_batch_asked_for(build: Build, tmp_path: Path) -> None:
    source = export(shallow_network("dekr_w32_nodc"), tmp_path / "open.onnx")
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, source)
    engine = build(source, batch=3)
    check_types(engine, source, "fp16")
    assert "MinShape: [3,64,64,3], OptShape: [3,64,64,3], MaxShape: [3,64,64,3]" in (engine.listing or "")
