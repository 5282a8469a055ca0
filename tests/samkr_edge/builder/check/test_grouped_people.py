"""A built network that is decoded by grouping is judged by people, joints and both maps."""

from __future__ import annotations

import numpy as np
import pytest

from samkr_edge.builder.check.agreement import Agreement, Reference, judge
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import clear_people, refuse_blind
from samkr_edge.builder.check.seen_people import People
from samkr_edge.builder.check.suspects import Suspect
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17

CARD = ModelCard("swahr_tiny", COCO17, (128, 128), stride=2, grouping=GroupingSettings())


@pytest.fixture(scope="module")
def seen() -> Maps:
    """Maps of two images, with two people in each, 17 joints on a circle around each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    angle = np.arange(17) * 2 * np.pi / 17
    heatmap = rng.normal(0, 0.005, (2, 17, 64, 64))
    tag = rng.normal(0, 0.05, (2, 17, 32, 32))
    for image in range(2):
        for person, center in enumerate(((18.3, 30.2), (45.1, 31.4))):
            for k in range(17):
                px, py = center[0] + 11 * np.cos(angle[k]), center[1] + 20 * np.sin(angle[k])
                heatmap[image, k] += (0.6 + 0.02 * k) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
                near = (x[::2, ::2] - px) ** 2 + (y[::2, ::2] - py) ** 2 < 60
                tag[image, k][near] += 4 * person
    return Maps(heatmap.astype(np.float32), tag.astype(np.float32))


def judged(seen: Maps, found: Maps, precision: str, suspects: tuple[Suspect, ...] = ()) -> Agreement:
    unquantized = seen if precision == "int8" else None
    reference = Reference(seen, unquantized, clear_people(seen, CARD), suspects, "a drawing")
    return judge(reference, found, CARD, precision)


def noisy(maps: Maps, share: float) -> Maps:
    rng = np.random.default_rng(1)
    return Maps(*(one + (share * one.std() * rng.normal(size=one.shape)).astype(np.float32) for one in maps))


def test_rounding_moves_joints_by_steps_and_loses_nobody(seen: Maps) -> None:
    for precision, share in (("fp32", 1e-6), ("fp16", 1e-3)):
        agreement = judged(seen, noisy(seen, share), precision)
        assert agreement.holds, agreement.facts()
        assert (agreement.people, agreement.kept) == (4, 4)
    assert agreement.maps == ("heatmap", "tag")
    assert {"heatmap", "tag"} <= agreement.to_dict().keys()
    assert "offset" not in str(agreement.to_dict()) + agreement.sentence() + str(agreement.facts())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_people_whose_tags_are_exchanged_are_lost(seen: Maps, precision: str) -> None:
    tag = seen.association.copy()
    tag[:, ::2] = tag[:, ::2, :, ::-1]
    agreement = judged(seen, Maps(seen.heatmap, tag), precision)
    assert not agreement.holds
    assert agreement.kept < agreement.people


def test_joints_that_are_elsewhere_are_not_the_same_people(seen: Maps) -> None:
    aside = Maps(np.roll(seen.heatmap, 6, axis=2), seen.association)
    assert not judged(seen, aside, "int8").holds


def test_one_wrong_keypoint_of_int8_is_named(seen: Maps) -> None:
    tag = seen.association.copy()
    tag[:, 9] = -tag[:, 9]
    agreement = judged(seen, Maps(seen.heatmap, tag), "int8")
    assert agreement.faults == ("the tag of left_wrist were something else",)


def test_a_known_fault_is_recognised_in_maps_of_two_resolutions(seen: Maps) -> None:
    wrong = noisy(seen, 2e-3)
    change = Maps(*(b - a for a, b in zip(seen, wrong, strict=True)))
    agreement = judged(seen, wrong, "fp32", (Suspect("it were another", change),))
    assert agreement.faults == ("it were another",)


def test_maps_that_do_not_depend_on_the_picture_are_refused(seen: Maps) -> None:
    refuse_blind(seen, CARD, "a drawing")
    blind = Maps(np.repeat(seen.heatmap[:1], 2, axis=0), seen.association)
    with pytest.raises(SamkrError, match="the same heatmap for every picture"):
        refuse_blind(blind, CARD, "a drawing")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_maps_that_are_not_finite_do_not_hold(seen: Maps, precision: str) -> None:
    heatmap = seen.heatmap.copy()
    heatmap[1, 3, 5, 5] = np.nan
    agreement = judged(seen, Maps(heatmap, seen.association), precision)
    assert not agreement.holds
    assert agreement.kept == 0


def test_a_joint_that_was_not_found_does_not_enlarge_a_person() -> None:
    joints = np.array([[[0, 0], [30, 40], [900, 900]]], np.float32)
    clear = np.array([[True, True, False]])
    people = People(np.zeros(1, np.int64), np.zeros((1, 2), np.int64), np.ones(1, np.float32), joints, clear)
    assert people.diagonals.tolist() == [50]
