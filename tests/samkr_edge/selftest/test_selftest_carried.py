"""The networks that the self-test brings along: small, the same bytes everywhere, sound as files and as networks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.selftest.against_onnx_runtime import ap_of, images_of, look
from benchmarks.selftest.carried import (
    BATCHES,
    DIGESTS,
    FOLDER,
    NETWORKS,
    TRAINED,
    digests,
    graph_file,
    random_weights,
    weights_file,
    write_network,
)
from benchmarks.selftest.rendered import rendered_people
from benchmarks.selftest.stage import Rig
from samkr_edge.builder.check.agreement import relative_error
from samkr_edge.builder.check.probe import PROBE_KEY
from samkr_edge.builder.tensorrt.features import features_for
from samkr_edge.builder.tensorrt.half import bake
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from targets.profile import load_target

FORMS = [
    (TRAINED, quantized, decode_in, batch)
    for quantized in (False, True)
    for decode_in in ("host", "graph")
    for batch in BATCHES
]


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2e6


@pytest.mark.parametrize(("model", "quantized", "decode_in", "batch"), FORMS)
def test_the_trained_network_is_a_file_of_ours_in_every_form(
    tmp_path: Path, model: str, quantized: bool, decode_in: str, batch: int
) -> None:
    path = tmp_path / "model.onnx"
    card = write_network(path, model, quantized=quantized, decode_in=decode_in, batch=batch)
    onnx.checker.check_model(path, full_check=True)
    facts = facts_of(read_onnx(path))
    assert facts.precision == card.precision == ("int8" if quantized else "fp32")
    assert facts.input_shape == (batch, *card.input_size, 3)
    assert (card.stage, card.decode_in) == ("ptq" if quantized else "fp32", decode_in)
    assert {output.name for output in read_onnx(path).outputs} == set(card.outputs)
    assert OnnxRunner(path).card == card
    assert PROBE_KEY in read_onnx(path).metadata
    target = load_target("jetson-orin-nano-8gb")
    for version in ("8.6", "10.3", "11.0"):
        assert plan_build(target, features_for(version), facts, Wishes()).precision in ("int8", "fp16")


def test_written_twice_they_are_the_same_and_what_they_always_were(tmp_path: Path) -> None:
    """Whatever machine, NumPy or Python: results of different devices are results for the same network."""
    for name in "ab":
        write_network(tmp_path / name, TRAINED, quantized=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert digests() == json.loads((FOLDER / DIGESTS).read_text(encoding="utf-8"))


def test_the_float_form_has_the_weights_that_the_quantized_one_computes_with(tmp_path: Path) -> None:
    write_network(tmp_path / "int8.onnx", TRAINED, quantized=True)
    write_network(tmp_path / "fp32.onnx", TRAINED)
    quantized, floats = read_onnx(tmp_path / "int8.onnx"), read_onnx(tmp_path / "fp32.onnx")
    checked = 0
    with np.load(weights_file()) as stored:
        for node in quantized.nodes:
            if node.op_type != "QuantizeLinear" or node.inputs[0] not in stored.files:
                continue
            name = node.inputs[0]
            found = floats.tensors[name].array()
            scale = quantized.tensors[node.inputs[1]].array()
            assert found is not None
            assert scale is not None
            steps = found / scale.reshape(-1, 1, 1, 1)
            np.testing.assert_array_equal(np.rint(steps), stored[name])
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
            checked += 1
    assert checked == 75


def test_the_trained_network_sees_people(tmp_path: Path) -> None:
    """On 50 rendered images that it was not trained on."""
    people = rendered_people(Rig(tmp_path, tmp_path))
    images = images_of(people)
    for quantized in (False, True):
        write_network(tmp_path / "model.onnx", TRAINED, quantized=quantized)
        assert ap_of(people, look(tmp_path / "model.onnx", images).poses) > 75


@pytest.mark.parametrize("model", NETWORKS[1:])
def test_random_weights_keep_activations_alive_and_far_from_the_end_of_fp16(
    tmp_path: Path, model: str
) -> None:
    """Through three hundred convolutions, on an image of noise; and a float network and its FP16 form are close."""
    path, baked = tmp_path / "model.onnx", tmp_path / "half.onnx"
    card = write_network(path, model)
    baked.write_bytes(bake(path.read_bytes()))
    image = np.random.default_rng(0).integers(0, 256, (1, *card.input_size, 3), np.uint8)
    for maps, halves in zip(OnnxRunner(path).run(image), OnnxRunner(baked).run(image), strict=True):
        assert np.isfinite(halves).all()
        assert 0.1 < maps.std() < 10
        assert maps.std(axis=(2, 3)).min() > 1e-3  # no channel is one colour
        assert relative_error(maps, halves) < 2e-3


def test_random_weights_do_not_depend_on_the_batch() -> None:
    one, four = (
        random_weights(decode_onnx(gzip.decompress(graph_file("samkr_w32", "host", batch).read_bytes())))
        for batch in BATCHES
    )
    assert one.keys() == four.keys()
    assert all(np.array_equal(one[name], four[name]) for name in one)
