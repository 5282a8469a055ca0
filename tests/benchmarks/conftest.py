"""Results with chosen numbers; and a data set with ONNX models whose accuracy on it is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.judge.verdict import decide
from benchmarks.schema import (
    DatasetFacts,
    LatencyStats,
    Machine,
    ModelResult,
    Results,
    Settings,
    SplitMs,
    Spread,
)
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose.skeleton import COCO17

RowMaker = Callable[..., ModelResult]
RunMaker = Callable[..., Results]


def _row(
    name: str,
    p50: float,
    ap: float | None = None,
    difference: tuple[float, float, float] | None = None,
    speed: tuple[float, float, float] | None = None,
    **changes: Any,
) -> ModelResult:
    precision, _, stage = name.lower().partition(" ")
    fields: dict[str, Any] = {
        "name": f"samkr_tiny {name}",
        "file": f"{stage or precision}.cpu.onnx",
        "sha256": f"{name:0<64}".replace(" ", "0"),
        "size_mb": 4.2 if precision == "fp32" else 1.3,
        "network": "samkr_tiny",
        "kind": "onnx",
        "precision": precision,
        "stage": stage or "fp32",
        "input_size": (128, 128),
        "is_baseline": speed is None,
        "latency": LatencyStats(
            frames=400,
            p50_ms=p50,
            p90_ms=p50 * 1.08,
            p99_ms=p50 * 1.3,
            mean_ms=p50 * 1.02,
            min_ms=p50 * 0.9,
            max_ms=p50 * 1.9,
            cv=0.04,
            throughput_fps=1000 / p50,
        ),
        "split_ms": SplitMs(preprocess=0.2, network=p50 - 1.2, decode=0.9, other=0.1),
        "speed_up": None if speed is None else Spread(value=speed[0], low=speed[1], high=speed[2]),
        "accuracy": None if ap is None else {"ap": ap, "ap50": ap + 20, "ap75": ap + 2, "ar": ap + 5},
        "difference": None
        if difference is None
        else Spread(value=difference[0], low=difference[1], high=difference[2]),
        "stable": True,
    }
    return ModelResult(**{**fields, **changes})


def _run(models: list[ModelResult], images: int | None = 400, **changes: Any) -> Results:
    verdict = decide(models, images=images)
    dataset = None
    if images is not None:
        dataset = DatasetFacts(
            name="people",
            split="val",
            kind="coco",
            skeleton="coco17",
            annotations_sha256="a" * 64,
            images=images,
            images_in_split=images,
            people=900,
            images_digest="b" * 64,
        )
    fields: dict[str, Any] = {
        "time": "2026-11-24T14:00:00+00:00",
        "command": "samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --data people",
        "version": "0.1.0",
        "environment": {"cpu": {"model": "Example CPU", "cores": 2}, "python": "3.11.2"},
        "settings": Settings(
            threads=1,
            rounds=400,
            seconds=20.1,
            warmup_rounds=12,
            warmup_settled=True,
            images=50,
            random_image=False,
        ),
        "machine": Machine(mhz_before=2600, mhz_after=2600, mhz_min=2600, mhz_max=2600),
        "stable": True,
        "dataset": dataset,
        "verdict": verdict.sentence,
        "notes": verdict.notes,
        "recommended": verdict.recommended,
        "models": models,
    }
    return Results(**{**fields, **changes})


@pytest.fixture
def row() -> RowMaker:
    return _row


@pytest.fixture
def run_of() -> RunMaker:
    return _run


@pytest.fixture
def three_models() -> list[ModelResult]:
    return [
        _row("FP32", 24.1, 57.4),
        _row("INT8 PTQ", 12.4, 56.5, (-0.9, -1.6, -0.3), (1.94, 1.91, 1.96)),
        _row("INT8 QAT", 12.6, 57.1, (-0.3, -0.8, 0.2), (1.92, 1.89, 1.94)),
    ]


# A data set that a network of three layers solves: every person is a white dot at the centre and joints at fixed
# places around it. So real ONNX Runtime models of known accuracy can be made in milliseconds.
SIZE = 128
_SHAPE = np.random.default_rng(3).integers(-16, 17, (17, 2)) * np.array([0.8, 1.2])


@pytest.fixture(scope="session")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO directory with 24 images of one or two such people."""
    root = tmp_path_factory.mktemp("dots")
    folder = root / "images" / "val2017"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(24):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        for x in (8, 21)[: 1 + number % 2]:
            cell = np.array([x, int(generator.integers(8, 24))])
            picture[4 * cell[1] : 4 * cell[1] + 4, 4 * cell[0] : 4 * cell[0] + 4] = 255
            joints = 4 * cell + _SHAPE
            (left, top), (right, bottom) = joints.min(axis=0), joints.max(axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": np.column_stack([joints, np.full(17, 2)]).ravel().tolist(),
                    "num_keypoints": 17,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float((right - left) * (bottom - top)),
                }
            )
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
        images.append({"id": number + 1, "file_name": f"{number:03d}.png", "width": SIZE, "height": SIZE})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    (root / "annotations").mkdir()
    (root / "annotations" / "person_keypoints_val2017.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    return root


def _dot_model(
    path: Path, *, error: float = 0.0, card: ModelCard | None = None, any_size: bool = False
) -> Path:
    """A network that finds every person of ``dots`` with all joints ``error`` pixels off, to alternate sides.

    ``any_size``: it takes inputs of any size, as a checkpoint does, whatever its card says.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    card = card or ModelCard("samkr_tiny", COCO17, (SIZE, SIZE))
    keypoints = len(card.skeleton)
    side = error * np.where(np.arange(keypoints) % 2, 1, -1)[:, None]
    offset = -(np.resize(_SHAPE, (keypoints, 2)) + side) / 4
    center = np.zeros((keypoints + 1, 3, 1, 1), np.float32)
    center[-1] = 1 / (3 * 255)
    constants = {
        "center": center,
        "ones": np.append(np.ones(keypoints), 0).astype(np.float32),
        "zeros": np.zeros((2 * keypoints, 3, 1, 1), np.float32),
        "shape": offset.ravel().astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "center", "ones"], ["heatmap"]),
        helper.make_node("Conv", ["cells", "zeros", "shape"], ["offset"]),
    ]
    if card.precision == "int8":  # a card alone does not make a graph INT8
        zeros = constants.pop("zeros")
        constants |= {"zeros8": zeros.astype(np.int8), "one": np.float32(1), "zero": np.int8(0)}
        nodes.insert(0, helper.make_node("DequantizeLinear", ["zeros8", "one", "zero"], ["zeros"]))
    height, width = card.input_size
    sides: list[list[Any]] = [[height, width], [height // 4, width // 4]]
    if any_size:
        sides = [["height", "width"], ["rows", "columns"]]
    graph = helper.make_graph(
        nodes,
        "dots",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *sides[0], 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *sides[1]])
            for name, channels in (("heatmap", keypoints + 1), ("offset", 2 * keypoints))
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, path)
    return path


ModelMaker = Callable[..., Path]


@pytest.fixture
def dot_model() -> ModelMaker:
    return _dot_model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An exact FP32 model and an INT8 one that is 3 pixels off."""
    int8 = ModelCard("samkr_tiny", COCO17, (SIZE, SIZE), precision="int8", stage="ptq")
    return _dot_model(tmp_path / "fp32.onnx"), _dot_model(tmp_path / "ptq.onnx", error=3.0, card=int8)
