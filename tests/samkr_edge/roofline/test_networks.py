"""The kept work of the zoo's networks is that of their exported graphs."""

from pathlib import Path

import onnx
import pytest

from benchmarks.selftest.carried import write_network
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.roofline.bound import LayerWork, weight_bytes
from samkr_edge.roofline.graph_work import GraphWork, work_of
from samkr_edge.roofline.networks import FORMS, input_size, network_names, network_work, samples
from training.models.macs import count_cost
from training.models.zoo import model_config, model_names


def alike(work: GraphWork) -> list[tuple[object, ...]]:
    """The layers without their names, in no order."""
    return sorted((one.precision, one.macs, one.read, one.written, one.weights) for one in work.layers)


def test_every_network_of_the_zoo_is_kept() -> None:
    assert network_names() == model_names(), "python -m benchmarks.host.network_work NAME ..."
    for name in model_names():
        config = model_config(name)
        assert input_size(name) == config.input_size
        assert samples(name) is (config.decoding == "offsets" and config.deformable)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_kept_is_the_work_of_the_exported_graph(tmp_path: Path, form: str) -> None:
    write_network(tmp_path / "model.onnx", "samkr_tiny", quantized=form == "int8")
    graph = Graph(onnx.load(tmp_path / "model.onnx"))
    found = work_of(graph, "fp16" if form == "int8" else form)
    kept = network_work("samkr_tiny", (128, 128))[form]
    assert alike(found) == alike(kept)
    assert found.live == kept.live


@pytest.mark.parametrize("name", ["dekr_tiny", "8_samkr_24"])
def test_the_products_that_are_kept_are_those_of_the_network(name: str) -> None:
    config = model_config(name)
    for work in network_work(name, config.input_size).values():
        assert sum(layer.macs for layer in work.layers) == count_cost(config).macs


def test_work_grows_with_the_pixels_and_the_weights_stay() -> None:
    once, larger = network_work("samkr_tiny", (128, 128)), network_work("samkr_tiny", (256, 128), batch=3)

    def sums(work: GraphWork) -> tuple[int, ...]:
        def each(layer: LayerWork) -> tuple[int, ...]:
            return layer.macs, layer.read, layer.written

        return tuple(map(sum, zip(*(each(layer) for layer in work.layers), strict=True)))

    for form in once:
        assert sums(larger[form]) == tuple(6 * one for one in sums(once[form]))
        assert weight_bytes(larger[form].layers) == weight_bytes(once[form].layers)
        assert larger[form].live == 6 * once[form].live


def test_int8_is_what_the_default_policy_quantizes() -> None:
    layers = network_work("samkr_w32", (512, 512))["int8"].layers
    share = sum(one.macs for one in layers if one.precision == "int8") / sum(one.macs for one in layers)
    assert share == pytest.approx(0.96, abs=0.01)
    assert {one.precision for one in layers} == {"int8", "fp16"}
