"""Settings of decoding by grouping: the official ones by default, and no impossible pair."""

from dataclasses import asdict

import pytest

from samkr_edge.pose.grouping_settings import GROUPING_LIMITS, GroupingSettings


def test_the_defaults_are_those_of_the_official_configurations_and_within_the_limits() -> None:
    settings = asdict(GroupingSettings())
    assert settings == {
        "max_people": 30,
        "candidates": 30,
        "joint_threshold": 0.1,
        "tag_threshold": 1.0,
        "adjust": True,
        "refine": True,
    }
    for name, (least, most) in GROUPING_LIMITS.items():
        assert least <= settings[name] <= most


def test_every_number_has_limits() -> None:
    numbers = {name for name, value in asdict(GroupingSettings()).items() if type(value) is not bool}
    assert numbers == set(GROUPING_LIMITS)


def test_more_candidates_than_people_are_refused() -> None:
    with pytest.raises(ValueError, match="6 candidates per keypoint are more than the 5 people allowed"):
        GroupingSettings(max_people=5, candidates=6)
    assert GroupingSettings(max_people=5, candidates=5).candidates == 5
