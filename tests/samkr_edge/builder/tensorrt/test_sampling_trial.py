"""The sampling case tells right samples from those of the nearest pixel, and of a grid rounded to FP16."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from samkr_edge.builder.tensorrt.sampling_trial import (
    SAMPLED,
    Form,
    SamplingCase,
    compare_samples,
    sampling_case,
    sampling_graph,
)

SIZES = (4, 128, 128, 9)


@pytest.fixture(scope="module")
def case() -> SamplingCase:
    return sampling_case(*SIZES)


def run(model: bytes, case: SamplingCase) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([SAMPLED], case.inputs)[0])


@pytest.mark.parametrize("form", get_args(Form))
def test_every_form_samples_what_the_case_expects(case: SamplingCase, form: Form) -> None:
    found = compare_samples(case, run(sampling_graph(*SIZES, form), case))
    assert found.holds(form), found


@pytest.mark.parametrize("form", get_args(Form))
def test_the_nearest_pixel_is_not_taken_for_a_sample(case: SamplingCase, form: Form) -> None:
    model = onnx.load_from_string(sampling_graph(*SIZES, form))
    sampling = next(node for node in model.graph.node if node.op_type == "GridSample")
    next(attribute for attribute in sampling.attribute if attribute.name == "mode").s = b"nearest"
    assert not compare_samples(case, run(model.SerializeToString(), case)).holds(form)


def test_a_grid_rounded_to_fp16_is_seen(case: SamplingCase) -> None:
    model = onnx.load_from_string(sampling_graph(*SIZES, "fp32"))
    sampling = next(node for node in model.graph.node if node.op_type == "GridSample")
    at = list(model.graph.node).index(sampling)
    down = onnx.helper.make_node("Cast", ["grid"], ["half_grid"], to=TensorProto.FLOAT16)
    up = onnx.helper.make_node("Cast", ["half_grid"], ["rounded_grid"], to=TensorProto.FLOAT)
    sampling.input[1] = "rounded_grid"
    model.graph.node.insert(at, up)
    model.graph.node.insert(at, down)
    assert not compare_samples(case, run(model.SerializeToString(), case)).holds("fp16")


def test_a_sample_that_is_not_a_number_is_wrong(case: SamplingCase) -> None:
    assert not compare_samples(case, np.full_like(case.expected, np.nan)).holds("fp16")


def test_fp16_surrounds_a_sampling_in_fp32() -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(sampling_graph(*SIZES, "fp32_in_fp16")))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    sampling = next(node for node in model.graph.node if node.op_type == "GridSample")
    assert {types[name] for name in (*sampling.input, *sampling.output)} == {TensorProto.FLOAT}
    makers = {node.output[0]: node for node in model.graph.node}
    assert makers[sampling.input[0]].op_type == "Cast"
    assert types[makers[sampling.input[0]].input[0]] == TensorProto.FLOAT16
