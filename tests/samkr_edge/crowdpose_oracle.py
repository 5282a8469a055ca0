"""CrowdPose's evaluation in plain Python, from the description of the protocol; nothing of pycocotools in it.

OKS with area = 0.53 x box area; detections (at most 20 an image, best first) take the unmatched person of highest OKS
at each threshold .50:.05:.95; precision is the envelope at 101 recalls. Easy, medium and hard are the images with a
crowdIndex below 0.2, below 0.8, and the rest.
"""

import math
from typing import Any

SIGMAS = [0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]
THRESHOLDS = [0.5 + 0.05 * step for step in range(10)]

Entry = dict[str, Any]


def oks(person: Entry, pose: Entry) -> float:
    """Similarity of a pose to a labelled person."""
    area = 0.53 * person["bbox"][2] * person["bbox"][3]
    total, labelled = 0.0, 0
    for k, sigma in enumerate(SIGMAS):
        gx, gy, v = person["keypoints"][3 * k : 3 * k + 3]
        if v <= 0:
            continue
        dx, dy = pose["keypoints"][3 * k] - gx, pose["keypoints"][3 * k + 1] - gy
        spread = (2 * sigma / 10) ** 2
        total += math.exp(-(dx * dx + dy * dy) / (2 * spread * (area + 2.220446049250313e-16)))
        labelled += 1
    return total / labelled


def judge(people: list[Entry], poses: list[Entry], threshold: float) -> list[tuple[float, bool]]:
    """(score, is it right) of each pose of an image, best first."""
    free = list(people)
    judged = []
    for pose in sorted(poses, key=lambda p: -p["score"])[:20]:
        best, best_oks = None, min(threshold, 1 - 1e-10)
        for person in free:
            found = oks(person, pose)
            if found >= best_oks:
                best, best_oks = person, found
        if best is not None:
            free.remove(best)
        judged.append((pose["score"], best is not None))
    return judged


def average_precision(judged: list[tuple[float, bool]], people: int) -> tuple[float, float]:
    """(AP, recall) of all judged poses; people is the number to be found."""
    ordered = sorted(judged, key=lambda item: -item[0])
    points, right = [], 0
    for count, (_, good) in enumerate(ordered, 1):
        right += good
        points.append((right / people, right / count))
    total = 0.0
    for step in range(101):
        total += max((precision for recall, precision in points if recall >= step / 100 - 1e-12), default=0.0)
    return total / 101, right / people


def evaluate(annotations: list[Entry], results: list[Entry], images: list[Entry]) -> dict[str, float]:
    """AP, AP50, AP75, AR, easy, medium, hard in 0..100."""

    def over(chosen: list[Entry]) -> dict[float, tuple[float, float]]:
        found = {}
        for threshold in THRESHOLDS:
            judged, count = [], 0
            for image in chosen:
                people = [
                    a
                    for a in annotations
                    if a["image_id"] == image["id"] and any(v > 0 for v in a["keypoints"][2::3])
                ]
                poses = [r for r in results if r["image_id"] == image["id"]]
                judged += judge(people, poses, threshold)
                count += len(people)
            found[round(threshold, 2)] = average_precision(judged, count)
        return found

    def mean(found: dict[float, tuple[float, float]], which: int) -> float:
        return 100 * sum(value[which] for value in found.values()) / len(found)

    everything = over(images)
    levels = {
        "easy": [i for i in images if i["crowdIndex"] < 0.2],
        "medium": [i for i in images if 0.2 <= i["crowdIndex"] < 0.8],
        "hard": [i for i in images if i["crowdIndex"] >= 0.8],
    }
    return {
        "ap": mean(everything, 0),
        "ap50": 100 * everything[0.5][0],
        "ap75": 100 * everything[0.75][0],
        "ar": mean(everything, 1),
        **{name: mean(over(chosen), 0) for name, chosen in levels.items()},
    }
