"""Compare an engine with its network in ONNX Runtime on the same images: maps, joints, AP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samkr_edge.builder.check.agreement import relative_error
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.evaluation.ap import score
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.images import read_image
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import read_passport
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import load_model

# Steps of a plan that only TensorRT needs: ONNX Runtime gets bytes and computes in FP32.
FOR_TENSORRT = ("cast_first", "float_input", "bake_fp16", "wide_sampling")
# People who score less may be lost by the smallest change.
CLEAR_SCORE = 0.1


@dataclass(frozen=True)
class ModelOutputs:
    """A model's results for some images: its outputs by name, and the people in each image, image pixels."""

    outputs: dict[str, np.ndarray]
    poses: list[Poses]

    def errors_of(self, other: ModelOutputs) -> dict[str, float]:
        """Relative L2 error of ``other``, by output."""
        return {name: relative_error(values, other.outputs[name]) for name, values in self.outputs.items()}


def reference_of(source: Path, engine: Path, out: Path) -> Path:
    """Write the graph that an engine's plan made from its source, in the form for ONNX Runtime, to ``out``."""
    steps = set(read_passport(engine).settings["steps"]) - set(FOR_TENSORRT)
    out.write_bytes(prepare(read_onnx(source), steps))
    return out


def look(model: Path, images: Sequence[np.ndarray]) -> ModelOutputs:
    """Run a model on images of any size, uint8 RGB; raises the errors of opening it."""
    with closing(load_model(model)) as opened:
        inputs = opened.new_input(len(images))
        fits = [opened.preprocess(image, out) for image, out in zip(images, inputs, strict=True)]
        outputs = opened.runner.run(inputs)
        poses = [opened.poses(one, fit) for *one, fit in zip(*outputs, fits, strict=True)]
        return ModelOutputs(dict(zip(opened.card.outputs, outputs, strict=True)), poses)


def joint_moves(expected: Sequence[Poses], found: Sequence[Poses]) -> np.ndarray:
    """Distance of each joint of each clear person from the nearest found person's, image pixels; inf if nobody was
    found.
    """
    moves = []
    for before, after in zip(expected, found, strict=True):
        for joints in before.keypoints[before.scores >= CLEAR_SCORE]:
            distances = np.linalg.norm(after.keypoints - joints, axis=2)
            moves.append(
                distances[distances.mean(1).argmin()] if len(distances) else np.full(len(joints), np.inf)
            )
    return np.concatenate(moves) if moves else np.zeros(0)


def ap_of(dataset: KeypointDataset, poses: Sequence[Poses]) -> float:
    """AP in 0..100 of the poses of the data set's images, in order; raises SamkrError SE-D27."""
    found = Predictions(len(dataset.skeleton), dataset.category_id)
    for record, people in zip(dataset.images, poses, strict=True):
        found.add(record.id, people)
    return score(dataset, found).ap


def images_of(dataset: KeypointDataset) -> list[np.ndarray]:
    """All images of the data set, uint8 RGB; raises SamkrError SE-D15."""
    return [read_image(record.path) for record in dataset.images]
