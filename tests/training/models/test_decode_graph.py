"""Decoding inside the graph finds what decoding on the host does, whole and in parts, with portable operators."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.errors import SamkrError
from samkr_edge.pose.decode import decode
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.proposals import select
from samkr_edge.pose_model import load_model
from training.checkpoint import network_of, untrained_checkpoint
from training.export import export_onnx
from training.models.decode_graph import DecodeGraph

K, H, W = 17, 32, 48
# All of them run on TensorRT 8.5 to 11 (onnx-tensorrt, docs/operators.md of each) and ONNX Runtime.
PORTABLE = {
    "Add", "Cast", "Clip", "Concat", "Constant", "Div", "Equal", "Floor", "Gather", "GatherElements",
    "MaxPool", "Mul", "ReduceSum", "Relu", "Reshape", "Round", "Slice", "Split", "Sub", "TopK", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip


def crowd(seed: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy maps of people at random places, some at the border, many of them seen from several centres."""
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:H, :W]
    heatmap = random.uniform(0, 0.04, (K + 1, H, W))
    offset = random.normal(0, 4, (2 * K, H, W))
    for _ in range(people):
        center = random.uniform((-1, -1), (W, H))
        joints = center + random.uniform(-9, 9, (K, 2))
        for channel, (x, y) in enumerate([*joints, center]):
            bump = random.uniform(0.3, 1) * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 4)
            heatmap[channel] = np.maximum(heatmap[channel], bump)
        near = np.hypot(xs - center[0], ys - center[1]) < 4
        for k, (x, y) in enumerate(joints):
            offset[2 * k][near] = (xs - x)[near]
            offset[2 * k + 1][near] = (ys - y)[near]
    offset += random.normal(0, 0.15, offset.shape)
    return heatmap.astype(np.float32), offset.astype(np.float32)


Session = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


@pytest.fixture(scope="module", params=[0, 2], ids=["plain", "refined"])
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DecodeSettings, Path]:
    settings = DecodeSettings(refine_radius=request.param)
    path = tmp_path_factory.mktemp("decode") / "decode.onnx"
    maps = (torch.rand(2, K + 1, H, W), torch.rand(2, 2 * K, H, W))
    names = ["poses", "scores", "proposals"][: 3 if settings.refine_radius else 2]
    torch.onnx.export(
        DecodeGraph(settings, K, 4, (H, W)),
        maps,
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["heatmap", "offset"],
        output_names=names,
    )
    return settings, path


def session(path: Path) -> Session:
    opened = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda heatmap, offset: opened.run(None, {"heatmap": heatmap, "offset": offset})


def test_graph_and_host_find_the_same_people_in_the_same_maps(graph: tuple[DecodeSettings, Path]) -> None:
    settings, path = graph
    run = session(path)
    found = suppressed = 0
    for seed in range(20):
        both = [crowd(2 * seed + i, people) for i, people in enumerate((3, 25))]
        outputs = run(np.stack([b[0] for b in both]), np.stack([b[1] for b in both]))
        for (heatmap, offset), poses, scores, *proposals in zip(both, *outputs, strict=True):
            expected = decode(heatmap, offset, settings)
            got = select(poses, scores, settings, *proposals)
            assert len(got) == len(expected)
            np.testing.assert_allclose(got.keypoints, expected.keypoints, atol=1e-3)
            np.testing.assert_allclose(got.joint_scores, expected.joint_scores, atol=1e-6)
            np.testing.assert_allclose(got.scores, expected.scores, atol=1e-6)
            found += len(got)
            suppressed += int((scores > settings.center_threshold).sum()) - len(got)
    assert found > 100
    assert suppressed > 10  # pose NMS had something to do


@pytest.mark.parametrize("size", [(256, 256), (160, 256), (320, 304)], ids=["5x5", "5x5 oblong", "7x7"])
def test_large_maps_are_searched_in_the_neighbourhood_that_the_host_takes(size: tuple[int, int]) -> None:
    """Above a mean side of 200 map pixels DEKR looks for peaks in 5x5, above 300 in 7x7."""
    height, width = size
    settings = DecodeSettings(refine_radius=2)
    graph = DecodeGraph(settings, K, 4, size)
    random = np.random.default_rng(height)
    heatmap = random.uniform(0, 0.04, (K + 1, height, width)).astype(np.float32)
    offset = random.normal(0, 6, (2 * K, height, width)).astype(np.float32)
    # Pairs of centres 2 and 3 pixels apart: one, both or none of a pair are peaks, by the neighbourhood.
    for apart in (2, 3):
        for y in range(8, height - 8, 40):
            x = int(random.integers(8, width - 8))
            heatmap[-1, y, x], heatmap[-1, y + apart, x] = random.uniform(0.4, 1.0, 2)
    with torch.no_grad():
        outputs = graph(torch.from_numpy(heatmap)[None], torch.from_numpy(offset)[None])
    poses, scores, proposals = (output[0].numpy() for output in outputs)
    expected = decode(heatmap, offset, settings)
    got = select(poses, scores, settings, proposals)
    assert len(got) == len(expected) > 5
    np.testing.assert_allclose(got.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-6)


def test_a_map_without_people_gives_none(graph: tuple[DecodeSettings, Path]) -> None:
    settings, path = graph
    poses, scores, *proposals = session(path)(
        np.zeros((2, K + 1, H, W), np.float32), np.zeros((2, 2 * K, H, W), np.float32)
    )
    assert len(select(poses[0], scores[0], settings, *(p[0] for p in proposals))) == 0


def test_nan_maps_are_an_error_not_a_pose(graph: tuple[DecodeSettings, Path]) -> None:
    settings, path = graph
    heatmap, offset = (np.stack([maps, maps]) for maps in crowd(0, 3))
    poses, scores, *_ = session(path)(heatmap, offset * np.float32("nan"))
    with pytest.raises(SamkrError) as caught:
        select(poses[0], scores[0], settings)
    assert caught.value.code == "SE-A20"


def test_the_graph_is_made_of_what_every_tensorrt_from_8_5_runs(graph: tuple[DecodeSettings, Path]) -> None:
    model = onnx.load(graph[1])
    assert {node.op_type for node in model.graph.node} <= PORTABLE
    for name in (output.name for output in model.graph.output):
        shape = next(o for o in model.graph.output if o.name == name).type.tensor_type.shape
        assert all(dim.dim_value > 0 for dim in shape.dim), name


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One untrained network, decoding on the host and in the graph."""
    checkpoint = untrained_checkpoint("samkr_tiny")
    settings = DecodeSettings(refine_radius=2, center_threshold=-100.0)
    folder = tmp_path_factory.mktemp("exported")
    for where in ("host", "graph"):
        card = replace(checkpoint.card, decode=settings)
        export_onnx(network_of(checkpoint), card, folder / f"{where}.onnx", size=(64, 96), decode=where)
    return folder / "host.onnx", folder / "graph.onnx"


def test_a_model_that_decodes_itself_gives_the_same_poses_also_when_built(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    built = build_cpu(exported[1], tmp_path / "graph.cpu.onnx")
    assert built.agreement.holds
    host, graph, cpu = (load_model(path) for path in (*exported, built.path))
    assert (host.card.decode_in, graph.card.decode_in, cpu.card.decode_in) == ("host", "graph", "graph")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (50, 70 + 9 * i, 3), dtype=np.uint8) for i in range(3)]
    for image, of_batch in zip(images, graph.batch(images, None), strict=True):
        expected = host(image, None)
        assert len(expected) > 0
        for found in (graph(image, None), cpu(image, None), of_batch):
            np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=2e-2)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_no_maps_leave_a_model_that_decodes_itself(exported: tuple[Path, Path]) -> None:
    outputs = load_model(exported[1]).runner.run(np.zeros((1, 64, 96, 3), np.uint8))
    assert [output.shape for output in outputs] == [(1, 30, 17, 3), (1, 30), (1, 30, 17, 2)]


def test_fp16_beside_decoding_in_the_graph_is_exported_and_checked(tmp_path: Path) -> None:
    checkpoint = untrained_checkpoint("samkr_tiny")
    path = tmp_path / "half.onnx"
    card, _ = export_onnx(
        network_of(checkpoint), checkpoint.card, path, size=(64, 64), half=True, decode="graph"
    )
    assert (card.precision, card.decode_in) == ("fp16", "graph")
    poses = load_model(path).runner.run(np.zeros((1, 64, 64, 3), np.uint8))[0]
    assert poses.dtype == np.float32
    assert np.any(poses[..., :2] != poses[..., :2].astype(np.float16))  # finer than FP16 resolves
