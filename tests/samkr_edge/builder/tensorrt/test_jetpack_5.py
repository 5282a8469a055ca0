"""What JetPack 5 is told to do works: its Python is refused, its TensorRT builds the prepared graph."""

import re
from pathlib import Path

import pytest
from red_dot import write_red_dot_model

from samkr_edge.cli import run
from samkr_edge.onnx_graph.onnx_file import UINT8
from samkr_edge.onnx_graph.onnx_reading import read_onnx

ROOT = Path(__file__).parents[4]


def test_the_graph_that_jetpack_5_is_advised_to_build_is_one_that_its_parser_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exported graph is not: it transposes image bytes before they are cast."""
    text = (ROOT / "samkr_edge" / "__init__.py").read_text(encoding="utf-8")
    advice = "".join(line.strip().strip('"') for line in text.partition("JetPack 5 has")[2].splitlines())
    command = re.findall(r"`([^`]+)`", advice)[0]
    source, prepared = write_red_dot_model(tmp_path / "MODEL.onnx"), tmp_path / "trt.onnx"
    words = command.replace("NAME", "jetson-agx-xavier").replace("MODEL.onnx", str(source))
    assert run(words.replace("trt.onnx", str(prepared)).split()[1:]) == 0
    on_device = capsys.readouterr().out.splitlines()[-1]
    assert on_device.startswith("trtexec --onnx=trt.onnx ")
    assert " --precisionConstraints=obey " in on_device
    model = read_onnx(prepared)
    readers = {node.op_type for node in model.nodes if model.inputs[0].name in node.inputs}
    assert model.inputs[0].elem_type != UINT8 or readers == {"Cast"}
