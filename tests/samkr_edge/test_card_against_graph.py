"""A card that says another thing than its model, or what no card can say, is refused when the model is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_tensorrt import FakeTensorRT
from passport_edits import edit
from tensorrt_graphs import write_residual
from tiny_model import tiny_onnx

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.model_card_check import check_first_outputs
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import read_passport
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import load_model
from targets.profile import load_target

Edit = Callable[[dict[str, Any]], object]


def put(*where: str | int, value: Any) -> Edit:
    def change(card: dict[str, Any]) -> None:
        part: Any = card
        for key in where[:-1]:
            part = part[key]
        part[where[-1]] = value

    return change


def drop_a_keypoint(card: dict[str, Any]) -> None:
    skeleton = card["skeleton"]
    skeleton["keypoints"].pop()
    skeleton["sigmas"].pop()
    skeleton["flip_pairs"], skeleton["edges"] = [], []


OTHER: dict[str, Edit] = {
    "size": put("input_size", value=[96, 64]),
    "smaller": put("input_size", value=[32, 32]),
    "stride": put("stride", value=8),
    "stride that leaves pixels over": put("stride", value=5),
    "stride beyond the input": put("stride", value=200),
    "keypoints": drop_a_keypoint,
    "decoded": put("decode_in", value="graph"),
}
IMPOSSIBLE: dict[str, Edit] = {
    "place": put("decode_in", value="elsewhere"),
    "precision": put("precision", value="int3"),
    "stage": put("stage", value=None),
    "size": put("input_size", value=[64]),
    "size-text": put("input_size", value=["64", 64]),
    "size-zero": put("input_size", value=[0, 64]),
    "size-none": put("input_size", value=None),
    "stride-zero": put("stride", value=0),
    "stride-half": put("stride", value=4.5),
    "model": put("model", value=["a"]),
    "keypoints": put("skeleton", "keypoints", value=None),
    "pairs": put("skeleton", "edges", value=[[0]]),
    "sigmas": put("skeleton", "sigmas", value=["much"]),
    "skeleton": put("skeleton", value=[]),
    "decode": put("decode", value=3),
    "decode-name": put("decode", "nms", value=3),
    "decode-text": put("decode", "max_people", value="30"),
    "decode-half": put("decode", "max_people", value=2.5),
    "decode-nan": put("decode", "center_threshold", value=float("nan")),
    "nobody": put("decode", "max_people", value=0),
    "threshold that nobody reaches": put("decode", "center_threshold", value=2),
    "threshold-infinite": put("decode", "center_threshold", value=float("-inf")),
    "everybody near": put("decode", "nms_distance", value=1.5),
    "joints-negative": put("decode", "nms_joints", value=-1),
    "window larger than the map": put("decode", "refine_radius", value=17),
    "more than all of it": put("decode", "refine_blend", value=1e12),
    "blend-negative": put("decode", "refine_blend", value=-0.1),
    "beyond floats": put("decode", "max_people", value=10**400),
    "provenance": put("provenance", value="mine"),
    "schema": put("schema_version", value=[1]),
}


def with_card(path: Path, change: Edit) -> Path:
    model = onnx.load(tiny_onnx(path))
    card = json.loads(model.metadata_props[0].value)
    change(card)
    model.metadata_props[0].value = json.dumps(card)
    onnx.save(model, path)
    return path


def refusals(path: Path) -> set[str]:
    """What opening, building, planning and bundling refuse it with."""
    codes = set()
    for use in (
        load_model,
        lambda one: build_cpu(one, one.with_name("x.cpu.onnx")),
        lambda one: card_of(read_onnx(one), one),
        lambda one: write_bundle(one, one.with_name("x.samkr")),
    ):
        with pytest.raises(SamkrError) as caught:
            use(path)
        codes.add(caught.value.code)
        assert caught.value.fix
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return codes


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_a_card_of_another_network(tmp_path: Path, change: Edit) -> None:
    assert refusals(with_card(tmp_path / "m.onnx", change)) == {"SE-A27"}


@pytest.mark.parametrize(("stride", "code"), [(200, "SE-A27"), (5, "SE-A27"), (64, "SE-A21")])
def test_a_wrong_stride_is_named_and_not_the_window_that_it_makes_too_large(
    tmp_path: Path, stride: int, code: str
) -> None:
    def change(card: dict[str, Any]) -> None:
        card["stride"], card["decode"]["refine_radius"] = stride, 13

    with pytest.raises(SamkrError) as caught:
        load_model(with_card(tmp_path / "m.onnx", change))
    assert caught.value.code == code
    assert f"stride {stride}" in " ".join(str(caught.value).replace("the card says ", "").split())


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_card_that_cannot_be(tmp_path: Path, change: Edit) -> None:
    assert refusals(with_card(tmp_path / "m.onnx", change)) == {"SE-A21"}


def test_a_card_without_end(tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx(tmp_path / "m.onnx"))
    model.metadata_props[0].value = "[" * 100_000
    onnx.save(model, tmp_path / "m.onnx")
    assert refusals(tmp_path / "m.onnx") == {"SE-A21"}


@pytest.mark.parametrize("kind", ["input", "output", "channels", "one dimension less"])
def test_a_graph_that_was_changed_beside_its_card(tmp_path: Path, kind: str) -> None:
    model = onnx.load(tiny_onnx(tmp_path / "m.onnx"))
    graph = model.graph
    if kind == "input":
        graph.node[0].input[0] = graph.input[0].name = "picture"
    elif kind == "output":
        graph.node[-1].output[0] = graph.output[1].name = "offsets"
    elif kind == "channels":
        graph.node[-1].output[0], graph.node[-2].output[0] = "heatmap", "offset"
        graph.output[0].name, graph.output[1].name = "offset", "heatmap"
    else:
        del graph.output[0].type.tensor_type.shape.dim[-1]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(SamkrError) as caught:
        load_model(tmp_path / "m.onnx")
    assert caught.value.code == "SE-A27"


def test_sizes_that_a_file_leaves_open_are_no_difference(tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx(tmp_path / "m.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    model.graph.output[1].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx").card.input_size == (64, 64)


@pytest.mark.parametrize("open_sizes", [True, False], ids=["no sizes", "no shape"])
def test_what_a_file_leaves_open_is_compared_when_it_has_run(tmp_path: Path, open_sizes: bool) -> None:
    path = with_card(tmp_path / "m.onnx", put("stride", value=8))
    model = onnx.load(path)
    for value in model.graph.output:
        sizes = value.type.tensor_type.shape.dim if open_sizes else []
        for number, size in enumerate(sizes):
            size.dim_param = f"{value.name}_{number}"
        if not sizes:
            value.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    opened = load_model(path)
    with pytest.raises(SamkrError) as caught:
        opened(np.zeros((64, 64, 3), np.uint8))
    assert caught.value.code == "SE-A27"
    assert caught.value.facts["heatmap"] == "the card says ?x18x8x8, the network 1x18x16x16"


def test_maps_inside_a_graph_are_compared_when_it_is_built(tmp_path: Path) -> None:
    """Its outputs are candidates, which show no stride; a build looks at the maps that they come from."""
    card = ModelCard("m", COCO17, (64, 64), stride=8, decode_in="graph")
    inside = {"poses": (1, 30, 17, 3), "heatmap": (1, 18, 16, 16)}
    with pytest.raises(SamkrError) as caught:
        check_first_outputs("m.onnx", card, inside, "again")
    assert caught.value.facts == {"heatmap": "the card says ?x18x8x8, the network 1x18x16x16"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("stride", value=4), "SE-A27"),
        (put("stride", value=7), "SE-A27"),
        (put("input_size", value=[16, 8]), "SE-A27"),
        (put("decode_in", value="graph"), "SE-A27"),
        (put("decode_in", value="elsewhere"), "SE-A52"),
        (put("stride", value=None), "SE-A52"),
    ],
)
def test_the_card_in_an_engines_passport(
    install: Callable[[str], FakeTensorRT], tmp_path: Path, change: Edit, code: str
) -> None:
    trt, source = install("10.3.0"), write_residual(tmp_path / "model.onnx")
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    engine = builder.build_tensorrt(source, tmp_path / "model.engine", (plan,)).path
    card = read_passport(engine).card
    change(card)
    edit(engine, card=card)
    with pytest.raises(SamkrError) as caught:
        load_model(engine)
    assert caught.value.code == code


def test_a_passport_without_end(tmp_path: Path) -> None:
    built = build_cpu(tiny_onnx(tmp_path / "m.onnx"), tmp_path / "m.cpu.onnx").path
    built.with_name("m.cpu.onnx.json").write_text("[" * 100_000)
    with pytest.raises(SamkrError) as caught:
        load_model(built)
    assert caught.value.code == "SE-A52"


def test_a_card_survives_its_own_text(tmp_path: Path) -> None:
    card = ModelCard.from_json(onnx.load(tiny_onnx(tmp_path / "m.onnx")).metadata_props[0].value)
    assert ModelCard.from_json(card.to_json()) == card
    assert METADATA_KEY == "samkr_edge"


def test_a_card_may_hold_the_limits_of_its_decoder() -> None:
    most = DecodeSettings(10**9, 1, 1, 10**9, 16, 1)
    least = DecodeSettings(1, -1e9, 0, 0, 0, 0)
    for decode in (most, least):
        card = ModelCard("m", COCO17, (64, 64), decode=decode)
        assert ModelCard.from_json(card.to_json()) == card


def test_inspect_names_the_card_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(with_card(tmp_path / "m.onnx", OTHER["stride"]))]) == 4
    assert "heatmap    the card says ?x18x8x8, the network 1x18x16x16" in capsys.readouterr().err
