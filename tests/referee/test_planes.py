"""NVIDIA's parser and builder take the graph that `bundle --deepstream` writes, with what nvinfer does to its input."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_exports import export, shallow_network

from samkr_edge.cli import run
from samkr_edge.machine.tensorrt_module import import_tensorrt

pytestmark = pytest.mark.usefixtures("features")


def test_nvinfers_open_batch_and_profile_build(tmp_path: Path) -> None:
    """nvinfer sets the batch to -1 whatever the graph says, and a profile from 1 to ``batch-size``."""
    source = export(shallow_network("samkr_tiny"), tmp_path / "tiny.onnx", decode="graph")
    assert run(["bundle", str(source), "--deepstream", str(tmp_path / "ds")]) == 0
    trt = import_tensorrt("rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse((tmp_path / "ds" / "tiny.onnx").read_bytes())
    image = network.get_input(0)
    assert (image.dtype, tuple(image.shape)) == (trt.DataType.FLOAT, (1, 3, 64, 64))
    image.shape = (-1, 3, 64, 64)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("image", *3 * [(1, 3, 64, 64)])
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert builder.build_serialized_network(network, config) is not None
