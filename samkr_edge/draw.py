"""Overlays: people drawn into a copy of the image."""

from __future__ import annotations

import cv2
import numpy as np

from samkr_edge.poses import Poses
from samkr_edge.skeleton import Skeleton

# One colour a person, RGB; distinct in brightness too, so that a gray print can be read.
PALETTE = (
    (255, 176, 0), (0, 170, 255), (254, 97, 0), (120, 94, 240), (0, 200, 140), (220, 38, 127),
    (250, 240, 110), (90, 220, 255), (180, 120, 60), (160, 230, 80),
)  # fmt: skip


def draw_poses(
    image: np.ndarray, poses: Poses, skeleton: Skeleton, joint_threshold: float = 0.05
) -> np.ndarray:
    """A copy of a uint8 RGB image (H, W, 3) with bones, joints and scores.

    Bones whose two joints score below ``joint_threshold`` are left out. Line widths follow the image's size.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(image.shape[:2]) / 220))
    # The best person is drawn last, on top.
    for index in range(len(poses) - 1, -1, -1):
        colour = PALETTE[index % len(PALETTE)]
        points = [(round(float(x)), round(float(y))) for x, y in poses.keypoints[index]]
        sure = poses.joint_scores[index] >= joint_threshold
        for a, b in skeleton.edges:
            if sure[a] and sure[b]:
                cv2.line(canvas, points[a], points[b], colour, width, cv2.LINE_AA)
        for point, shown in zip(points, sure, strict=True):
            if shown:
                cv2.circle(canvas, point, width + 1, (255, 255, 255), -1, cv2.LINE_AA)
                cv2.circle(canvas, point, width, colour, -1, cv2.LINE_AA)
        top = poses.keypoints[index][np.argmin(poses.keypoints[index][:, 1])]
        place = (round(float(top[0])) + 2 * width, max(12, round(float(top[1])) - 2 * width))
        scale = max(0.35, width * 0.22)
        text = f"{poses.scores[index]:.2f}"
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), width + 2, cv2.LINE_AA)
        cv2.putText(
            canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, max(1, width // 2), cv2.LINE_AA
        )
    return canvas
