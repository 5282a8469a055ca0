"""OKS is pycocotools', and the same for everybody who asks for it."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from samkr_edge.pose.oks import (
    box_area,
    crowding_level,
    is_labelled,
    is_labelled_person,
    joint_similarities,
    labelled_joints,
    oks,
    person_area,
)
from samkr_edge.pose.skeleton import COCO17

SIGMAS = COCO17.sigmas


def _people(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints (G, 17, 3) with unlabelled ones among them, their areas, and poses (P, 17, 2) near them."""
    random = np.random.default_rng(0)
    people = np.concatenate(
        [random.uniform(0, 90, (count, 17, 2)), random.integers(0, 3, (count, 17, 1))], axis=2
    )
    areas = random.uniform(500, 5000, count)
    return people, areas, people[..., :2] + random.normal(0, 4, (count, 17, 2))


def test_it_is_pycocotools() -> None:
    people, areas, poses = _people(4)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "bbox": [0, 0, 90, 90],
             "num_keypoints": 17, "keypoints": person.ravel().tolist()}
            for i, (person, area) in enumerate(zip(people, areas, strict=True))
        ],
    }  # fmt: skip
    truth.createIndex()
    results = [
        {"image_id": 1, "category_id": 1, "score": 1 - i / 10,
         "keypoints": np.c_[pose, np.ones(17)].ravel().tolist()}
        for i, pose in enumerate(poses)
    ]  # fmt: skip
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.evaluate()
    found = oks(poses, people[..., :2], areas, SIGMAS, is_labelled(people))
    np.testing.assert_allclose(found, evaluation.ious[1, 1], rtol=1e-14)


def test_a_joint_that_does_not_count_changes_nothing() -> None:
    people, areas, poses = _people(2)
    people[:, 3, 2] = 0
    found = oks(poses, people[..., :2], areas, SIGMAS, is_labelled(people))
    people[:, 3, :2] = 1e6
    assert oks(poses, people[..., :2], areas, SIGMAS, is_labelled(people)).tolist() == found.tolist()


def test_its_terms_are_the_formula() -> None:
    people, areas, poses = _people(2)
    terms = joint_similarities(poses, people[..., :2], areas, SIGMAS)
    distance = np.linalg.norm(poses[1, 5] - people[0, 5, :2])
    assert terms.shape == (2, 2, 17)
    assert terms[1, 0, 5] == pytest.approx(np.exp(-(distance**2) / (2 * areas[0] * (2 * SIGMAS[5]) ** 2)))


def test_who_counts() -> None:
    person = {"keypoints": [1, 1, 0, 2, 2, 1, 3, 3, 2], "iscrowd": 0, "bbox": [0, 0, 10, 20], "area": 77.0}
    assert labelled_joints(person["keypoints"]) == 2  # type: ignore[arg-type]
    assert is_labelled_person(person)
    assert not is_labelled_person({**person, "iscrowd": 1})
    assert not is_labelled_person({**person, "keypoints": [1, 1, 0]})
    assert person_area(person, "coco") == 77.0
    assert person_area(person, "crowdpose") == box_area(10, 20) == 10 * 20 * 0.53


@pytest.mark.parametrize(
    ("index", "level"),
    [(None, "easy"), (0.0, "easy"), (0.1999, "easy"), (0.2, "medium"), (0.7999, "medium"), (0.8, "hard")],
)  # fmt: skip
def test_levels_of_crowding(index: float | None, level: str) -> None:
    assert crowding_level(index) == level
