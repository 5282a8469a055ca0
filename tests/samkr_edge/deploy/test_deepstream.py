"""nvinfer is given keys that it reads, and a network whose input it can fill, which computes what ours does."""

from __future__ import annotations

import configparser
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from nvinfer_properties import PROPERTIES
from tiny_model import SIZE, card_in, seeing_everybody, tiny_onnx, with_card

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.decoding import people_in_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.geometry import apply, fit_matrix
from samkr_edge.pose_model import load_model


def written(source: Path, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """nvinfer's properties and the table, as the command writes them."""
    assert run(["bundle", str(source), "--deepstream", str(folder)]) == 0
    parser = configparser.ConfigParser()
    parser.read(folder / f"config_infer_{source.stem}.txt")
    assert parser.sections() == ["property"]
    return dict(parser["property"]), json.loads((folder / f"{source.stem}.json").read_text(encoding="utf-8"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "tiny.onnx")


def test_every_release_reads_every_key(source: Path, tmp_path: Path) -> None:
    properties, _ = written(source, tmp_path / "ds")
    releases = json.loads(PROPERTIES.read_text(encoding="utf-8"))["releases"]
    assert {"6.0", "7.1"} <= releases.keys()
    for release, known in releases.items():
        assert properties.keys() <= set(known), release


def test_the_configuration_says_what_nvinfer_does_with_a_frame(source: Path, tmp_path: Path) -> None:
    properties, table = written(source, tmp_path / "ds")
    assert properties["infer-dims"] == f"3;{SIZE};{SIZE}"
    assert (properties["network-type"], properties["output-tensor-meta"]) == ("100", "1")
    assert (properties["maintain-aspect-ratio"], properties["symmetric-padding"]) == ("1", "1")
    # The network normalises, and takes RGB planes.
    assert (properties["net-scale-factor"], "offsets" in properties) == ("1.0", False)
    assert (properties["model-color-format"], properties["network-input-order"]) == ("0", "0")
    assert table["input"]["shape"] == [1, 3, SIZE, SIZE]
    assert table["engine"] == properties["model-engine-file"] == "tiny.onnx_b1_gpu0_fp32.engine"
    assert (tmp_path / "ds" / properties["onnx-file"]).is_file()


@pytest.mark.parametrize("network", ["float_onnx", "decoding_onnx"])
def test_the_network_with_planes_computes_the_same_to_the_bit(
    network: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(network)
    _, table = written(path, tmp_path)
    out = tmp_path / path.name
    onnx.checker.check_model(onnx.load(out))
    ours, theirs = onnxruntime.InferenceSession(path), onnxruntime.InferenceSession(out)
    image = np.random.default_rng(2).integers(0, 256, ours.get_inputs()[0].shape, dtype=np.uint8)
    planes = np.ascontiguousarray(image.transpose(0, 3, 1, 2)).astype(np.float32)
    (given,) = theirs.get_inputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(float)", table["input"]["shape"])
    for one, other in zip(ours.run(None, {"image": image}), theirs.run(None, {"image": planes}), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_table_makes_people_of_the_outputs(decoding_onnx: Path, tmp_path: Path) -> None:
    path = seeing_everybody(decoding_onnx, tmp_path / "pose.onnx")
    _, table = written(path, tmp_path / "ds")
    card = ModelCard.from_dict(table["card"])
    model = load_model(path)
    image = np.random.default_rng(4).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    fitted = model.new_input()
    fit = model.preprocess(image, fitted[0])
    outputs = model.runner.run(fitted)
    assert [one["name"] for one in table["outputs"]] == list(card.outputs)
    assert [one["shape"] for one in table["outputs"]] == [list(array.shape) for array in outputs]
    found = people_in_image([array[0] for array in outputs], card, fit)
    assert len(found) > 0
    np.testing.assert_array_equal(found.keypoints, model(image, None).keypoints)


def test_a_grouping_networks_maps_go_to_the_probe(tmp_path: Path) -> None:
    _, table = written(tiny_onnx(tmp_path / "swahr.onnx", grouping=True), tmp_path / "ds")
    assert [(one["name"], one["shape"]) for one in table["outputs"]] == [
        ("heatmap", [1, 17, 32, 32]),
        ("tag", [1, 17, 16, 16]),
    ]
    assert "people_in_image" in " ".join(table["people"])


def test_the_tables_formula_leads_from_the_input_to_the_frame(source: Path, tmp_path: Path) -> None:
    _, table = written(source, tmp_path / "ds")
    h, w = 90, 70
    point = apply(fit_matrix((h, w), (SIZE, SIZE)), np.array([[12.0, 34.0]]))[0]
    names: dict[str, Any] = {"W": SIZE, "H": SIZE, "w": w, "h": h, "min": min}
    names["scale"] = eval(table["to_frame"]["scale"].partition(" of ")[0], names)
    names |= {"x_input": float(point[0]), "y_input": float(point[1])}
    assert [eval(table["to_frame"][axis], names) for axis in "xy"] == pytest.approx([12, 34], abs=1e-3)


def test_the_probe_of_the_readme_reads_what_nvinfer_attaches(
    decoding_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = seeing_everybody(decoding_onnx, tmp_path / "pose.onnx")
    written(path, tmp_path / "ds")
    monkeypatch.chdir(tmp_path / "ds")
    text = Path("pose.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    model = load_model(path)
    outputs = model.runner.run(np.full((1, *model.card.input_size, 3), 90, np.uint8))
    monkeypatch.setitem(sys.modules, "pyds", stand_in(dict(zip(model.card.outputs, outputs, strict=True))))
    found: dict[str, Any] = {}
    exec(code.replace('.above(table["sure_person"])', ""), found)
    capsys.readouterr()
    info: Any = ModuleType("info")
    info.get_buffer = object
    assert found["probe"](None, info, None) == 1
    said = capsys.readouterr().out
    assert re.match(r"7 \[[^]]+\] \[\[\[", said)


def stand_in(outputs: dict[str, np.ndarray]) -> Any:
    """pyds with one frame, number 7, and what nvinfer attached to it; names as in its documentation."""

    def thing(**attributes: Any) -> Any:
        made: Any = ModuleType("thing")
        made.__dict__.update(attributes)
        return made

    def listed(data: Any) -> Any:
        return thing(data=data, next=None)

    layers = [thing(layerName=name, buffer=array) for name, array in outputs.items()]
    meta = thing(num_output_layers=len(layers))
    tag = "NVDSINFER_TENSOR_OUTPUT_META"
    user = thing(base_meta=thing(meta_type=tag), user_meta_data=meta)
    frame = thing(frame_num=7, frame_user_meta_list=listed(user))
    same = thing(cast=lambda data: data)
    return thing(
        gst_buffer_get_nvds_batch_meta=lambda _: thing(frame_meta_list=listed(frame)),
        NvDsFrameMeta=same,
        NvDsUserMeta=same,
        NvDsInferTensorMeta=same,
        NvDsMetaType=thing(NVDSINFER_TENSOR_OUTPUT_META=tag),
        get_nvds_LayerInfo=lambda meta, index: layers[index],
        get_ptr=lambda array: array.ctypes.data,
    )


def test_what_trtexec_must_build_is_taken_as_prepared_for_it(int8_onnx: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "trt.onnx"
    device = ["--target", "jetson-orin-nano", "--tensorrt", "jetpack-5.1"]
    assert run(["build", str(int8_onnx), *device, "--prepared", str(prepared)]) == 0
    properties, _ = written(prepared, tmp_path / "ds")
    assert properties["network-mode"] == "1"
    assert "trtexec" in (tmp_path / "ds" / "trt.md").read_text(encoding="utf-8")
    graph = onnx.load(tmp_path / "ds" / "trt.onnx").graph
    assert [one.dim_value for one in graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]


def test_a_cards_text_adds_no_properties(source: Path, tmp_path: Path) -> None:
    card = {**card_in(source), "model": "tiny\ncustom-lib-path=/tmp/evil.so"}
    properties, _ = written(with_card(source, card, source), tmp_path / "ds")
    assert "custom-lib-path" not in properties


# What is refused.


@pytest.mark.parametrize("network", ["int8_onnx", "half_onnx"])
def test_what_nvinfer_would_build_in_other_precisions_is_refused(
    network: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(network)
    repository = tmp_path / "repository"
    words = ["bundle", str(path), "--deepstream", str(tmp_path / "ds"), "--triton", str(repository)]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "SE-U54" in said
    assert "--prepared" in said
    assert not (tmp_path / "ds").exists()
    assert not repository.exists()  # though Triton would run it


def test_a_built_model_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = build_cpu(source, tmp_path / "tiny.cpu.onnx").path
    assert run(["bundle", str(built), "--deepstream", str(tmp_path / "ds")]) == 2
    assert "SE-U54" in capsys.readouterr().err


def test_a_network_for_several_images_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, source)
    assert run(["bundle", str(source), "--deepstream", str(tmp_path / "ds")]) == 2
    assert "--batch 1" in capsys.readouterr().err


def test_a_graph_that_another_tool_begins_otherwise_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(source)
    model.graph.node[1].attribute[0].ints[:] = [0, 3, 2, 1]
    onnx.save(model, source)
    assert run(["bundle", str(source), "--deepstream", str(tmp_path / "ds")]) == 2
    assert "cast and transposed" in capsys.readouterr().err


def test_the_source_is_not_replaced_by_its_own_planes(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = source.read_bytes()
    assert run(["bundle", str(source), "--deepstream", str(source.parent)]) == 2
    assert "SE-U51" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_files_of_other_origin_are_not_replaced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "tiny.json").write_text("[]")
    words = ["bundle", str(source), "--deepstream", str(tmp_path / "ds")]
    assert run(words) == 3
    assert "SE-D05" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ds").iterdir()] == ["tiny.json"]
    assert run([*words, "--force"]) == 0
    assert run(words) == 0
